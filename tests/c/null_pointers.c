/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* NULL where a pointer is needed gives -EFAULT, and nothing is sent. */
#include "common.h"

int main(void)
{
	int sv[2];
	unix_pair(sv);
	int file = temp_file(100, 1);
	snapsend_t *ctx = NULL;
	struct snapsend_options options;
	struct snapsend_completion completion;
	struct snapsend_info info;
	struct snapsend_stats stats;
	uint64_t id = 0;
	memset(&options, 0, sizeof options);

	CHECK_ERR(snapsend_create(NULL, 0, NULL), EFAULT);
	CHECK_ERR(snapsend_create(&options, sizeof options, NULL), EFAULT);
	CHECK_ERR(snapsend_destroy(NULL), EFAULT);

	/* No options is not an error: defaults. */
	CHECK_EQ(snapsend_create(NULL, 0, &ctx), 0);
	destroy_ctx(ctx);
	CHECK_EQ(snapsend_create(NULL, sizeof options, &ctx), 0);

	struct snapsend_request request = make_request(sv[0], file, 0, 100);
	CHECK_ERR(snapsend_submit(NULL, &request, sizeof request, &id), EFAULT);
	CHECK_ERR(snapsend_submit_many(NULL, &request, sizeof request, 1, &id), EFAULT);
	CHECK_ERR(snapsend_try_send(NULL, &request, sizeof request, &completion), EFAULT);
	CHECK_ERR(snapsend_send(NULL, &request, sizeof request, &completion), EFAULT);
	CHECK_ERR(snapsend_poll(NULL, &completion, 1, 0), EFAULT);
	CHECK_ERR(snapsend_event_fd(NULL), EFAULT);
	CHECK_ERR(snapsend_cancel(NULL, 1), EFAULT);
	CHECK_ERR(snapsend_cancel_socket(NULL, sv[0]), EFAULT);
	CHECK_ERR(snapsend_get_info(NULL, &info, sizeof info), EFAULT);
	CHECK_ERR(snapsend_get_stats(NULL, &stats, sizeof stats), EFAULT);

	CHECK_ERR(snapsend_submit(ctx, NULL, sizeof request, &id), EFAULT);
	CHECK_ERR(snapsend_submit_many(ctx, NULL, sizeof request, 1, &id), EFAULT);
	CHECK_ERR(snapsend_try_send(ctx, NULL, sizeof request, &completion), EFAULT);
	CHECK_ERR(snapsend_try_send(ctx, &request, sizeof request, NULL), EFAULT);
	CHECK_ERR(snapsend_send(ctx, NULL, sizeof request, &completion), EFAULT);
	CHECK_ERR(snapsend_send(ctx, &request, sizeof request, NULL), EFAULT);
	CHECK_ERR(snapsend_poll(ctx, NULL, 1, 0), EFAULT);
	CHECK_ERR(snapsend_get_info(ctx, NULL, sizeof info), EFAULT);
	CHECK_ERR(snapsend_get_stats(ctx, NULL, sizeof stats), EFAULT);
	CHECK_UEQ(id, 0);

	/* A header or trailer that is announced but not there, or points to nothing. */
	request.header_count = 1;
	CHECK_EQ(rejected(ctx, &request), EFAULT);
	request.header_count = 0;
	request.trailer_count = 3;
	CHECK_EQ(rejected(ctx, &request), EFAULT);
	struct iovec iov = { .iov_base = NULL, .iov_len = 5 };
	request.trailer = &iov;
	request.trailer_count = 1;
	CHECK_EQ(rejected(ctx, &request), EFAULT);

	expect_nothing(ctx, 50);
	CHECK_UEQ(drain(sv[1], 50), 0);

	/* But an empty piece needs no memory, and a pointer with count 0 is not followed. */
	iov.iov_len = 0;
	request.header = (const struct iovec *)(uintptr_t)16;
	wait_done(ctx, submit_ok(ctx, &request), &completion);
	CHECK_EQ(completion.status, 0);
	CHECK_UEQ(completion.wire_bytes, 100);

	/* The ids are not needed. */
	request = make_request(sv[0], file, 0, 100);
	CHECK_EQ(snapsend_submit(ctx, &request, sizeof request, NULL), 0);
	CHECK_EQ(snapsend_submit_many(ctx, &request, sizeof request, 1, NULL), 1);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(snapsend_poll(ctx, &completion, 1, WAIT_MS), 1);
		CHECK_EQ(completion.status, 0);
	}
	CHECK_UEQ(drain(sv[1], 50), 300);
	destroy_ctx(ctx);
	return 0;
}
