/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* EXACT: a range that the file does not hold sends nothing, not even the header, and the connection goes
 * on with the next operation. */
#include "data_common.h"

#define FILE_LENGTH 300000

int main(void)
{
	static const struct {
		uint64_t offset, length;
	} short_ranges[] = {
		{ 0, FILE_LENGTH + 1 }, { 1, FILE_LENGTH }, { 299999, 2 },        { FILE_LENGTH, 1 },
		{ 400000, 1 },          { 4096, 5 * MIB },  { 1ULL << 40, 4096 },
	};
	snapsend_t *ctx = create_ctx();
	int file = temp_file(FILE_LENGTH, 14), sv[2];
	unsigned char *image = image_of(0, FILE_LENGTH, 14);
	struct iovec head = { (char[]){ "header" }, 6 };
	for (int kind = 0; kind < KINDS; kind++) {
		if (!pair_of_kind((enum kind)kind, sv, 0))
			continue;
		for (size_t i = 0; i < 2 * COUNT_OF(short_ranges); i++) {
			struct snapsend_completion done;
			struct snapsend_request request =
				make_request(sv[0], file, short_ranges[i / 2].offset, short_ranges[i / 2].length);
			request.flags = SNAPSEND_EXACT;
			request.header = &head, request.header_count = 1;
			if (i % 2)
				drop_cache(file);
			wait_done(ctx, submit_ok(ctx, &request), &done);
			CHECK_EQ(done.status, -ENODATA);
			CHECK_UEQ(done.wire_bytes, 0);
			CHECK_UEQ(done.file_bytes, 0);
			expect_silence(sv[1]);
		}
		struct snapsend_request whole = make_request(-1, file, 0, FILE_LENGTH);
		whole.flags = SNAPSEND_EXACT;
		transfer_ok(ctx, sv, whole, image, FILE_LENGTH);
		close_pair(sv);
	}
	free(image);
	destroy_ctx(ctx);
	return 0;
}
