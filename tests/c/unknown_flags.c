/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Each flag bit that the header does not define gives -EINVAL; each that it defines is accepted, or, if it says that
 * a number is a handle, refuses a descriptor. */
#include "common.h"

int main(void)
{
	const uint32_t known = SNAPSEND_EAGER | SNAPSEND_EXACT | SNAPSEND_NOTIFY_SNAPSHOT | SNAPSEND_ZERO_PAD |
			       SNAPSEND_MORE | SNAPSEND_ZEROCOPY | SNAPSEND_NOTIFY_SENT;
	const uint32_t handles = SNAPSEND_REGISTERED_FILE | SNAPSEND_REGISTERED_SOCKET;
	int sv[2];
	snapsend_t *ctx = create_ctx();
	unix_pair(sv);
	int file = temp_file(100, 1);
	struct snapsend_request request = make_request(sv[0], file, 0, 100);
	struct snapsend_completion completion;

	for (int bit = 0; bit < 32; bit++) {
		uint32_t flag = (uint32_t)1 << bit;
		request.flags = flag;
		if (handles & flag) {
			CHECK_EQ(rejected(ctx, &request), EBADF);
			continue;
		}
		if (!(known & flag)) {
			CHECK_EQ(rejected(ctx, &request), EINVAL);
			request.flags = flag | SNAPSEND_EAGER | SNAPSEND_MORE;
			CHECK_EQ(rejected(ctx, &request), EINVAL);
			continue;
		}
		wait_done(ctx, submit_ok(ctx, &request), &completion);
		CHECK_EQ(completion.status, 0);
		CHECK_UEQ(completion.wire_bytes, 100);
	}
	CHECK_UEQ(drain(sv[1], 50), 700);

	/* Options have no flags yet. */
	for (int bit = 0; bit < 32; bit++) {
		struct snapsend_options options;
		snapsend_t *other = NULL;
		memset(&options, 0, sizeof options);
		options.flags = (uint32_t)1 << bit;
		CHECK_ERR(snapsend_create(&options, sizeof options, &other), EINVAL);
	}
	destroy_ctx(ctx);
	return 0;
}
