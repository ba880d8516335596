/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The ways that sendfile and splice go under the shim, for a list of the system calls that it makes: between writing
 * "begin" and "end" to standard error the program makes none of its own but write(2).
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define LENGTH (4 << 20)

static int must(long v)
{
	if (v < 0)
		_exit(2);
	return (int)v;
}

static void on_alarm(int s)
{
	(void)s;
}

int main(void)
{
	static char block[LENGTH];
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof a;
	char name[] = "/var/tmp/snapsend-calls-XXXXXX", fifo_name[] = "/tmp/snapsend-calls-XXXXXX";
	int file = must(mkstemp(name)), p[2], q[2], small[2], blocking[2], wide[2];
	off_t *at = calloc(1000, sizeof *at); /* not on the stack */
	unlink(name);
	must(write(file, block, LENGTH));
	int listener = must(socket(AF_INET, SOCK_STREAM, 0)), tcp = must(socket(AF_INET, SOCK_STREAM, 0));
	must(bind(listener, (void *)&a, sizeof a));
	must(listen(listener, 1));
	must(getsockname(listener, (void *)&a, &length));
	must(connect(tcp, (void *)&a, sizeof a));
	must(fcntl(tcp, F_SETFL, O_NONBLOCK));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, blocking));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, small));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, wide));
	struct timeval limit = { .tv_usec = 20000 };
	must(setsockopt(blocking[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
	must(pipe(p));
	must(pipe(q));
	must(mkdtemp(fifo_name) == NULL ? -1 : rmdir(fifo_name));
	must(mkfifo(fifo_name, 0600));
	int fifo_in = must(open(fifo_name, O_RDONLY | O_NONBLOCK)), fifo = must(open(fifo_name, O_WRONLY));
	unlink(fifo_name);
	fsync(file);
	posix_fadvise(file, 0, LENGTH, POSIX_FADV_DONTNEED);
	signal(SIGALRM, on_alarm);
	if (write(2, "begin\n", 6) < 0)
		return 2;
	sendfile(small[0], file, at, 4096); /* short */
	sendfile(small[0], file, &at[500], 65536);
	sendfile(tcp, file, &at[1], LENGTH); /* cold, then long and warm */
	at[1] = 0;
	sendfile(tcp, file, &at[1], LENGTH);
	sendfile(tcp, file, NULL, 200000);
	sendfile(wide[0], file, (at[2] = LENGTH - 100000, &at[2]), LENGTH); /* beyond the end */
	sendfile(blocking[0], file, &at[3], LENGTH);                        /* waits, in part, then without */
	sendfile(blocking[0], file, &at[3], LENGTH);
	splice(file, &at[4], p[1], NULL, LENGTH, 0);
	splice(file, &at[4], p[1], NULL, LENGTH, SPLICE_F_NONBLOCK);
	splice(file, &at[4], fifo, NULL, 5000, 0);
	splice(file, &at[4], fifo, NULL, 5000, SPLICE_F_NONBLOCK);
	sendfile(q[1], file, NULL, 4096);
	if (write(2, "end\n", 4) < 0)
		return 2;
	close(fifo_in);
	return 0;
}
