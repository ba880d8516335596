/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Lengths around every boundary at odd offsets: exactly these bytes arrive. */
#include "data_common.h"

static const size_t lengths[] = { 1, 2, 3, 4095, 4096, 4097, 65535, 65536, 65537, MIB - 1, MIB, MIB + 1, 16 * MIB };
static const size_t offsets[] = { 0, 1, 511, 4095, 4096, 4097, 65537, 1234567 };
static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };

#define FILE_LENGTH (18 * MIB + 1)

static void over(snapsend_t *ctx, int sv[2], int file, const unsigned char *image)
{
	struct snapsend_info info;
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	for (size_t i = 0; i < COUNT_OF(lengths); i++)
		for (size_t j = 0; j < COUNT_OF(offsets); j++)
			for (size_t k = 0; k < COUNT_OF(flags); k++) {
				if (lengths[i] == 16 * MIB && j + 1 < COUNT_OF(offsets))
					continue; /* once is enough, it takes its time */
				if (flags[k] == SNAPSEND_EXACT && lengths[i] > info.exact_max)
					continue;
				struct snapsend_request request = make_request(-1, file, offsets[j], lengths[i]);
				request.flags = flags[k];
				struct snapsend_completion done =
					transfer_ok(ctx, sv, request, image + offsets[j], lengths[i]);
				CHECK_UEQ(done.file_bytes, lengths[i]);
				CHECK_EQ(done.flags & SNAPSEND_WAS_PADDED, 0);
			}
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(FILE_LENGTH, 1), sv[2];
	unsigned char *image = image_of(0, FILE_LENGTH, 1);
	for (int kind = 0; kind < KINDS; kind++) {
		if (!pair_of_kind((enum kind)kind, sv, 0))
			continue;
		doing(kind_name[kind]);
		over(ctx, sv, file, image);
		close_pair(sv);
	}
	free(image);
	close(file);
	destroy_ctx(ctx);
	return 0;
}
