/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Cut off to nothing, then removed and overwritten, the moment DONE comes: what was sent arrives whole. */
#include "data_common.h"

#define LENGTH (300 * KIB)

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 26), sv[2];
	unsigned char *image = image_of(0, LENGTH, 26), *got = malloc(LENGTH);
	CHECK(got != NULL);
	for (int round = 0; round < 60; round++) {
		struct snapsend_completion done;
		if (!pair_of_kind((enum kind)(round % KINDS), sv, SHOT_SNDBUF))
			continue;
		file_put(file, 0, image, LENGTH);
		if (round % 2)
			drop_cache(file);
		size_t length = room_in(sv[0]) < LENGTH ? room_in(sv[0]) : LENGTH;
		struct snapsend_request request = make_request(sv[0], file, 0, length);
		request.flags = flags[round / KINDS % 3];
		wait_done(ctx, submit_ok(ctx, &request), &done);
		SYS(ftruncate(file, 0));
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(read_all(sv[1], got, length), length);
		CHECK(memcmp(got, image, length) == 0);
		close_pair(sv);
	}
	free(image);
	free(got);
	destroy_ctx(ctx);
	return 0;
}
