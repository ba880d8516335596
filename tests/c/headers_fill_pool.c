/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Headers and trailers count in pool_bytes: a full pool is -EAGAIN and empties again; one that can never fit is
 * not -EAGAIN, or its sender would try for ever. */
#include "common.h"

int main(void)
{
	static unsigned char memory[MIB];
	static uint64_t ids[20000];
	int sv[2], count = 0, first = 0;
	struct snapsend_completion completion;
	struct iovec head = { memory, 4000 };
	snapsend_t *ctx = create_ctx_with(20000, MIB, 0);
	unix_pair(sv);
	uint64_t filled = fill_socket(sv[0]);
	memset(memory, 'h', sizeof memory);
	struct snapsend_request request = make_request(sv[0], -1, 0, 0);
	request.header = &head;
	request.header_count = 1;
	for (int round = 0; round < 4; round++) {
		for (count = 0; count < 20000; count++) {
			int result = snapsend_submit(ctx, &request, sizeof request, &ids[count]);
			if (result == -EAGAIN)
				break;
			CHECK_EQ(result, 0);
		}
		CHECK_ULE((uint64_t)count * 4000, MIB);
		CHECK_GE(count, 5);
		if (round == 0)
			first = count;
		CHECK_LE(count, first + 5); /* an empty pool has the same room each time, more or less */
		CHECK_GE(count, first - 5);
		struct snapsend_stats stats;
		CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
		CHECK_ULE(stats.pool_in_use, MIB);
		CHECK_UGE(stats.pool_in_use, (uint64_t)count * 4000);

		CHECK_EQ(snapsend_cancel_socket(ctx, sv[0]), count);
		for (int i = 0; i < count; i++) {
			wait_done(ctx, ids[i], &completion);
			CHECK_EQ(completion.status, -ECANCELED);
			CHECK_UEQ(completion.wire_bytes, 0);
		}
		CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
		CHECK_UEQ(stats.pool_in_use, 0);
	}
	CHECK_UEQ(drain(sv[1], 10), filled);

	/* Longer than there is room in an empty pool: goes out, or a lasting error. */
	for (head.iov_len = 1000; head.iov_len <= MIB; head.iov_len *= 2) {
		struct reader reader;
		uint64_t id;
		int result = snapsend_submit(ctx, &request, sizeof request, &id);
		if (result < 0) {
			CHECK_NE(result, -EAGAIN);
			continue;
		}
		reader_init(&reader, sv[1], head.iov_len);
		reader_go(&reader);
		wait_done(ctx, id, &completion);
		CHECK_EQ(completion.status, 0);
		reader_join(&reader);
	}
	destroy_ctx(ctx);
	return 0;
}
