/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* max_ops operations whose DONE has not been taken; past it -EAGAIN, until poll takes one. */
#include "common.h"

#define OPS 8

int main(void)
{
	int sv[2];
	uint64_t ids[OPS + 1], extra = 0;
	struct snapsend_completion completion;
	snapsend_t *ctx = create_ctx_with(OPS, 0, 0);
	unix_pair(sv);
	int file = temp_file(1000, 1);
	uint64_t filled = fill_socket(sv[0]); /* the peer does not read: nothing ends */
	struct snapsend_request request = make_request(sv[0], file, 0, 1000);
	struct snapsend_info info;
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	CHECK_UEQ(info.max_ops, OPS);

	for (int i = 0; i < OPS; i++)
		ids[i] = submit_ok(ctx, &request);
	for (int i = 0; i < 3; i++) {
		CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, &extra), EAGAIN);
		CHECK_ERR(snapsend_submit_many(ctx, &request, sizeof request, 1, &extra), EAGAIN);
		CHECK_ERR(snapsend_send(ctx, &request, sizeof request, &completion), EAGAIN);
		CHECK_ERR(snapsend_try_send(ctx, &request, sizeof request, &completion), EAGAIN);
	}
	expect_nothing(ctx, 20);

	/* An end alone makes no room: the DONE must be taken. Each round ends the last of the queue, so that
     * those before it stay untouched. */
	for (int round = 0; round < 20; round++) {
		CHECK_EQ(snapsend_cancel(ctx, ids[OPS - 1]), 0);
		struct pollfd p = { .fd = snapsend_event_fd(ctx), .events = POLLIN };
		CHECK_EQ(poll(&p, 1, WAIT_MS), 1);
		CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, &extra), EAGAIN);
		wait_done(ctx, ids[OPS - 1], &completion);
		CHECK_EQ(completion.status, -ECANCELED);
		CHECK_UEQ(completion.wire_bytes, 0);
		ids[OPS - 1] = submit_ok(ctx, &request);
		CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, &extra), EAGAIN);
	}

	/* The peer reads on: all go out, and there is room for all of it again. */
	for (int round = 0; round < 3; round++) {
		struct reader reader;
		reader_init(&reader, sv[1], (round == 0 ? filled : 0) + OPS * 1000);
		reader_go(&reader);
		for (int i = 0; i < OPS; i++) {
			if (round > 0)
				ids[i] = submit_ok(ctx, &request);
		}
		for (int i = 0; i < OPS; i++) {
			wait_done(ctx, ids[i], &completion);
			CHECK_EQ(completion.status, 0);
		}
		reader_join(&reader);
	}
	expect_nothing(ctx, 20);
	destroy_ctx(ctx);
	return 0;
}
