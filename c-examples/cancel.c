/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * cancel: ends operations whose peer has stopped reading, in two ways.  One operation has a
 * timeout.  Another is cancelled while a third waits behind it on the same socket.  wire_bytes is
 * the exact number of bytes of each in the stream; the peer then reads everything and counts.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <time.h>

#include "loopback.h"
#include "snapsend.h"

#define FILE_BYTES (64u << 20) /* far more than the socket buffers of a loopback connection hold */

static int wrong;

static void check(int holds, const char *what)
{
	if (!holds) {
		printf("  WRONG: %s\n", what);
		wrong = 1;
	}
}

static uint64_t submit(snapsend_t *ctx, int socket_fd, int file_fd, uint32_t timeout_ms)
{
	struct snapsend_request request = {
		.socket_fd = socket_fd,
		.file_fd = file_fd,
		.length = FILE_BYTES,
		.timeout_ms = timeout_ms,
	};
	uint64_t id;
	int r = snapsend_submit(ctx, &request, sizeof(request), &id);

	if (r < 0)
		die("snapsend_submit", r);
	return id;
}

/* Takes the next completion, which must arrive within ten seconds. */
static struct snapsend_completion next(snapsend_t *ctx)
{
	struct snapsend_completion done;
	int r;

	do {
		r = snapsend_poll(ctx, &done, 1, 10000);
	} while (r == -EINTR);
	if (r <= 0)
		die("snapsend_poll", r < 0 ? r : ETIMEDOUT);
	return done;
}

static void report(const char *what, const struct snapsend_completion *done)
{
	printf("  %-20s status %d (%s), wire_bytes %" PRIu64 "\n", what, done->status, strerror(-done->status),
	       done->wire_bytes);
}

/* Ends the stream; the peer then counts its bytes. */
static void count_at_peer(int sender, int peer, uint64_t wire_bytes)
{
	static char buffer[1 << 16];
	uint64_t count = 0;
	size_t n;

	close(sender);
	while ((n = read_all(peer, buffer, sizeof(buffer))) > 0)
		count += n;
	close(peer);
	printf("  %-20s read %" PRIu64 " bytes\n", "the peer", count);
	check(count == wire_bytes, "the peer's count differs from wire_bytes");
}

static void by_timeout(snapsend_t *ctx, int file_fd)
{
	struct snapsend_completion done;
	int sender, peer;

	printf("timeout_ms = 300\n");
	loopback_pair(&sender, &peer, 0);
	submit(ctx, sender, file_fd, 300);
	done = next(ctx);
	report("the operation", &done);
	check(done.status == -ETIMEDOUT, "not ETIMEDOUT");
	count_at_peer(sender, peer, done.wire_bytes);
}

static void by_cancel(snapsend_t *ctx, int file_fd)
{
	const struct timespec pause = { .tv_nsec = 300000000 };
	struct snapsend_completion first, second;
	int sender, peer, r;
	uint64_t id;

	printf("snapsend_cancel\n");
	loopback_pair(&sender, &peer, 0);
	id = submit(ctx, sender, file_fd, 0);
	submit(ctx, sender, file_fd, 0);
	nanosleep(&pause, NULL); /* until the buffers are full and the operation waits for the peer */
	r = snapsend_cancel(ctx, id);
	if (r < 0)
		die("snapsend_cancel", r);
	first = next(ctx);
	second = next(ctx);
	check(first.id == id, "the completions came in another order");
	report("the operation", &first);
	report("the next operation", &second);
	check(first.status == -ECANCELED, "not ECANCELED");
	/* The first operation failed part-way: nothing may follow it. */
	check(second.status == -ECANCELED && second.wire_bytes == 0,
	      "the next operation did not end without a byte sent");
	count_at_peer(sender, peer, first.wire_bytes);
	r = snapsend_cancel(ctx, id);
	printf("  cancelling it again gives %s\n", r == -ENOENT ? "-ENOENT" : "SOMETHING ELSE");
	check(r == -ENOENT, "an operation that has ended could be cancelled");
}

int main(void)
{
	snapsend_t *ctx;
	int file_fd = scratch_file(), r;

	if (ftruncate(file_fd, FILE_BYTES) < 0)
		die("ftruncate", errno);
	r = snapsend_create(NULL, 0, &ctx);
	if (r < 0)
		die("snapsend_create", r);
	by_timeout(ctx, file_fd);
	by_cancel(ctx, file_fd);
	snapsend_destroy(ctx);
	close(file_fd);
	return wrong;
}
