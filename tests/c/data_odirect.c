/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A file opened with O_DIRECT: any offset and length all the same, and the descriptor stays as it is. */
#include "data_common.h"

#define FILE_LENGTH (3 * MIB + 1001)

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	static const struct {
		uint64_t offset, length;
	} ranges[] = {
		{ 0, 512 },
		{ 0, 4096 },
		{ 4096, 65536 },
		{ 1, 1 },
		{ 511, 3 },
		{ 4095, 2 },
		{ 513, 100001 },
		{ 0, FILE_LENGTH },
		{ 77, FILE_LENGTH - 77 },
		{ MIB + 1, MIB },
		{ FILE_LENGTH - 1, 1 },
		{ 3 * MIB, 1001 },
	};
	char path[PATH_MAX];
	snapsend_t *ctx = create_ctx();
	int writer = temp_file_path(FILE_LENGTH, 41, path), sv[2];
	SYS(fdatasync(writer));
	int file = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (file < 0)
		skip("this file system has no O_DIRECT");
	unsigned char *image = image_of(0, FILE_LENGTH, 41);
	for (int kind = 0; kind < KINDS; kind++) {
		if (!pair_of_kind((enum kind)kind, sv, 0))
			continue;
		for (size_t i = 0; i < COUNT_OF(ranges) * COUNT_OF(flags) * 2; i++) {
			uint64_t offset = ranges[i / 6].offset, length = ranges[i / 6].length;
			if (i % 2)
				drop_cache(writer);
			struct snapsend_request request = make_request(-1, file, offset, length);
			request.flags = flags[i / 2 % 3];
			transfer_ok(ctx, sv, request, image + offset, length);
			request.length = SNAPSEND_TO_EOF;
			if (i % 6 == 0)
				transfer_ok(ctx, sv, request, image + offset, FILE_LENGTH - offset);
		}
		close_pair(sv);
	}
	CHECK(fcntl(file, F_GETFL) & O_DIRECT);
	free(image);
	destroy_ctx(ctx);
	return 0;
}
