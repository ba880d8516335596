/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A file that is too short from the start: -ENODATA, wire_bytes 0 even where there is a header, and the
 * connection is untouched: what is queued behind goes out. */
#include "data_common.h"

#define FILE_LENGTH 200000

int main(void)
{
	static const struct {
		uint64_t offset, length;
	} ranges[] = {
		{ 0, FILE_LENGTH + 1 }, { FILE_LENGTH - 1, 2 }, { FILE_LENGTH, 1 }, { FILE_LENGTH + 1, 1 },
		{ 0, 40 * MIB },        { 4096, 5 * GIB },      { 1ULL << 45, 10 },
	};
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_MORE };
	snapsend_t *ctx = create_ctx();
	int file = temp_file(2 * FILE_LENGTH, 25), sv[2];
	struct iovec head = { (char[]){ "header" }, 6 };
	unsigned char *image = image_of(0, FILE_LENGTH, 25);
	SYS(ftruncate(file, FILE_LENGTH));
	for (int kind = 0; kind < KINDS; kind++) {
		if (!pair_of_kind((enum kind)kind, sv, 0))
			continue;
		for (size_t i = 0; i < COUNT_OF(ranges) * COUNT_OF(flags); i++) {
			struct snapsend_completion done;
			struct snapsend_request request =
				make_request(sv[0], file, ranges[i / 3].offset, ranges[i / 3].length);
			request.flags = flags[i % 3];
			request.header = &head, request.header_count = 1;
			uint64_t id = submit_ok(ctx, &request);
			transfer_ok(ctx, sv, make_request(-1, file, 3, FILE_LENGTH - 3), image + 3, FILE_LENGTH - 3);
			wait_done(ctx, id, &done);
			CHECK_EQ(done.status, -ENODATA);
			CHECK_UEQ(done.wire_bytes, 0);
			CHECK_UEQ(done.file_bytes, 0);
		}
		close_pair(sv);
	}
	free(image);
	destroy_ctx(ctx);
	return 0;
}
