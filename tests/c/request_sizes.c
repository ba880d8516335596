/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Requests carry their size: shorter than the first version -EINVAL, longer accepted with a zero tail. */
#include "common.h"

#define FIRST_VERSION 64 /* size of struct snapsend_request in the first version */

static snapsend_t *ctx;
static int sv[2];
static union {
	struct snapsend_request request;
	unsigned char bytes[4096];
} u;

/* How each function takes a request of that size: its result, and the bytes that came out are counted. */
static int submit_size(size_t size, uint32_t how)
{
	struct snapsend_completion c;
	uint64_t id = 0;
	int result;
	if (how == 0) {
		result = snapsend_submit(ctx, &u.request, size, &id);
	} else if (how == 1) {
		result = snapsend_submit_many(ctx, &u.request, size, 1, &id);
		result = result == 1 ? 0 : result;
	} else if (how == 2) {
		result = snapsend_try_send(ctx, &u.request, size, &c);
		if (result >= 0)
			id = c.id;
	} else {
		result = snapsend_send(ctx, &u.request, size, &c);
	}
	if (result < 0) {
		CHECK_UEQ(drain(sv[1], 5), 0);
		return result;
	}
	if (how < 2 || (how == 2 && result == 0))
		wait_done(ctx, id, &c);
	char got[16];
	CHECK_EQ(c.status, 0);
	CHECK_UEQ(c.user_data, 77);
	CHECK_EQ(read_all(sv[1], got, 10), 10);
	CHECK(pattern_bad(got, 5, 10, 1) == SIZE_MAX);
	return 0;
}

int main(void)
{
	ctx = create_ctx();
	unix_pair(sv);
	int file = temp_file(100, 1);
	u.request = make_request(sv[0], file, 5, 10);
	u.request.user_data = 77;
	CHECK_UGE(sizeof u.request, FIRST_VERSION);

	for (uint32_t how = 0; how < 4; how++) {
		static const size_t too_short[] = { 0, 1, 8, 56, FIRST_VERSION - 1 };
		for (size_t i = 0; i < COUNT_OF(too_short); i++)
			CHECK_ERR(submit_size(too_short[i], how), EINVAL);
		CHECK_EQ(submit_size(FIRST_VERSION, how), 0);
		CHECK_EQ(submit_size(sizeof u.request, how), 0);
		for (size_t size = sizeof u.request + 1; size <= sizeof u.bytes; size += size < 90 ? 1 : 445) {
			CHECK_EQ(submit_size(size, how), 0);
			u.bytes[size - 1] = 1; /* something this library does not know */
			CHECK_ERR(submit_size(size, how), E2BIG);
			u.bytes[size - 1] = 0;
			u.bytes[sizeof u.request] = 0x80;
			CHECK_ERR(submit_size(size, how), E2BIG);
			u.bytes[sizeof u.request] = 0;
			if (size < sizeof u.bytes) { /* what lies behind is not looked at */
				u.bytes[size] = 1;
				CHECK_EQ(submit_size(size, how), 0);
				u.bytes[size] = 0;
			}
		}
	}

	/* In an array the size is the step. */
	struct {
		struct snapsend_request request;
		uint64_t tail[3];
	} many[4];
	uint64_t ids[4];
	memset(many, 0, sizeof many);
	for (int i = 0; i < 4; i++)
		many[i].request = make_request(sv[0], file, (uint64_t)(10 * i), 10);
	CHECK_EQ(snapsend_submit_many(ctx, &many[0].request, sizeof many[0], 4, ids), 4);
	for (int i = 0; i < 4; i++)
		wait_done(ctx, ids[i], NULL);
	char got[40];
	CHECK_EQ(read_all(sv[1], got, 40), 40);
	CHECK(pattern_bad(got, 0, 40, 1) == SIZE_MAX);
	many[2].tail[2] = 1; /* the third is refused: two were taken */
	CHECK_EQ(snapsend_submit_many(ctx, &many[0].request, sizeof many[0], 4, ids), 2);
	for (int i = 0; i < 2; i++)
		wait_done(ctx, ids[i], NULL);
	expect_nothing(ctx, 20);
	destroy_ctx(ctx);
	return 0;
}
