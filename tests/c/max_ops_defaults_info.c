/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What snapsend_get_info says of the defaults, and of what was asked for. */
#include "common.h"

int main(void)
{
	struct snapsend_info info;
	snapsend_t *ctx = NULL;
	const char *engine = engine_name();
	CHECK_EQ(snapsend_create(NULL, 0, &ctx), 0);
	memset(&info, 0xaa, sizeof info);
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	CHECK_UEQ(info.max_ops, 65536);
	CHECK_UEQ(info.pool_bytes, 32 * MIB);
	CHECK_UGE(info.exact_max, 1);
	CHECK_ULE(info.exact_max, info.pool_bytes);
	CHECK(info.engine == SNAPSEND_ENGINE_URING || info.engine == SNAPSEND_ENGINE_PORTABLE);
	CHECK_LE(info.engine_errno, 0);
	if (strcmp(engine, "uring") == 0)
		CHECK_UEQ(info.engine, SNAPSEND_ENGINE_URING);
	if (strcmp(engine, "portable") == 0) {
		CHECK_UEQ(info.engine, SNAPSEND_ENGINE_PORTABLE);
		CHECK_EQ(info.engine_errno, 0); /* was not asked for */
	}
	if (info.engine == SNAPSEND_ENGINE_URING)
		CHECK_EQ(info.engine_errno, 0);
	uint64_t exact_default = info.exact_max;
	destroy_ctx(ctx);

	ctx = create_ctx_with(100, 8 * MIB, 65536);
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	CHECK_UEQ(info.max_ops, 100);
	CHECK_UEQ(info.pool_bytes, 8 * MIB);
	CHECK_UGE(info.exact_max, 1);
	CHECK_ULE(info.exact_max, info.pool_bytes);
	CHECK_ULE(info.exact_max, exact_default);

	/* exact_max is the border that it says it is. */
	int sv[2];
	unix_pair(sv);
	int file = temp_file(0, 1);
	SYS(ftruncate(file, (off_t)info.exact_max + 1));
	struct snapsend_request request = make_request(sv[0], file, 0, info.exact_max + 1);
	request.flags = SNAPSEND_EXACT;
	expect_too_long(ctx, &request);
	request.length = info.exact_max;
	struct snapsend_completion completion;
	struct reader reader;
	reader_init(&reader, sv[1], info.exact_max);
	reader_go(&reader);
	wait_done(ctx, submit_ok(ctx, &request), &completion);
	CHECK_EQ(completion.status, 0);
	CHECK_UEQ(completion.wire_bytes, info.exact_max);
	reader_join(&reader);
	destroy_ctx(ctx);
	return 0;
}
