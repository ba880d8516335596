/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Truncated at random times to random lengths while a slow peer reads: DONE comes, nothing is killed by
 * SIGBUS, the peer's count is wire_bytes, and what lay below every truncation point is right. Status 0 is
 * only for the whole range with every byte as it was. */
#include "data_common.h"

#define LENGTH (4 * MIB + 1234)
#define ROUNDS 90
#define HEAD   100

/* Below cut: as it was. Above: as it was, or the zeros that the kernel shows up to the page's end. */
static void check_data(const unsigned char *got, size_t n, const unsigned char *image, size_t cut, bool whole)
{
	size_t sure = whole || n < cut ? n : cut;
	if (memcmp(got, image, sure) != 0)
		fail("wrong bytes below the truncation point %zu (of %zu, %s)", cut, n,
		     whole ? "status 0" : "-ENODATA");
	for (size_t i = sure; i < n; i++)
		if (got[i] != image[i] && got[i] != 0)
			fail("byte %zu is neither the file's nor 0", i);
}

/* One or two truncations; the shortest length. */
static size_t truncate_once_or_twice(int file)
{
	size_t length = (size_t)rand() % LENGTH;
	if (rand() % 4 == 0)
		length &= ~(size_t)4095;
	if (rand() % 10 == 0)
		length = 0;
	usleep((useconds_t)(rand() % 6000));
	SYS(ftruncate(file, (off_t)length));
	if (rand() % 2) {
		usleep((useconds_t)(rand() % 2000));
		length -= length ? (size_t)rand() % length : 0;
		SYS(ftruncate(file, (off_t)length));
	}
	return length;
}

static void one(snapsend_t *ctx, int file, const unsigned char *image, int round, int outcomes[2])
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, 0 };
	int sv[2];
	struct snapsend_completion done;
	struct reader reader;
	unsigned char head[HEAD];
	struct iovec piece = { head, HEAD };
	if (!pair_of_kind((enum kind)(round % KINDS), sv, 128 * 1024))
		return;
	memset(head, 'h', HEAD);
	file_put(file, 0, image, LENGTH);
	if (round % 5 == 0)
		drop_cache(file);
	reader_start_slow(&reader, sv[1], 30);
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = flags[round / KINDS % 4];
	request.header = &piece, request.header_count = 1;
	uint64_t id = submit_ok(ctx, &request);
	size_t cut = truncate_once_or_twice(file);
	wait_done(ctx, id, &done);
	SYS(shutdown(sv[0], SHUT_WR));
	size_t got = reader_join(&reader);
	CHECK_UEQ(got, done.wire_bytes);
	CHECK(done.status == 0 || done.status == -ENODATA);
	outcomes[done.status == 0]++;
	if (done.status == 0)
		CHECK_UEQ(got, HEAD + LENGTH);
	if (done.status != 0 && (request.flags & SNAPSEND_EXACT))
		CHECK_UEQ(got, 0);
	if (got > 0) {
		CHECK_UGE(got, HEAD);
		CHECK_UEQ(done.file_bytes, got - HEAD);
		CHECK(memcmp(reader.data, head, HEAD) == 0);
		check_data(reader.data + HEAD, got - HEAD, image, cut, done.status == 0);
	}
	reader_free(&reader);
	close_pair(sv);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, LENGTH, 27);
	int file = temp_file(LENGTH, 27), outcomes[2] = { 0, 0 };
	srand(27);
	for (int round = 0; round < ROUNDS; round++)
		one(ctx, file, image, round, outcomes);
	printf("%d cut off, %d whole\n", outcomes[0], outcomes[1]);
	CHECK_GT(outcomes[0], 0); /* or the times are badly chosen */
	destroy_ctx(ctx);
	return 0;
}
