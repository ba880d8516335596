/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The counters agree with what happened: at rest submitted is the sum of the three outcomes and in_flight, the
 * bytes are the sums of the completions', and the gauges are 0. */
#include "data_common.h"

#define LENGTH (MIB + 1)

static struct snapsend_stats expected; /* of what we know */

static struct snapsend_stats get(snapsend_t *ctx)
{
	struct snapsend_stats stats;
	memset(&stats, 0xee, sizeof stats);
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	return stats;
}

static void note(const struct snapsend_completion *done)
{
	expected.submitted++;
	expected.done_ok += done->status == 0;
	expected.cancelled += done->status == -ECANCELED;
	expected.done_error += done->status != 0 && done->status != -ECANCELED;
	expected.file_bytes += done->file_bytes;
	expected.wire_bytes += done->wire_bytes;
}

static void compare(snapsend_t *ctx, uint64_t in_flight)
{
	struct snapsend_stats now = get(ctx);
	CHECK_UEQ(now.submitted, expected.submitted + in_flight);
	CHECK_UEQ(now.done_ok, expected.done_ok);
	CHECK_UEQ(now.done_error, expected.done_error);
	CHECK_UEQ(now.cancelled, expected.cancelled);
	CHECK_UEQ(now.in_flight, in_flight);
	if (in_flight > 0)
		return;
	CHECK_UEQ(now.file_bytes, expected.file_bytes);
	CHECK_UEQ(now.wire_bytes, expected.wire_bytes);
	CHECK_UEQ(now.pool_in_use, 0);
	CHECK_UGE(now.bytes_copied + now.bytes_zerocopy + now.bytes_inline, now.file_bytes);
	CHECK_ULE(now.zerocopy_copied_anyway, now.zerocopy_notified);
}

static void successes(snapsend_t *ctx, int file)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_NOTIFY_SNAPSHOT,
					  SNAPSEND_ZERO_PAD };
	struct iovec head = { (char[]){ "header" }, 6 };
	for (unsigned i = 0; i < 150; i++) {
		int sv[2];
		struct reader reader;
		if (!pair_of_kind((enum kind)(i % KINDS), sv, 0))
			continue;
		struct snapsend_request request = make_request(sv[0], file, 0, i % 4 ? (uint64_t)i * 37 : LENGTH);
		request.flags = flags[i % 5];
		request.header = &head, request.header_count = i / 2 % 2;
		if (i % 5 == 4)
			request.offset = LENGTH - 10; /* padded */
		reader_init(&reader, sv[1], UINT64_MAX);
		reader_go(&reader);
		struct snapsend_completion done = call_done(ctx, (enum call)(i / 5 % CALLS), request);
		CHECK_EQ(done.status, 0);
		note(&done);
		close(sv[0]);
		CHECK_UEQ(reader_join(&reader), done.wire_bytes);
		close(sv[1]);
		compare(ctx, 0);
	}
}

static void failures(snapsend_t *ctx, int file)
{
	int sv[2];
	uint64_t id;
	struct snapsend_completion done;
	for (int i = 0; i < 12; i++) {
		tcp_pair(sv);
		struct snapsend_request request = make_request(sv[0], file, i % 4 == 0 ? 5 : 0, LENGTH);
		request.timeout_ms = i % 4 == 1 ? 20 : 0;
		if (i % 4 != 0)
			stuff_socket(sv[0]); /* else -ENODATA */
		if (i % 4 == 3)
			reset_close(sv[1]);
		id = submit_ok(ctx, &request);
		if (i % 4 == 2)
			CHECK_EQ(snapsend_cancel(ctx, id), 0);
		wait_done(ctx, id, &done);
		CHECK_LT(done.status, 0);
		note(&done);
		compare(ctx, 0);
		close(sv[0]);
		if (i % 4 != 3)
			close(sv[1]);
	}
	struct snapsend_request bad = make_request(-1, file, 0, 1); /* what was refused is not counted */
	CHECK_LT(snapsend_submit(ctx, &bad, sizeof bad, &id), 0);
	compare(ctx, 0);
}

static void in_flight(snapsend_t *ctx, int file)
{
	int sv[9][2];
	struct snapsend_completion done;
	for (int i = 0; i < 9; i++) {
		pair_of_kind(i % 2 ? TCP4 : UNIX, sv[i], 0);
		stuff_socket(sv[i][0]);
		struct snapsend_request request = make_request(sv[i][0], file, 0, LENGTH);
		submit_ok(ctx, &request);
		compare(ctx, (uint64_t)i + 1);
	}
	for (int i = 0; i < 9; i++) {
		CHECK_EQ(snapsend_cancel_socket(ctx, sv[i][0]), 1);
		CHECK_EQ(snapsend_poll(ctx, &done, 1, WAIT_MS), 1);
		note(&done);
		compare(ctx, 8 - (uint64_t)i);
		close_pair(sv[i]);
	}
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 69);
	compare(ctx, 0);
	doing("successes");
	successes(ctx, file);
	doing("failures");
	failures(ctx, file);
	doing("in flight");
	in_flight(ctx, file);
	destroy_ctx(ctx);
	return 0;
}
