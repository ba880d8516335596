/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* -ENOENT for an id that never was or whose operation has ended; nothing else is touched by it. */
#include "common.h"

int main(void)
{
	int sv[2];
	struct snapsend_completion completion;
	snapsend_t *ctx = create_ctx_with(1, 0, 0); /* one slot: each id after the first reuses it */
	unix_pair(sv);
	int file = temp_file(1000, 1);
	static const uint64_t never[] = { 0, 1, 2, 65536, 1ULL << 32, 1ULL << 63, UINT64_MAX - 1, UINT64_MAX };
	for (size_t i = 0; i < COUNT_OF(never); i++)
		CHECK_ERR(snapsend_cancel(ctx, never[i]), ENOENT);

	struct snapsend_request request = make_request(sv[0], file, 0, 1000);
	uint64_t old[100];
	for (size_t i = 0; i < COUNT_OF(old); i++) {
		old[i] = submit_ok(ctx, &request);
		wait_done(ctx, old[i], &completion);
		CHECK_UEQ(drain(sv[1], 0), 1000);
		for (size_t k = 0; k <= i; k++)
			CHECK_ERR(snapsend_cancel(ctx, old[k]), ENOENT);
	}

	/* With one in flight, stale and made-up ids do not hit it. */
	uint64_t filled = fill_socket(sv[0]);
	uint64_t id = submit_ok(ctx, &request);
	for (size_t i = 0; i < COUNT_OF(old); i++)
		CHECK_ERR(snapsend_cancel(ctx, old[i]), ENOENT);
	for (size_t i = 0; i < COUNT_OF(never); i++)
		if (never[i] != id)
			CHECK_ERR(snapsend_cancel(ctx, never[i]), ENOENT);
	for (int bit = 0; bit < 64; bit++)
		CHECK_ERR(snapsend_cancel(ctx, id ^ 1ULL << bit), ENOENT);
	expect_nothing(ctx, 50);
	struct reader reader;
	reader_init(&reader, sv[1], filled + 1000);
	reader_go(&reader);
	wait_done(ctx, id, &completion);
	CHECK_EQ(completion.status, 0);
	reader_join(&reader);
	CHECK_ERR(snapsend_cancel(ctx, id), ENOENT);
	destroy_ctx(ctx);
	return 0;
}
