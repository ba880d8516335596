/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* EXACT: info.exact_max is taken, one byte more gives -EMSGSIZE, whatever the pool. */
#include "data_common.h"

static void with_pool(uint64_t pool_bytes)
{
	snapsend_t *ctx = create_ctx_with(0, pool_bytes, 0);
	struct snapsend_info info;
	int sv[2];
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	CHECK_UEQ(info.pool_bytes, pool_bytes ? pool_bytes : 32 * MIB);
	CHECK_UNE(info.exact_max, 0);
	CHECK_ULE(info.exact_max, info.pool_bytes); /* or where would it be kept */
	unsigned char *image = image_of(0, info.exact_max + 1, 15);
	int file = temp_file(info.exact_max + 1, 15);
	tcp_pair(sv);
	struct snapsend_request request = make_request(sv[0], file, 0, info.exact_max + 1);
	request.flags = SNAPSEND_EXACT;
	expect_too_long(ctx, &request);
	request.length = 1ULL << 50;
	if (has_statmount()) /* where not, the end of the file is found first */
		expect_too_long(ctx, &request);
	expect_silence(sv[1]);
	request.length = info.exact_max;
	for (request.offset = 0; request.offset < 2; request.offset++)
		transfer_ok(ctx, sv, request, image + request.offset, request.length);
	close_pair(sv);
	close(file);
	free(image);
	destroy_ctx(ctx);
}

int main(void)
{
	with_pool(0);
	with_pool(4 * MIB);
	with_pool(16 * MIB);
	return 0;
}
