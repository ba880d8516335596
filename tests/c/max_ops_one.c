/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A context for one operation at a time works on and on. */
#include "common.h"

int main(void)
{
	int sv[2];
	uint64_t extra, last = 0;
	struct snapsend_completion completion;
	struct reader reader;
	snapsend_t *ctx = create_ctx_with(1, 0, 0);
	tcp_pair(sv);
	int file = temp_file(3000, 1);
	const int rounds = 2000;
	reader_init(&reader, sv[1], (uint64_t)rounds * 3000);
	reader_go(&reader);
	struct snapsend_request request = make_request(sv[0], file, 0, 3000);
	for (int i = 0; i < rounds; i++) {
		request.user_data = (uint64_t)i;
		uint64_t id = submit_ok(ctx, &request);
		CHECK_UNE(id, last);
		last = id;
		CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, &extra), EAGAIN);
		wait_done(ctx, id, &completion);
		CHECK_EQ(completion.status, 0);
		CHECK_UEQ(completion.user_data, i);
	}
	reader_join(&reader);

	/* The functions that wait by themselves give their place back too. */
	reader_init(&reader, sv[1], 400 * 3000);
	reader_go(&reader);
	for (int i = 0; i < 200; i++) {
		CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
		CHECK_EQ(completion.status, 0);
		int result = snapsend_try_send(ctx, &request, sizeof request, &completion);
		CHECK(result == 0 || result == 1);
		if (result == 0)
			wait_done(ctx, completion.id, &completion);
		CHECK_EQ(completion.status, 0);
	}
	reader_join(&reader);
	expect_nothing(ctx, 20);
	destroy_ctx(ctx);
	return 0;
}
