/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What was written before submit, by write or through a mapping, is in the data. */
#include "data_common.h"

#define LENGTH (256 * KIB)
#define ROUNDS 1500

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 30), sv[2];
	unsigned char *image = image_of(0, LENGTH, 30), got[8192];
	unsigned char *map = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	CHECK(map != MAP_FAILED);
	srand(30);
	unix_pair(sv);
	for (int round = 0; round < ROUNDS; round++) {
		size_t at = (size_t)rand() % (LENGTH - 8192), n = 1 + (size_t)rand() % 8192;
		memset(image + at, round, n);
		if (round % 2)
			memset(map + at, round, n);
		else
			file_put(file, at, image + at, n);
		struct snapsend_request request = make_request(sv[0], file, at, n);
		request.flags = flags[round % 3];
		CHECK_UEQ(call_done(ctx, (enum call)(round / 6 % CALLS), request).wire_bytes, n);
		CHECK_UEQ(read_all(sv[1], got, n), n);
		CHECK(memcmp(got, image + at, n) == 0);
		if (round % 100 == 0) {
			drop_cache(file);
			transfer_ok(ctx, sv, make_request(-1, file, 0, LENGTH), image, LENGTH);
		}
	}
	free(image);
	destroy_ctx(ctx);
	return 0;
}
