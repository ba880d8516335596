/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Chunk sizes that the caller chose, the smallest pool: only the way changes, never the bytes. */
#include "data_common.h"

#define FILE_LENGTH (2 * MIB + 4099)

int main(void)
{
	static const struct {
		uint64_t pool, chunk;
	} sizes[] = {
		{ 0, 1 },       { 0, 4096 }, { 0, 5000 },      { 0, 65536 },
		{ 0, 8 * MIB }, { MIB, 0 },  { MIB, 3 * MIB }, { 4 * MIB, 12345 },
	};
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	int file = temp_file(FILE_LENGTH, 3), sv[2];
	unsigned char *image = image_of(0, FILE_LENGTH, 3);
	tcp_pair(sv);
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		snapsend_t *ctx = NULL;
		struct snapsend_options options = { .pool_bytes = sizes[i].pool, .chunk_bytes = sizes[i].chunk };
		int result = snapsend_create(&options, sizeof options, &ctx);
		if (result == -EINVAL)
			continue; /* it may have a least size, if it says so */
		CHECK_EQ(result, 0);
		struct snapsend_info info;
		CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
		for (size_t k = 0; k < COUNT_OF(flags); k++) {
			size_t length = sizes[i].chunk == 1 ? 3000 : FILE_LENGTH - 4097;
			if (flags[k] == SNAPSEND_EXACT && length > info.exact_max)
				length = (size_t)info.exact_max;
			struct snapsend_request request = make_request(-1, file, 4097, length);
			request.flags = flags[k];
			transfer_ok(ctx, sv, request, image + 4097, length);
		}
		destroy_ctx(ctx);
	}
	free(image);
	return 0;
}
