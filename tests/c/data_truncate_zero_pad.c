/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ZERO_PAD and a file that shrinks meanwhile: all bytes come, zeros for what was gone. */
#include "data_common.h"

#define LENGTH (4 * MIB + 1234)

static void one(snapsend_t *ctx, int file, const unsigned char *image, int round, int *padded)
{
	int sv[2];
	struct snapsend_completion done;
	struct reader reader;
	if (!pair_of_kind((enum kind)(round % KINDS), sv, 128 * 1024))
		return;
	file_put(file, 0, image, LENGTH);
	reader_start_slow(&reader, sv[1], 30);
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = SNAPSEND_ZERO_PAD | (round % 2 ? SNAPSEND_EAGER : 0);
	uint64_t id = submit_ok(ctx, &request);
	size_t cut = truncate_at_random(file, LENGTH);
	wait_done(ctx, id, &done);
	SYS(shutdown(sv[0], SHUT_WR));
	CHECK_UEQ(reader_join(&reader), LENGTH);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, LENGTH);
	CHECK_UEQ(done.file_bytes, LENGTH);
	CHECK(memcmp(reader.data, image, cut) == 0);
	bool zeros = false;
	for (size_t i = cut; i < LENGTH; i++) {
		if (reader.data[i] != image[i] && reader.data[i] != 0)
			fail("byte %zu is neither the file's nor 0", i);
		zeros = zeros || reader.data[i] != image[i];
	}
	if (zeros) /* a few bytes of the pattern are 0 anyway */
		CHECK_UNE(done.flags & SNAPSEND_WAS_PADDED, 0);
	*padded += zeros;
	reader_free(&reader);
	close_pair(sv);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, LENGTH, 29);
	int file = temp_file(LENGTH, 29), padded = 0;
	srand(29);
	for (int round = 0; round < 60; round++)
		one(ctx, file, image, round, &padded);
	CHECK_GT(padded, 0);
	destroy_ctx(ctx);
	return 0;
}
