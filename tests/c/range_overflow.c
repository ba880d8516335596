/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Ranges that no file can have are refused by submit. */
#include "common.h"

static void refused(snapsend_t *ctx, int socket_fd, int file, uint64_t offset, uint64_t length)
{
	struct snapsend_request request = make_request(socket_fd, file, offset, length);
	int error = rejected(ctx, &request);
	if (error != EINVAL && error != EOVERFLOW && error != EFBIG)
		fail("offset %" PRIu64 " length %" PRIu64 ": -%d (%s)", offset, length, error, strerror(error));
	request.flags = SNAPSEND_ZERO_PAD; /* zeros do not make it a range */
	CHECK_GT(rejected(ctx, &request), 0);
}

int main(void)
{
	int sv[2];
	snapsend_t *ctx = create_ctx();
	struct snapsend_completion completion;
	unix_pair(sv);
	int file = temp_file(100, 1);

	refused(ctx, sv[0], file, UINT64_MAX - 5, 10);
	refused(ctx, sv[0], file, UINT64_MAX, 1);
	refused(ctx, sv[0], file, 10, UINT64_MAX - 5);
	refused(ctx, sv[0], file, (uint64_t)1 << 63, 10);
	refused(ctx, sv[0], file, INT64_MAX, 10);
	refused(ctx, sv[0], file, 1, INT64_MAX);
	refused(ctx, sv[0], file, 0, UINT64_MAX - 1);
	CHECK_UEQ(drain(sv[1], 20), 0);

	/* The last possible one is a range; this file just does not have it. */
	struct snapsend_request request = make_request(sv[0], file, INT64_MAX - 10, 10);
	wait_done(ctx, submit_ok(ctx, &request), &completion);
	CHECK_EQ(completion.status, -ENODATA);
	CHECK_UEQ(completion.wire_bytes, 0);

	/* An end so far away does no harm either. */
	request = make_request(sv[0], file, 50, INT64_MAX - 50);
	wait_done(ctx, submit_ok(ctx, &request), &completion);
	CHECK_EQ(completion.status, -ENODATA);
	CHECK_UEQ(completion.wire_bytes, drain(sv[1], 50));

	/* To the end, from an offset that no file has: an empty range, or refused. */
	request = make_request(sv[0], file, UINT64_MAX, SNAPSEND_TO_EOF);
	uint64_t id;
	int result = snapsend_submit(ctx, &request, sizeof request, &id);
	CHECK(result == 0 || result == -EINVAL || result == -EOVERFLOW || result == -EFBIG);
	if (result == 0) {
		wait_done(ctx, id, &completion);
		CHECK_EQ(completion.status, 0);
		CHECK_UEQ(completion.wire_bytes, 0);
	}
	destroy_ctx(ctx);
	return 0;
}
