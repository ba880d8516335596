/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * tour: submits several operations with one call, waits for completions with poll(2) on the event
 * descriptor, uses the flags of a request, and prints the configuration and counters of the context.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>

#include "loopback.h"
#include "snapsend.h"

#define FILE_BYTES 10000u
#define COUNT      5u

static int wrong;

static void check(bool holds, const char *what)
{
	if (!holds) {
		printf("  WRONG: %s\n", what);
		wrong = 1;
	}
}

static void print_info(snapsend_t *ctx)
{
	static const char *const engines[] = { "auto", "io_uring", "portable" };
	struct snapsend_info info;
	int r = snapsend_get_info(ctx, &info, sizeof(info));

	if (r < 0)
		die("snapsend_get_info", r);
	printf("snapsend %s, engine %s, at most %" PRIu32 " operations, %" PRIu64 " KiB of pool\n",
	       snapsend_version_string(), info.engine < 3 ? engines[info.engine] : "?", info.max_ops,
	       info.pool_bytes >> 10);
	if (info.engine_errno < 0)
		printf("  no io_uring: %s\n", strerror(-info.engine_errno));
	/* The program may have been compiled with one version and have loaded another. */
	check(info.version == snapsend_version(), "two versions of the library at once");
	if (info.version >> 16 != SNAPSEND_VERSION_MAJOR)
		printf("  compiled against version %d\n", SNAPSEND_VERSION_MAJOR);
}

static void submit(snapsend_t *ctx, int socket_fd, int file_fd)
{
	static struct iovec header = { .iov_base = "<", .iov_len = 1 };
	static struct iovec trailer = { .iov_base = ">", .iov_len = 1 };
	struct snapsend_request requests[COUNT] = {
		/* A range between a header and a trailer.  More data follows (MSG_MORE). */
		{ .offset = 100,
		  .length = 50,
		  .header = &header,
		  .header_count = 1,
		  .trailer = &trailer,
		  .trailer_count = 1,
		  .flags = SNAPSEND_MORE },
		/* Everything from an offset on; SNAPSHOT also reports when the file may change. */
		{ .offset = 9000, .length = SNAPSEND_TO_EOF, .flags = SNAPSEND_NOTIFY_SNAPSHOT },
		/* The file is too short: zeros fill up the requested length. */
		{ .offset = 9990, .length = 20, .flags = SNAPSEND_ZERO_PAD },
		/* The file is too short: nothing is sent. */
		{ .offset = 9990, .length = 20, .flags = SNAPSEND_EXACT },
		/* A header without a file. */
		{ .file_fd = -1, .header = &header, .header_count = 1 },
	};
	uint64_t ids[COUNT];
	int r;

	for (uint32_t i = 0; i < COUNT; i++) {
		requests[i].socket_fd = socket_fd;
		if (requests[i].file_fd == 0)
			requests[i].file_fd = file_fd;
		requests[i].user_data = i;
	}
	r = snapsend_submit_many(ctx, requests, sizeof(requests[0]), COUNT, ids);
	if (r < 0)
		die("snapsend_submit_many", r);
	check(r == (int)COUNT, "not all were queued");
}

/* Waits for the event descriptor as an event loop would, and takes the completions. */
static int wait_and_take(snapsend_t *ctx, struct snapsend_completion *done, uint32_t max)
{
	struct pollfd event = { .fd = snapsend_event_fd(ctx), .events = POLLIN };
	int r;

	if (event.fd < 0)
		die("snapsend_event_fd", event.fd);
	do {
		r = poll(&event, 1, 10000);
	} while (r < 0 && errno == EINTR);
	if (r <= 0)
		die("poll", r < 0 ? errno : ETIMEDOUT);
	r = snapsend_poll(ctx, done, max, 0); /* may be 0: the event descriptor may be readable without a completion */
	if (r < 0)
		die("snapsend_poll", r);
	return r;
}

static uint64_t print_completions(snapsend_t *ctx)
{
	static const char *const names[COUNT] = { "range", "to EOF", "padded", "exact", "memory" };
	struct snapsend_completion batch[COUNT];
	uint64_t wire_bytes = 0;
	uint32_t ended = 0;
	bool snapshot = false;

	while (ended < COUNT) {
		int n = wait_and_take(ctx, batch, COUNT);

		for (int i = 0; i < n; i++) {
			const struct snapsend_completion *c = &batch[i];

			if (c->event == SNAPSEND_EVENT_SNAPSHOT) {
				printf("  %-8s the file may change\n", names[c->user_data]);
				snapshot = true;
				continue;
			}
			printf("  %-8s status %d (%s), wire_bytes %" PRIu64 "%s\n", names[c->user_data], c->status,
			       strerror(-c->status), c->wire_bytes,
			       (c->flags & SNAPSEND_WAS_PADDED) != 0 ? ", padded" : "");
			check(c->status == (c->user_data == 3 ? -ENODATA : 0), "not that status");
			wire_bytes += c->wire_bytes;
			ended++;
		}
	}
	check(snapshot, "no SNAPSHOT was reported");
	return wire_bytes;
}

static void check_stream(int peer, const unsigned char *content, uint64_t wire_bytes)
{
	unsigned char expected[1 + 50 + 1 + 1000 + 20 + 1] = { 0 }, arrived[sizeof(expected) + 1];
	unsigned char *at = expected;

	*at++ = '<';
	at = (unsigned char *)mempcpy(at, content + 100, 50);
	*at++ = '>';
	at = (unsigned char *)mempcpy(at, content + 9000, 1000);
	memcpy(at, content + 9990, 10);
	at[20] = '<';
	check(wire_bytes == sizeof(expected), "wire_bytes do not add up");
	check(read_all(peer, arrived, sizeof(arrived)) == sizeof(expected) &&
		      memcmp(arrived, expected, sizeof(expected)) == 0,
	      "the peer read something else");
}

static void print_stats(snapsend_t *ctx)
{
	struct snapsend_stats stats;
	int r = snapsend_get_stats(ctx, &stats, sizeof(stats));

	if (r < 0)
		die("snapsend_get_stats", r);
	printf("%" PRIu64 " submitted, %" PRIu64 " succeeded, %" PRIu64 " failed, %" PRIu64 " cancelled, %" PRIu64
	       " in flight\n",
	       stats.submitted, stats.done_ok, stats.done_error, stats.cancelled, stats.in_flight);
	check(stats.submitted == COUNT && stats.done_ok == COUNT - 1 && stats.done_error == 1 && stats.cancelled == 0 &&
		      stats.in_flight == 0,
	      "the counters do not add up");
}

int main(void)
{
	unsigned char content[FILE_BYTES];
	int file_fd = scratch_file(), sender, peer, r;
	uint64_t wire_bytes;
	snapsend_t *ctx;

	for (unsigned i = 0; i < FILE_BYTES; i++)
		content[i] = (unsigned char)(1 + i % 251);
	write_at(file_fd, content, sizeof(content), 0);
	loopback_pair(&sender, &peer, 0);
	r = snapsend_create(NULL, 0, &ctx);
	if (r < 0)
		die("snapsend_create", r);

	print_info(ctx);
	submit(ctx, sender, file_fd);
	wire_bytes = print_completions(ctx);
	print_stats(ctx);

	snapsend_destroy(ctx);
	close(sender);
	check_stream(peer, content, wire_bytes);
	close(peer);
	close(file_fd);
	return wrong;
}
