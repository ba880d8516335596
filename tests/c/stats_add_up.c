/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The counters agree with what was done: each DONE in exactly one of three, bytes exact, gauges back at 0. */
#include "common.h"

int main(void)
{
	int sv[2];
	struct snapsend_stats s;
	struct snapsend_completion completion;
	struct reader reader;
	struct iovec head = { "head", 4 };
	snapsend_t *ctx = create_ctx();
	unix_pair(sv);
	int file = temp_file(100000, 1);
	CHECK_EQ(snapsend_get_stats(ctx, &s, sizeof s), 0);
	CHECK_UEQ(s.submitted | s.done_ok | s.done_error | s.cancelled | s.file_bytes | s.wire_bytes | s.in_flight, 0);

	struct snapsend_request request = make_request(sv[0], file, 0, 100000);
	request.header = &head;
	request.header_count = 1;
	reader_init(&reader, sv[1], 12 * 100004);
	reader_go(&reader);
	for (int i = 0; i < 12; i++) {
		static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
		request.flags = flags[i % 3];
		if (i < 6)
			wait_done(ctx, submit_ok(ctx, &request), &completion);
		else if (i < 9)
			CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
		else if (snapsend_try_send(ctx, &request, sizeof request, &completion) == 0)
			wait_done(ctx, completion.id, &completion);
		CHECK_EQ(completion.status, 0);
	}
	reader_join(&reader);
	CHECK_EQ(snapsend_get_stats(ctx, &s, sizeof s), 0);
	CHECK_UEQ(s.submitted, 12);
	CHECK_UEQ(s.done_ok, 12);
	CHECK_UEQ(s.done_error, 0);
	CHECK_UEQ(s.cancelled, 0);
	CHECK_UEQ(s.file_bytes, 12 * 100000);
	CHECK_UEQ(s.wire_bytes, 12 * 100004);
	CHECK_UEQ(s.in_flight, 0);
	CHECK_UGE(s.bytes_copied + s.bytes_zerocopy, 12 * 100000);

	/* Refused ones do not count; a failed one and a cancelled one do. */
	request.flags = 1u << 31;
	rejected(ctx, &request);
	request.flags = SNAPSEND_EXACT;
	request.offset = 1;
	wait_done(ctx, submit_ok(ctx, &request), &completion);
	CHECK_EQ(completion.status, -ENODATA);
	request.offset = 0;
	request.flags = 0;
	uint64_t filled = fill_socket(sv[0]);
	uint64_t first = submit_ok(ctx, &request), second = submit_ok(ctx, &request);
	CHECK_EQ(snapsend_cancel(ctx, second), 0);
	wait_done(ctx, second, &completion);
	CHECK_EQ(completion.status, -ECANCELED);
	CHECK_EQ(snapsend_get_stats(ctx, &s, sizeof s), 0);
	CHECK_UEQ(s.submitted, 15);
	CHECK_UEQ(s.done_ok, 12);
	CHECK_UEQ(s.done_error, 1);
	CHECK_UEQ(s.cancelled, 1);
	CHECK_UEQ(s.in_flight, 1);
	reader_init(&reader, sv[1], filled + 100004);
	reader_go(&reader);
	wait_done(ctx, first, NULL);
	reader_join(&reader);
	CHECK_EQ(snapsend_get_stats(ctx, &s, sizeof s), 0);
	CHECK_UEQ(s.done_ok, 13);
	CHECK_UEQ(s.in_flight, 0);
	CHECK_UEQ(s.pool_in_use, 0);
	destroy_ctx(ctx);
	return 0;
}
