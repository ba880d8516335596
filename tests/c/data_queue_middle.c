/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Operations in the middle of a socket's queue end without having sent anything (cancel, timeout, short
 * file): the stream is untouched, so those before and behind go out whole and in order. */
#include "data_common.h"

#define LENGTH (MIB + 17)
#define OPS    12

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH * OPS, 32), sv[2];
	for (int kind = 0; kind < KINDS; kind++) {
		uint64_t ids[OPS];
		struct snapsend_completion done;
		struct reader reader;
		if (!pair_of_kind((enum kind)kind, sv, 128 * 1024))
			continue;
		uint64_t before = stuff_socket(sv[0]);
		for (int i = 0; i < OPS; i++) {
			struct snapsend_request request = make_request(sv[0], file, (uint64_t)i * LENGTH, LENGTH);
			if (i == 3 || i == 9)
				request.timeout_ms = 50;
			if (i == 5)
				request.offset = LENGTH * OPS - 10; /* short */
			ids[i] = submit_ok(ctx, &request);
		}
		CHECK_EQ(snapsend_cancel(ctx, ids[6]), 0);
		CHECK_EQ(snapsend_cancel(ctx, ids[7]), 0);
		wait_done_ms(ctx, ids[6], &done, 2000); /* it does not wait for those before it */
		CHECK(done.status == -ECANCELED && done.wire_bytes == 0);
		wait_done_ms(ctx, ids[7], &done, 2000);
		CHECK(done.status == -ECANCELED && done.wire_bytes == 0);
		wait_done_ms(ctx, ids[3], &done, 2000);
		CHECK(done.status == -ETIMEDOUT && done.wire_bytes == 0);
		wait_done_ms(ctx, ids[9], &done, 2000);
		CHECK(done.status == -ETIMEDOUT && done.wire_bytes == 0);
		swallow(sv[1], before);
		for (int i = 0; i < OPS; i++) {
			if (i == 3 || (i >= 5 && i <= 7) || i == 9)
				continue;
			reader_start_check(&reader, sv[1], LENGTH, (uint64_t)i * LENGTH, 32);
			wait_done(ctx, ids[i], &done);
			CHECK_EQ(done.status, 0);
			reader_join(&reader);
		}
		wait_done(ctx, ids[5], &done);
		CHECK(done.status == -ENODATA && done.wire_bytes == 0);
		CHECK_EQ(unread(sv[1]), 0);
		close_pair(sv);
	}
	expect_nothing(ctx, 0);
	destroy_ctx(ctx);
	return 0;
}
