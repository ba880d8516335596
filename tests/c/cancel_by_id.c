/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Cancel one operation: the one in work, one that waits behind it. The stream stays exact. */
#include "common.h"

static snapsend_t *ctx;
static int file;

static void behind(int family)
{
	int sv[2];
	uint64_t ids[5];
	struct snapsend_completion completion;
	struct reader reader;
	if (!pair_sized(family, sv, 65536, 65536))
		return;
	uint64_t filled = fill_socket(sv[0]);
	for (int i = 0; i < 5; i++) {
		struct snapsend_request request = make_request(sv[0], file, (uint64_t)i * 1000, 1000);
		request.user_data = (uint64_t)i;
		ids[i] = submit_ok(ctx, &request);
	}
	/* Those that wait end untouched, and at once though the peer does not read. */
	static const int which[] = { 4, 2 };
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(snapsend_cancel(ctx, ids[which[i]]), 0);
		wait_done_ms(ctx, ids[which[i]], &completion, 5000);
		CHECK_EQ(completion.status, -ECANCELED);
		CHECK_UEQ(completion.wire_bytes, 0);
		CHECK_UEQ(completion.file_bytes, 0);
		CHECK_UEQ(completion.user_data, which[i]);
		CHECK_ERR(snapsend_cancel(ctx, ids[which[i]]), ENOENT);
	}
	expect_nothing(ctx, 50);

	/* The others go out as if nothing had been. */
	reader_start_keep(&reader, sv[1], filled + 3000);
	static const int left[] = { 0, 1, 3 };
	for (int i = 0; i < 3; i++) {
		wait_done(ctx, ids[left[i]], &completion);
		CHECK_EQ(completion.status, 0);
		CHECK_UEQ(completion.wire_bytes, 1000);
	}
	reader_join(&reader);
	for (size_t i = 0; i < 3; i++)
		CHECK(pattern_bad(reader.data + filled + i * 1000, (uint64_t)left[i] * 1000, 1000, 1) == SIZE_MAX);
	reader_free(&reader);
	CHECK_UEQ(drain(sv[1], 20), 0);
	close(sv[0]);
	close(sv[1]);
}

static void part_way(int family, uint32_t flags)
{
	int sv[2];
	struct snapsend_completion completion, queued;
	struct iovec head = { "0123456789", 10 };
	if (!pair_sized(family, sv, 0, 0))
		return;
	struct snapsend_request request = make_request(sv[0], file, 0, 8 * MIB); /* more than the socket takes */
	request.header = &head;
	request.header_count = 1;
	request.flags = flags;
	uint64_t first = submit_ok(ctx, &request);
	uint64_t second = submit_ok(ctx, &request);
	struct pollfd p = { .fd = sv[1], .events = POLLIN };
	CHECK_EQ(poll(&p, 1, WAIT_MS), 1); /* it has begun */
	sleep_ms(30);
	CHECK_EQ(snapsend_cancel(ctx, first), 0);
	wait_done_ms(ctx, first, &completion, 5000);
	CHECK_EQ(completion.status, -ECANCELED);
	CHECK_UGE(completion.wire_bytes, 11); /* the socket was empty: something went out */
	CHECK_UEQ(completion.file_bytes, completion.wire_bytes - 10);

	/* The stream is cut off, so what was queued behind must not follow. */
	wait_done_ms(ctx, second, &queued, 5000);
	CHECK_EQ(queued.status, -ECANCELED);
	CHECK_UEQ(queued.wire_bytes, 0);
	close(sv[0]);
	struct reader reader;
	reader_init(&reader, sv[1], UINT64_MAX);
	reader.check = true;
	reader.skip = 10;
	reader.seed = 1;
	reader_go(&reader);
	CHECK_UEQ(reader_join(&reader), completion.wire_bytes);
	close(sv[1]);
}

int main(void)
{
	static const int families[] = { AF_INET, AF_INET6, AF_UNIX };
	ctx = create_ctx();
	file = temp_file(8 * MIB, 1);
	for (size_t i = 0; i < COUNT_OF(families); i++) {
		behind(families[i]);
		part_way(families[i], 0);
		part_way(families[i], SNAPSEND_EAGER);
		part_way(families[i], SNAPSEND_EXACT);
	}
	expect_nothing(ctx, 50);
	destroy_ctx(ctx);
	return 0;
}
