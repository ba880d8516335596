/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* timeout_ms: of the operation in work, of one that waits, and of one that ends before. */
#include "common.h"

int main(void)
{
	int sv[2], fast[2];
	struct snapsend_completion completion;
	struct reader reader;
	snapsend_t *ctx = create_ctx();
	unix_pair(sv);
	unix_pair(fast);
	int file = temp_file(1000, 1);
	uint64_t filled = fill_socket(sv[0]);

	/* One that waits behind another: untouched, and the one before it stays. */
	struct snapsend_request request = make_request(sv[0], file, 0, 1000);
	uint64_t head = submit_ok(ctx, &request);
	int64_t begin = now_ms();
	request.timeout_ms = 150;
	uint64_t waiting = submit_ok(ctx, &request);
	wait_done(ctx, waiting, &completion);
	CHECK_EQ(completion.status, -ETIMEDOUT);
	CHECK_UEQ(completion.wire_bytes, 0);
	CHECK_GE(now_ms() - begin, 149);
	CHECK_LE(now_ms() - begin, 5000);
	expect_nothing(ctx, 20);
	reader_start_keep(&reader, sv[1], filled + 1000);
	wait_done(ctx, head, &completion);
	CHECK_EQ(completion.status, 0);
	reader_join(&reader);
	CHECK(pattern_bad(reader.data + filled, 0, 1000, 1) == SIZE_MAX);
	reader_free(&reader);

	/* Deadlines in any order. */
	filled = fill_socket(sv[0]);
	static const uint32_t timeouts[] = { 300, 100, 200, 1, 1000000 };
	uint64_t ids[COUNT_OF(timeouts)];
	begin = now_ms();
	for (size_t i = 0; i < COUNT_OF(timeouts); i++) {
		request.timeout_ms = timeouts[i];
		ids[i] = submit_ok(ctx, &request);
	}
	static const int order[] = { 3, 1, 2, 0 };
	uint64_t wire = 0;
	for (int i = 0; i < 4; i++) {
		wait_done(ctx, ids[order[i]], &completion);
		CHECK_EQ(completion.status, -ETIMEDOUT);
		CHECK_GE(now_ms() - begin, (int64_t)timeouts[order[i]] - 1);
		wire += completion.wire_bytes;
	}
	CHECK_LE(now_ms() - begin, 5000);
	expect_nothing(ctx, 20);
	CHECK_EQ(snapsend_cancel(ctx, ids[4]), 0); /* the far one still runs */
	wait_done(ctx, ids[4], &completion);
	CHECK_EQ(completion.status, -ECANCELED);
	CHECK_UEQ(drain(sv[1], 50), filled + wire + completion.wire_bytes);

	/* Of the one in work, part-way. */
	close(sv[0]);
	close(sv[1]);
	tcp_pair(sv);
	int big = temp_file(32 * MIB, 1);
	request = make_request(sv[0], big, 0, 32 * MIB);
	request.timeout_ms = 200;
	begin = now_ms();
	wait_done(ctx, submit_ok(ctx, &request), &completion);
	CHECK_GE(now_ms() - begin, 199);
	CHECK_LE(now_ms() - begin, 5000);
	CHECK_EQ(completion.status, -ETIMEDOUT);
	CHECK_UGE(completion.wire_bytes, 1);
	close(sv[0]);
	reader_start_check(&reader, sv[1], UINT64_MAX, 0, 1);
	CHECK_UEQ(reader_join(&reader), completion.wire_bytes);

	/* Early enough: nothing comes when the time is over. */
	request = make_request(fast[0], file, 0, 1000);
	request.timeout_ms = 100;
	wait_done(ctx, submit_ok(ctx, &request), &completion);
	CHECK_EQ(completion.status, 0);
	request.timeout_ms = UINT32_MAX;
	wait_done(ctx, submit_ok(ctx, &request), &completion);
	CHECK_EQ(completion.status, 0);
	expect_nothing(ctx, 250);
	CHECK_UEQ(drain(fast[1], 20), 2000);
	destroy_ctx(ctx);
	return 0;
}
