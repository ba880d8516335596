/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The promise: the file is overwritten, or truncated and overwritten, the moment the call has returned, with a
 * peer that has not read yet. Prints for each way how many of the bytes reported as sent arrived changed, and
 * ends with "changed N": with the shim N is 0, without it (the control) it is not.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

static char data[1 << 20], other[1 << 20], got[1 << 20];

static void pair(int kind, int sv[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof a;
	if (kind == 1) {
		socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
	} else if (kind == 2) {
		int p[2];
		if (pipe(p))
			exit(2);
		sv[0] = p[1], sv[1] = p[0];
	} else {
		int l = socket(AF_INET, SOCK_STREAM, 0);
		bind(l, (void *)&a, sizeof a), listen(l, 1), getsockname(l, (void *)&a, &length);
		sv[0] = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(sv[0], (void *)&a, sizeof a))
			exit(2);
		sv[1] = accept(l, NULL, NULL);
		close(l);
	}
}

int main(void)
{
	static const char *kinds[] = { "tcp", "unix", "pipe", "splice into a pipe" };
	static const size_t sizes[] = { 1, 100, 4096, 5000, 65536, 300000, 1 << 20 };
	char name[] = "/tmp/snapsend-promise-XXXXXX";
	int file = mkstemp(name);
	long all = 0;
	alarm(60);
	unlink(name);
	memset(data, 'a', sizeof data);
	memset(other, 'b', sizeof other);
	for (int kind = 0; kind < 4; kind++)
		for (int cut = 0; cut < 2; cut++) {
			long changed = 0, sent = 0;
			for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
				int sv[2];
				off_t at = 17;
				pair(kind < 3 ? kind : 2, sv);
				fcntl(sv[0], F_SETFL, O_NONBLOCK);
				if (pwrite(file, data, sizeof data, 0) != sizeof data)
					return 2;
				ssize_t n = kind == 3 ? splice(file, &at, sv[0], NULL, sizes[i], 0)
						      : sendfile(sv[0], file, &at, sizes[i]);
				if (cut && ftruncate(file, 2000)) /* what is left of a page becomes zeros at once */
					return 2;
				if (pwrite(file, other, sizeof other, 0) != sizeof other)
					return 2;
				if (n <= 0) {
					printf("nothing sent\n");
					return 2;
				}
				sent += n;
				for (ssize_t taken = 0; taken < n;) {
					struct pollfd p = { .fd = sv[1], .events = POLLIN };
					if (poll(&p, 1, 3000) <= 0)
						return 2;
					ssize_t r = read(sv[1], got, sizeof got);
					for (ssize_t k = 0; k < r; k++)
						changed += got[k] != 'a';
					taken += r;
				}
				close(sv[0]), close(sv[1]);
			}
			printf("%s, %s: %ld of %ld bytes changed\n", kinds[kind],
			       cut ? "truncated and overwritten" : "overwritten", changed, sent);
			all += changed;
		}
	printf("changed %ld\n", all);
	return 0;
}
