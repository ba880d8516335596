/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A peer that never reads: cancel, cancel_socket and the timeout end the operation at once, and wire_bytes is
 * what the peer then finds. */
#include "data_common.h"

#define LENGTH     (6 * MIB)
#define TIMEOUT_MS 60

enum end { BY_ID, BY_SOCKET, BY_TIMEOUT, ENDS };

static void one(snapsend_t *ctx, enum kind kind, enum end end, uint32_t flags, int file)
{
	int sv[2];
	struct snapsend_completion done;
	struct reader reader;
	if (!pair_of_kind(kind, sv, 0))
		return;
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = flags;
	request.timeout_ms = end == BY_TIMEOUT ? TIMEOUT_MS : 0;
	int64_t begin = now_ms();
	uint64_t id = submit_ok(ctx, &request);
	if (end != BY_TIMEOUT) /* which may be over before this thread runs again */
		CHECK(!wait_event(ctx, id, SNAPSEND_EVENT_DONE, &done, 40));
	if (end == BY_ID)
		CHECK_EQ(snapsend_cancel(ctx, id), 0);
	if (end == BY_SOCKET)
		CHECK_EQ(snapsend_cancel_socket(ctx, sv[0]), 1);
	wait_done_ms(ctx, id, &done, 2000);
	CHECK_EQ(done.status, end == BY_TIMEOUT ? -ETIMEDOUT : -ECANCELED);
	if (end == BY_TIMEOUT)
		CHECK_GE(now_ms() - begin, TIMEOUT_MS - 1);
	CHECK_ULE(done.wire_bytes, LENGTH - 1);
	CHECK_ERR(snapsend_cancel(ctx, id), ENOENT);
	CHECK_EQ(snapsend_cancel_socket(ctx, sv[0]), 0);
	SYS(shutdown(sv[0], SHUT_WR));
	reader_start_check(&reader, sv[1], UINT64_MAX, 0, 36);
	CHECK_UEQ(reader_join(&reader), done.wire_bytes);
	close_pair(sv);
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 36);
	for (int kind = 0; kind < KINDS; kind++)
		for (int end = 0; end < ENDS; end++)
			for (size_t i = 0; i < COUNT_OF(flags); i++)
				one(ctx, (enum kind)kind, (enum end)end, flags[i], file);
	expect_nothing(ctx, 0);
	destroy_ctx(ctx);
	return 0;
}
