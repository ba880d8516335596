/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SNAPSEND_TO_EOF: to the end as it is when the operation starts; at or past the end an empty range. */
#include "data_common.h"

#define FILE_LENGTH (3 * MIB + 4001)

int main(void)
{
	static const uint64_t offsets[] = {
		0, 1, 4096, 123457, FILE_LENGTH - 1, FILE_LENGTH, FILE_LENGTH + 1, FILE_LENGTH + 4096, 1ULL << 40
	};
	snapsend_t *ctx = create_ctx();
	int file = temp_file(FILE_LENGTH, 4), empty = temp_file(0, 0), sv[2];
	unsigned char *image = image_of(0, FILE_LENGTH, 4);
	unsigned char *wrapped = malloc(FILE_LENGTH + 6);
	CHECK(wrapped != NULL);
	struct iovec head = { (char[]){ "ABC" }, 3 }, tail = { (char[]){ "xyz" }, 3 };
	tcp_pair(sv);
	for (size_t i = 0; i < 2 * COUNT_OF(offsets); i++) {
		uint64_t at = offsets[i / 2], length = at < FILE_LENGTH ? FILE_LENGTH - at : 0;
		struct snapsend_request request = make_request(-1, file, at, SNAPSEND_TO_EOF);
		request.flags = i % 2 ? SNAPSEND_EXACT : 0;
		CHECK_UEQ(transfer_ok(ctx, sv, request, image + (length ? at : 0), length).file_bytes, length);
		request.header = &head, request.trailer = &tail;
		request.header_count = request.trailer_count = 1;
		memcpy(wrapped, "ABC", 3);
		memcpy(wrapped + 3, image + (length ? at : 0), length);
		memcpy(wrapped + 3 + length, "xyz", 3);
		CHECK_UEQ(transfer_ok(ctx, sv, request, wrapped, length + 6).file_bytes, length);
	}
	CHECK_UEQ(transfer_ok(ctx, sv, make_request(-1, empty, 0, SNAPSEND_TO_EOF), NULL, 0).file_bytes, 0);
	free(image);
	free(wrapped);
	destroy_ctx(ctx);
	return 0;
}
