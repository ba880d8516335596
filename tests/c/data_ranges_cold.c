/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The same bytes when the page cache holds nothing, or only some pages, of the range. */
#include "data_common.h"

#define FILE_LENGTH (6 * MIB + 77)

static void one(snapsend_t *ctx, int sv[2], int file, const unsigned char *image, unsigned round)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	char byte;
	drop_cache(file);
	if (cached_bytes(file, FILE_LENGTH) > FILE_LENGTH / 2)
		skip("this file system keeps its pages");
	SYS(posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM)); /* or the next line brings its neighbours along */
	for (unsigned i = 0; i < round % 4 * 40; i++)      /* islands of warm pages */
		CHECK_EQ(pread(file, &byte, 1, (off_t)(rand() % (int)FILE_LENGTH)), 1);
	SYS(posix_fadvise(file, 0, 0, POSIX_FADV_NORMAL));
	uint64_t offset = (uint64_t)rand() % FILE_LENGTH;
	uint64_t length = 1 + (uint64_t)rand() % (FILE_LENGTH - offset);
	struct snapsend_request request = make_request(-1, file, offset, length);
	request.flags = flags[round % 3];
	transfer_ok(ctx, sv, request, image + offset, length);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(FILE_LENGTH, 2), sv[2];
	unsigned char *image = image_of(0, FILE_LENGTH, 2);
	srand(2);
	for (int kind = 0; kind < KINDS; kind++) {
		if (!pair_of_kind((enum kind)kind, sv, 0))
			continue;
		doing(kind_name[kind]);
		for (unsigned round = 0; round < 24; round++)
			one(ctx, sv, file, image, round);
		close_pair(sv);
	}
	free(image);
	close(file);
	destroy_ctx(ctx);
	return 0;
}
