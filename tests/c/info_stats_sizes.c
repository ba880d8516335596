/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Structs filled in: never more than their size is written, a longer tail is zeroed, too short -EINVAL. */
#include "common.h"

#define INFO_FIRST  40
#define STATS_FIRST 128

static _Alignas(8) unsigned char bytes[4096 + 64];

static void all_are(size_t from, size_t to, unsigned char value)
{
	for (size_t i = from; i < to; i++)
		if (bytes[i] != value)
			fail("byte %zu is %#x, not %#x", i, bytes[i], value);
}

static void each_size(snapsend_t *ctx, bool info, size_t first, size_t now)
{
	static const size_t longer[] = { 1, 7, 8, 100, 3000 };
	static const size_t shorter[] = { 0, 1, 4, 8 };

	for (size_t i = 0; i <= COUNT_OF(shorter); i++) {
		size_t size = i < COUNT_OF(shorter) ? shorter[i] : first - 1;
		memset(bytes, 0xaa, sizeof bytes);
		CHECK_ERR(info ? snapsend_get_info(ctx, (struct snapsend_info *)bytes, size)
			       : snapsend_get_stats(ctx, (struct snapsend_stats *)bytes, size),
			  EINVAL);
		all_are(0, sizeof bytes, 0xaa);
	}
	for (size_t i = 0; i < 2 + COUNT_OF(longer); i++) {
		size_t size = i == 0 ? first : i == 1 ? now : now + longer[i - 2];
		memset(bytes, 0xaa, sizeof bytes);
		CHECK_EQ(info ? snapsend_get_info(ctx, (struct snapsend_info *)bytes, size)
			      : snapsend_get_stats(ctx, (struct snapsend_stats *)bytes, size),
			 0);
		if (info)
			CHECK_UEQ(((struct snapsend_info *)bytes)->version, snapsend_version());
		else
			CHECK_UEQ(((struct snapsend_stats *)bytes)->submitted, 0);
		if (size > now)
			all_are(now, size, 0);
		all_are(size, sizeof bytes, 0xaa);
	}
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	CHECK_UGE(sizeof(struct snapsend_info), INFO_FIRST);
	CHECK_UGE(sizeof(struct snapsend_stats), STATS_FIRST);
	each_size(ctx, true, INFO_FIRST, sizeof(struct snapsend_info));
	each_size(ctx, false, STATS_FIRST, sizeof(struct snapsend_stats));
	destroy_ctx(ctx);
	return 0;
}
