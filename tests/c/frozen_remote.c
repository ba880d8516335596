/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A sealed memfd to a peer on another machine that reads nothing yet: DONE comes while nothing has been acknowledged by
 * the reader, although the pages themselves are in the socket; the file is unregistered and closed then, and all its
 * bytes arrive. The control: with ZEROCOPY a file that may change is not done before the peer has read. */
#include "lent.h"

#include <sys/mman.h>

#define LENGTH (256 * KIB)

static struct network net;

static int open_ends(int sv[2], int file, int seals)
{
	connect_over(&net, PATH_VETH, 16 * KIB, sv);
	buffer_of(sv[0], 4 * LENGTH);
	set_nonblock(sv[0]);
	if (seals != 0)
		SYS(fcntl(file, F_ADD_SEALS, seals));
	return file;
}

static int memory(void)
{
	int file = (int)SYS(memfd_create("frozen", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	pattern_write(file, 0, LENGTH, 3);
	return file;
}

/* Sends all of it by handles; whether DONE comes before the peer reads. */
static bool is_done_first(snapsend_t *ctx, int file, int sv[2], uint32_t flags)
{
	struct snapsend_completion done;
	struct snapsend_request request = registered(ctx, make_request(sv[0], file, 0, LENGTH));
	struct reader reader;
	request.flags |= flags;
	uint64_t id = submit_ok(ctx, &request);
	bool is_first = wait_event(ctx, id, SNAPSEND_EVENT_DONE, &done, 500);
	if (is_first) {
		CHECK_UGE(in_transit(sv), LENGTH / 2);
		CHECK(done.flags & (SNAPSEND_WAS_ZEROCOPY | SNAPSEND_WAS_COPIED));
		unregister(ctx, &request);
		close(file);
	}
	reader_start_check(&reader, sv[1], LENGTH, 0, 3);
	if (!is_first) {
		wait_done(ctx, id, &done);
		unregister(ctx, &request);
		close(file);
	}
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, LENGTH);
	reader_join(&reader);
	return is_first;
}

int main(void)
{
	/* Without zero-copy the kernel's sendfile puts the pages into the socket. */
	bool has_zero_copy = strcmp(engine_name(), "portable") != 0;
	if (has_zero_copy)
		lending_network(&net);
	else
		lossless_network(&net);
	snapsend_t *ctx = create_ctx();
	int sv[2];
	for (int i = 0; i < 5; i++) {
		int file = open_ends(sv, memory(), F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
		acquaint(ctx, file);
		CHECK(is_done_first(ctx, file, sv, 0));
		close_pair(sv);
	}
	struct snapsend_stats stats = stats_of(ctx);
	for (int tries = 0; tries < 100 && stats.bytes_frozen < 3 * LENGTH; tries++) {
		sleep_ms(20); /* notifications come behind */
		stats = stats_of(ctx);
	}
	CHECK_UGE(stats.bytes_frozen, 3 * LENGTH);
	CHECK_UEQ(stats.connections_reset, 0);
	if (has_zero_copy) {
		CHECK_UGE(stats.bytes_page_cache, 3 * LENGTH);
		int file = open_ends(sv, memory(), 0);
		acquaint(ctx, file);
		CHECK(!is_done_first(ctx, file, sv, SNAPSEND_ZEROCOPY));
		close_pair(sv);
	}
	destroy_ctx(ctx);
	return 0;
}
