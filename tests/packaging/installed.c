/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Compiles as C11 and as C++17 with nothing but the installed header, and uses each function of it
 * on a real file and socket.  Prints the version, the engine and what came of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <snapsend.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NEED(condition)                                                                 \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			exit(1);                                                        \
		}                                                                       \
	} while (0)

#define LENGTH 100000

static char data[LENGTH], got[LENGTH];

static void receive(int fd, size_t length)
{
	size_t done = 0;
	while (done < length) {
		ssize_t n = read(fd, got + done, length - done);
		NEED(n > 0);
		done += (size_t)n;
	}
	NEED(memcmp(data, got, length) == 0);
}

int main(void)
{
	struct snapsend_request request;
	struct snapsend_completion done;
	struct snapsend_info info;
	struct snapsend_stats stats;
	snapsend_t *ctx;
	uint64_t id, ids[2];
	int sv[2], file, i;
	off_t offset = 0;
	char name[] = "/tmp/snapsend-installed-XXXXXX";

	for (i = 0; i < LENGTH; i++)
		data[i] = (char)(i * 7 + i / 251);
	file = mkstemp(name);
	NEED(file >= 0 && unlink(name) == 0 && write(file, data, LENGTH) == LENGTH);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);

	NEED(snapsend_version() == SNAPSEND_VERSION);
	NEED(snapsend_create(NULL, 0, &ctx) == 0);
	NEED(snapsend_event_fd(ctx) >= 0);
	memset(&request, 0, sizeof request);
	request.socket_fd = sv[0];
	request.file_fd = file;
	request.length = LENGTH;
	request.user_data = 42;
	NEED(snapsend_submit(ctx, &request, sizeof request, &id) == 0);
	receive(sv[1], LENGTH);
	NEED(snapsend_poll(ctx, &done, 1, 10000) == 1);
	NEED(done.id == id && done.user_data == 42 && done.status == 0 && done.wire_bytes == LENGTH);
	request.length = 1000;
	NEED(snapsend_submit_many(ctx, &request, sizeof request, 1, ids) == 1);
	receive(sv[1], 1000);
	NEED(snapsend_poll(ctx, &done, 1, 10000) == 1 && done.id == ids[0] && done.status == 0);
	NEED(snapsend_send(ctx, &request, sizeof request, &done) == 0 && done.status == 0);
	receive(sv[1], 1000);
	i = snapsend_try_send(ctx, &request, sizeof request, &done);
	NEED(i == 1 || (i == 0 && snapsend_poll(ctx, &done, 1, 10000) == 1));
	receive(sv[1], 1000);
	NEED(snapsend_cancel(ctx, done.id) == -ENOENT);
	NEED(snapsend_cancel_socket(ctx, sv[0]) == 0);
	NEED(snapsend_sendfile(sv[0], file, &offset, 1000) == 1000 && offset == 1000);
	receive(sv[1], 1000);
	NEED(snapsend_get_info(ctx, &info, sizeof info) == 0 && info.version == SNAPSEND_VERSION);
	NEED(snapsend_get_stats(ctx, &stats, sizeof stats) == 0 && stats.done_ok == 4);
	NEED(snapsend_destroy(ctx) == 0);
	printf("%s %s\n", snapsend_version_string(), info.engine == SNAPSEND_ENGINE_URING ? "uring" : "portable");
	return 0;
}
