/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Files with holes: zeros where nothing was written, and sending fills no hole. */
#include "data_common.h"

#define FILE_LENGTH (8 * MIB + 333)

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	snapsend_t *ctx = create_ctx();
	int file = temp_file(0, 0), sv[2];
	unsigned char *image = calloc(1, FILE_LENGTH);
	CHECK(image != NULL);
	srand(7);
	SYS(ftruncate(file, FILE_LENGTH)); /* the last part stays a hole */
	for (int i = 0; i < 30; i++) {
		size_t at = (size_t)rand() % (6 * MIB), length = 1 + (size_t)rand() % 90000;
		pattern_fill(image + at, at, length, 7);
		file_put(file, at, image + at, length);
	}
	drop_cache(file); /* and written out: blocks are allocated now */
	struct stat before, after;
	SYS(fstat(file, &before));
	if ((uint64_t)before.st_blocks * 512 >= FILE_LENGTH)
		skip("no sparse files here");
	for (int kind = 0; kind < KINDS; kind++) {
		if (!pair_of_kind((enum kind)kind, sv, 0))
			continue;
		for (size_t k = 0; k < COUNT_OF(flags); k++) {
			struct snapsend_request request = make_request(-1, file, 4000, FILE_LENGTH - 4000);
			request.flags = flags[k];
			transfer_ok(ctx, sv, request, image + 4000, FILE_LENGTH - 4000);
			request = make_request(-1, file, 5 * MIB + 1, SNAPSEND_TO_EOF);
			request.flags = flags[k];
			transfer_ok(ctx, sv, request, image + 5 * MIB + 1, FILE_LENGTH - 5 * MIB - 1);
			drop_cache(file);
		}
		close_pair(sv);
	}
	SYS(fstat(file, &after));
	CHECK_EQ(after.st_blocks, before.st_blocks);
	free(image);
	destroy_ctx(ctx);
	return 0;
}
