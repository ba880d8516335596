/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The size of struct snapsend_options: shorter than the first version -EINVAL, longer with a zero tail. */
#include "common.h"

#define FIRST_VERSION 32

static int try_size(const void *options, size_t size)
{
	snapsend_t *ctx = NULL;
	int result = snapsend_create(options, size, &ctx);
	if (result == 0) {
		struct snapsend_info info;
		CHECK(ctx != NULL);
		CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
		CHECK_UEQ(info.max_ops, 5); /* it was read */
		destroy_ctx(ctx);
	}
	return result;
}

int main(void)
{
	static union {
		struct snapsend_options options;
		unsigned char bytes[4096];
	} u;
	u.options.max_ops = 5;
	int fds = count_fds();
	static const size_t too_short[] = { 0, 1, 8, 12, FIRST_VERSION - 8, FIRST_VERSION - 1 };
	for (size_t i = 0; i < COUNT_OF(too_short); i++)
		CHECK_ERR(try_size(&u, too_short[i]), EINVAL);
	CHECK_EQ(try_size(&u, FIRST_VERSION), 0);
	CHECK_EQ(try_size(&u, sizeof u.options), 0);

	static const size_t longer[] = { sizeof u.options + 1, sizeof u.options + 8, 1000, 4096 };
	for (size_t i = 0; i < COUNT_OF(longer); i++) {
		CHECK_EQ(try_size(&u, longer[i]), 0);
		u.bytes[longer[i] - 1] = 1;
		CHECK_ERR(try_size(&u, longer[i]), E2BIG);
		u.bytes[longer[i] - 1] = 0;
		u.bytes[sizeof u.options] = 1;
		CHECK_ERR(try_size(&u, longer[i]), E2BIG);
		CHECK_EQ(try_size(&u, sizeof u.options), 0); /* what lies behind is not looked at */
		u.bytes[sizeof u.options] = 0;
	}
	CHECK_EQ(count_fds(), fds); /* a refused create leaves nothing */
	return 0;
}
