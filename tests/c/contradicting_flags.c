/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ZERO_PAD with EXACT or TO_EOF is -EINVAL; combinations that make sense are accepted. */
#include "common.h"

int main(void)
{
	int sv[2];
	snapsend_t *ctx = create_ctx();
	unix_pair(sv);
	int file = temp_file(100, 1);
	struct snapsend_request request = make_request(sv[0], file, 0, 100);
	struct snapsend_completion completion;

	request.flags = SNAPSEND_ZERO_PAD | SNAPSEND_EXACT;
	CHECK_EQ(rejected(ctx, &request), EINVAL);
	request.flags |= SNAPSEND_EAGER | SNAPSEND_NOTIFY_SNAPSHOT | SNAPSEND_MORE;
	CHECK_EQ(rejected(ctx, &request), EINVAL);
	request.length = SNAPSEND_TO_EOF;
	CHECK_EQ(rejected(ctx, &request), EINVAL);
	request.flags = SNAPSEND_ZERO_PAD;
	CHECK_EQ(rejected(ctx, &request), EINVAL);
	CHECK_UEQ(drain(sv[1], 20), 0);

	static const uint32_t sensible[] = {
		SNAPSEND_ZERO_PAD | SNAPSEND_EAGER,
		SNAPSEND_ZERO_PAD | SNAPSEND_MORE,
		SNAPSEND_EXACT | SNAPSEND_EAGER | SNAPSEND_MORE,
	};
	request.length = 100;
	for (size_t i = 0; i < COUNT_OF(sensible); i++) {
		request.flags = sensible[i];
		wait_done(ctx, submit_ok(ctx, &request), &completion);
		CHECK_EQ(completion.status, 0);
		CHECK_UEQ(drain(sv[1], 20), 100);
	}
	request.length = SNAPSEND_TO_EOF;
	request.flags = SNAPSEND_EXACT | SNAPSEND_EAGER;
	wait_done(ctx, submit_ok(ctx, &request), &completion);
	CHECK_EQ(completion.status, 0);
	CHECK_UEQ(drain(sv[1], 20), 100);
	destroy_ctx(ctx);
	return 0;
}
