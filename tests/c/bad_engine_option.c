/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* engine: one */
/* Engines that do not exist, and the other options at the ends of their ranges and beyond: refused, or a context
 * that works. */
#include "common.h"

static int sv[2];
static int file;

static int create(const struct snapsend_options *options)
{
	snapsend_t *ctx = NULL;
	int result = snapsend_create(options, sizeof *options, &ctx);
	CHECK_LE(result, 0);
	if (result < 0) {
		CHECK(ctx == NULL);
		return result;
	}
	struct snapsend_request request = make_request(sv[0], file, 0, 20000);
	struct snapsend_completion completion;
	struct reader reader;
	reader_start_check(&reader, sv[1], 20000, 0, 1);
	wait_done(ctx, submit_ok(ctx, &request), &completion);
	CHECK_EQ(completion.status, 0);
	reader_join(&reader);
	destroy_ctx(ctx);
	return 0;
}

int main(void)
{
	struct snapsend_options options;
	unix_pair(sv);
	file = temp_file(20000, 1);
	memset(&options, 0, sizeof options);
	int fds = count_fds(), threads = count_threads();

	static const uint32_t no_engines[] = { 3, 4, 255, 256, 1u << 16, INT32_MAX, UINT32_MAX };
	for (size_t i = 0; i < COUNT_OF(no_engines); i++) {
		options.engine = no_engines[i];
		CHECK_ERR(create(&options), EINVAL);
	}
	options.engine = 0;
	options.reserved0 = 1;
	CHECK_ERR(create(&options), EINVAL);
	options.reserved0 = 0;

	static const struct {
		uint64_t value;
		int result;
	} pools[] = { { 1, -EINVAL }, { 65535, -EINVAL }, { 65536, 0 }, { 1ULL << 40, 0 }, { UINT64_MAX, -EINVAL } };
	static const struct {
		uint64_t value;
		int result;
	} chunks[] = { { 1, -EINVAL }, { 4095, -EINVAL }, { 4096, 0 }, { 1ULL << 40, 0 }, { UINT64_MAX, 0 } };
	static const struct {
		uint32_t value;
		int result;
	} ops[] = { { 1, 0 }, { 1048576, 0 }, { 1048577, -EINVAL }, { UINT32_MAX, -EINVAL } };
	memset(&options, 0, sizeof options);
	for (size_t i = 0; i < COUNT_OF(pools); i++) {
		options.pool_bytes = pools[i].value;
		CHECK_EQ(create(&options), pools[i].result);
	}
	options.pool_bytes = 0;
	for (size_t i = 0; i < COUNT_OF(chunks); i++) {
		options.chunk_bytes = chunks[i].value;
		CHECK_EQ(create(&options), chunks[i].result);
	}
	options.chunk_bytes = 0;
	for (size_t i = 0; i < COUNT_OF(ops); i++) {
		options.max_ops = ops[i].value;
		CHECK_EQ(create(&options), ops[i].result);
	}
	options.max_ops = 0;
	CHECK_EQ(count_fds(), fds);
	CHECK_EQ(wait_threads(threads, 2000), threads);
	return 0;
}
