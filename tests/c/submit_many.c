/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An array of requests: count 0, all, the first bad one, a later bad one, no room for all. */
#include "common.h"

int main(void)
{
	int sv[2];
	uint64_t ids[100];
	struct snapsend_request requests[100];
	struct snapsend_completion completion;
	struct reader reader;
	snapsend_t *ctx = create_ctx_with(16, 0, 0);
	unix_pair(sv);
	int file = temp_file(100000, 1);
	for (int i = 0; i < 100; i++) {
		requests[i] = make_request(sv[0], file, (uint64_t)i * 1000, 1000);
		requests[i].user_data = (uint64_t)i;
		ids[i] = 0;
	}

	CHECK_EQ(snapsend_submit_many(ctx, requests, sizeof requests[0], 0, ids), 0);
	CHECK_EQ(snapsend_submit_many(ctx, requests, sizeof requests[0], 0, NULL), 0);
	expect_nothing(ctx, 20);

	/* All; they go out in the order of the array. */
	reader_start_check(&reader, sv[1], 10000, 0, 1);
	CHECK_EQ(snapsend_submit_many(ctx, requests, sizeof requests[0], 10, ids), 10);
	for (int i = 0; i < 10; i++) {
		wait_done(ctx, ids[i], &completion);
		CHECK_EQ(completion.status, 0);
		CHECK_UEQ(completion.user_data, i);
	}
	CHECK_UEQ(ids[10], 0); /* behind the count */
	reader_join(&reader);

	/* A bad one ends the taking: those before it are queued, none behind it. */
	reader_start_check(&reader, sv[1], 4000, 0, 1);
	requests[4].flags = (uint32_t)1 << 30;
	memset(ids, 0, sizeof ids);
	CHECK_EQ(snapsend_submit_many(ctx, requests, sizeof requests[0], 10, ids), 4);
	for (int i = 0; i < 4; i++)
		wait_done(ctx, ids[i], NULL);
	reader_join(&reader);
	expect_nothing(ctx, 20);
	CHECK_ERR(snapsend_submit_many(ctx, requests + 4, sizeof requests[0], 6, ids), EINVAL);
	requests[4].flags = 0;
	requests[4].socket_fd = -1;
	CHECK_ERR(snapsend_submit_many(ctx, requests + 4, sizeof requests[0], 6, ids), EBADF);
	requests[4].socket_fd = sv[0];
	expect_nothing(ctx, 20);

	/* Room for some of them. */
	uint64_t filled = fill_socket(sv[0]);
	memset(ids, 0, sizeof ids);
	CHECK_EQ(snapsend_submit_many(ctx, requests, sizeof requests[0], 100, ids), 16);
	CHECK_UEQ(ids[16], 0);
	CHECK_ERR(snapsend_submit_many(ctx, requests + 16, sizeof requests[0], 84, ids + 16), EAGAIN);
	reader_init(&reader, sv[1], filled + 16000);
	reader.check = true;
	reader.skip = filled;
	reader.seed = 1;
	reader_go(&reader);
	for (int i = 0; i < 16; i++) {
		wait_done(ctx, ids[i], &completion);
		CHECK_EQ(completion.status, 0);
		CHECK_UEQ(completion.user_data, i);
	}
	reader_join(&reader);

	/* Without ids. */
	reader_start_check(&reader, sv[1], 5000, 0, 1);
	CHECK_EQ(snapsend_submit_many(ctx, requests, sizeof requests[0], 5, NULL), 5);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(snapsend_poll(ctx, &completion, 1, WAIT_MS), 1);
	reader_join(&reader);
	expect_nothing(ctx, 20);
	destroy_ctx(ctx);
	return 0;
}
