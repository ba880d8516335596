/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * try_send: shows the calls that need neither a second thread nor an event loop.
 *
 *   snapsend_try_send()  sends on the calling thread if that needs no waiting, else queues the rest
 *   snapsend_send()      waits: for servers with a process or thread for each connection
 *   snapsend_sendfile()  sendfile(2) with the promise: for programs that change nothing else
 *
 * A child process reads everything and counts.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sys/wait.h>

#include "loopback.h"
#include "snapsend.h"

#define SMALL (16u << 10)
#define LARGE (64u << 20)

static int wrong;

static void check(int holds, const char *what)
{
	if (!holds) {
		printf("WRONG: %s\n", what);
		wrong = 1;
	}
}

static void report(const char *call, const struct snapsend_completion *done)
{
	printf("%-36s status %d, wire_bytes %" PRIu64 "\n", call, done->status, done->wire_bytes);
	check(done->status == 0, strerror(-done->status));
}

/* Forks a child that reads the stream to its end and writes its length to *count_fd. */
static pid_t start_peer(int *socket_fd, int *count_fd)
{
	static char buffer[1 << 16];
	uint64_t count = 0;
	int ends[2], peer;
	pid_t child;
	size_t n;

	if (pipe(ends) < 0)
		die("pipe", errno);
	child = loopback_child(socket_fd, &peer);
	if (child > 0) {
		close(ends[1]);
		*count_fd = ends[0];
		return child;
	}
	close(ends[0]);
	while ((n = read_all(peer, buffer, sizeof(buffer))) > 0)
		count += n;
	_exit(write(ends[1], &count, sizeof(count)) == (ssize_t)sizeof(count) ? 0 : 1);
}

/* 1: the operation is done; 0: its completion follows through snapsend_poll(). */
static uint64_t try_send(snapsend_t *ctx, const struct snapsend_request *request)
{
	struct snapsend_completion done;
	int r = snapsend_try_send(ctx, request, sizeof(*request), &done);

	if (r < 0)
		die("snapsend_try_send", r);
	if (r == 1) {
		report("snapsend_try_send, done at once:", &done);
		return done.wire_bytes;
	}
	printf("snapsend_try_send: queued as %" PRIu64 "\n", done.id);
	do {
		r = snapsend_poll(ctx, &done, 1, 30000);
	} while (r == -EINTR);
	if (r <= 0)
		die("snapsend_poll", r < 0 ? r : ETIMEDOUT);
	report("  its completion from snapsend_poll:", &done);
	return done.wire_bytes;
}

static uint64_t send_and_wait(snapsend_t *ctx, const struct snapsend_request *request)
{
	struct snapsend_completion done;
	int r = snapsend_send(ctx, request, sizeof(*request), &done);

	if (r < 0)
		die("snapsend_send", r);
	report("snapsend_send:", &done);
	return done.wire_bytes;
}

/* The same loop as around sendfile(2). */
static uint64_t send_as_sendfile(int socket_fd, int file_fd, off_t end)
{
	off_t offset = 0;

	while (offset < end) {
		ssize_t n = snapsend_sendfile(socket_fd, file_fd, &offset, (size_t)(end - offset));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die("snapsend_sendfile", errno);
		if (n == 0)
			break;
	}
	printf("%-36s %lld bytes\n", "snapsend_sendfile:", (long long)offset);
	return (uint64_t)offset;
}

int main(void)
{
	struct iovec greeting = { .iov_base = "here it comes\n", .iov_len = 14 };
	struct snapsend_request request = { .header = &greeting, .header_count = 1 };
	uint64_t sent = 0, count = 0;
	int count_fd, r, status;
	snapsend_t *ctx;
	pid_t child;

	child = start_peer(&request.socket_fd, &count_fd);
	request.file_fd = scratch_file();
	if (ftruncate(request.file_fd, LARGE) < 0)
		die("ftruncate", errno);
	r = snapsend_create(NULL, 0, &ctx);
	if (r < 0)
		die("snapsend_create", r);

	request.length = SMALL;
	sent += try_send(ctx, &request);
	request.length = LARGE; /* more than the socket takes at once */
	sent += try_send(ctx, &request);
	sent += send_and_wait(ctx, &request);
	sent += send_as_sendfile(request.socket_fd, request.file_fd, LARGE);

	snapsend_destroy(ctx);
	close(request.socket_fd);
	close(request.file_fd);
	check(read_all(count_fd, &count, sizeof(count)) == sizeof(count), "the peer failed");
	close(count_fd);
	if (waitpid(child, &status, 0) != child || status != 0)
		die("the peer", ECHILD);
	printf("the peer read %" PRIu64 " bytes, %" PRIu64 " were sent\n", count, sent);
	check(count == sent, "the counts differ");
	return wrong;
}
