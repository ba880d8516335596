/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* TO_EOF and a file that shrinks meanwhile: it ends early with status 0, the trailer included, and what
 * was sent is a true beginning of the range. */
#include "data_common.h"

#define LENGTH (4 * MIB + 1234)
#define ROUNDS 90

static void one(snapsend_t *ctx, int file, const unsigned char *image, int round, int *shorter)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, 0 };
	int sv[2];
	struct snapsend_completion done;
	struct reader reader;
	struct iovec tail = { (char[]){ "tail" }, 4 };
	if (!pair_of_kind((enum kind)(round % KINDS), sv, 128 * 1024))
		return;
	file_put(file, 0, image, LENGTH);
	if (round % 5 == 0)
		drop_cache(file);
	reader_start_slow(&reader, sv[1], 30);
	struct snapsend_request request = make_request(sv[0], file, 0, SNAPSEND_TO_EOF);
	request.flags = flags[round / KINDS % 4];
	request.trailer = &tail, request.trailer_count = 1;
	uint64_t id = submit_ok(ctx, &request);
	size_t cut = truncate_at_random(file, LENGTH);
	wait_done(ctx, id, &done);
	SYS(shutdown(sv[0], SHUT_WR));
	size_t got = reader_join(&reader), range = got - 4;
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(got, done.wire_bytes);
	CHECK_UEQ(range, done.file_bytes);
	CHECK(range >= cut && range <= LENGTH);
	CHECK(memcmp(reader.data + range, "tail", 4) == 0);
	if (memcmp(reader.data, image, range) != 0)
		fail("truncated to %zu, %zu bytes came, not all of them the file's", cut, range);
	*shorter += range < LENGTH;
	reader_free(&reader);
	close_pair(sv);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, LENGTH, 28);
	int file = temp_file(LENGTH, 28), shorter = 0;
	srand(28);
	for (int round = 0; round < ROUNDS; round++)
		one(ctx, file, image, round, &shorter);
	CHECK_GT(shorter, 0); /* or the times are badly chosen */
	destroy_ctx(ctx);
	return 0;
}
