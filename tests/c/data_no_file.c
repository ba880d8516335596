/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Memory alone (file_fd -1), and a file of which nothing is sent (length 0). */
#include "data_common.h"

static unsigned char want[700000];

/* file -1 or a file of which no byte may arrive. */
static void over(snapsend_t *ctx, int sv[2], int file, uint32_t flags)
{
	struct iovec head[2] = { { want, 5 }, { want + 5, 299995 } }, tail = { want + 300000, 400000 };
	struct snapsend_request request = make_request(-1, file, 0, 0);
	request.flags = flags;
	request.header = head, request.header_count = 2;
	CHECK_UEQ(transfer_ok(ctx, sv, request, want, 300000).file_bytes, 0);
	request.trailer = &tail, request.trailer_count = 1;
	CHECK_UEQ(transfer_ok(ctx, sv, request, want, 700000).file_bytes, 0);
	request.header = NULL, request.header_count = 0;
	CHECK_UEQ(transfer_ok(ctx, sv, request, want + 300000, 400000).file_bytes, 0);
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_ZERO_PAD, SNAPSEND_MORE };
	snapsend_t *ctx = create_ctx();
	int file = temp_file(10000, 8), sv[2];
	pattern_fill(want, 0, sizeof want, 9);
	for (int kind = 0; kind < KINDS; kind++) {
		if (!pair_of_kind((enum kind)kind, sv, 0))
			continue;
		for (size_t i = 0; i < COUNT_OF(flags); i++) {
			over(ctx, sv, -1, flags[i]);
			over(ctx, sv, file, flags[i]);
		}
		/* Nothing at all from a file is a success like any other. */
		transfer_ok(ctx, sv, make_request(-1, file, 0, 0), NULL, 0);
		transfer_ok(ctx, sv, make_request(-1, file, 10000, 0), NULL, 0);
		/* Nothing at all from nowhere may be refused, but not accepted and forgotten. */
		struct snapsend_request nothing = make_request(sv[0], -1, 0, 0);
		struct snapsend_completion done;
		uint64_t id;
		int result = snapsend_submit(ctx, &nothing, sizeof nothing, &id);
		if (result == 0) {
			wait_done(ctx, id, &done);
			CHECK_EQ(done.status, 0);
		} else {
			CHECK_EQ(result, -EINVAL);
		}
		expect_silence(sv[1]);
		close_pair(sv);
	}
	destroy_ctx(ctx);
	return 0;
}
