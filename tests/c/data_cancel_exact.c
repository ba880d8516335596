/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Cancelled at random moments while the peer reads slowly: wire_bytes is exactly what the peer gets, and these
 * bytes are right. */
#include "data_common.h"

#define LENGTH (12 * MIB + 99)
#define HEAD   3000
#define ROUNDS 240

static void one(snapsend_t *ctx, int file, const unsigned char *image, int round, int outcomes[2])
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, 0, SNAPSEND_EXACT };
	int sv[2];
	struct snapsend_completion done;
	struct reader reader;
	if (!pair_of_kind((enum kind)(round % KINDS), sv, round % 2 ? 64 * 1024 : 0))
		return;
	struct iovec head = { (void *)(uintptr_t)image, HEAD }; /* so the stream is the image */
	struct snapsend_request request = make_request(sv[0], file, HEAD, LENGTH - HEAD);
	request.header = &head, request.header_count = 1;
	request.flags = flags[round / KINDS % 4];
	if (round % 8 == 0)
		drop_cache(file);
	reader_init(&reader, sv[1], UINT64_MAX);
	reader.keep = true, reader.step = 48 * 1024, reader.pause_us = 50;
	reader_go(&reader);
	uint64_t id = submit_ok(ctx, &request);
	usleep((useconds_t)(rand() % (round % 16 == 0 ? 50 : 12000)));
	int result = round % 5 == 0 ? snapsend_cancel_socket(ctx, sv[0]) - 1 : snapsend_cancel(ctx, id);
	wait_done_ms(ctx, id, &done, 5000);
	if (result < 0) /* had ended already */
		CHECK_EQ(done.status, 0);
	CHECK(done.status == 0 || done.status == -ECANCELED);
	CHECK_EQ(done.status == 0, done.wire_bytes == LENGTH);
	SYS(shutdown(sv[0], SHUT_WR));
	uint64_t got = reader_join(&reader);
	CHECK_UEQ(got, done.wire_bytes);
	CHECK_UEQ(done.file_bytes, got > HEAD ? got - HEAD : 0);
	CHECK(got == 0 || memcmp(reader.data, image, got) == 0);
	outcomes[done.status == 0]++;
	reader_free(&reader);
	close_pair(sv);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, LENGTH, 37);
	int file = temp_file(LENGTH, 37), outcomes[2] = { 0, 0 };
	srand(37);
	for (int round = 0; round < ROUNDS; round++)
		one(ctx, file, image, round, outcomes);
	printf("%d cancelled, %d had ended\n", outcomes[0], outcomes[1]);
	CHECK_GT(outcomes[0], ROUNDS / 10); /* or the times are badly chosen */
	expect_nothing(ctx, 0);
	destroy_ctx(ctx);
	return 0;
}
