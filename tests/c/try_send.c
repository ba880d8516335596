/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* snapsend_try_send: 1 done here and now, 0 queued; never waits for the peer, keeps the order. */
#include "common.h"

static snapsend_t *ctx;
static int file;

static void idle(int family)
{
	int sv[2], inlined = 0;
	struct snapsend_completion completion;
	struct reader reader;
	if (!pair_sized(family, sv, 0, 0))
		return;
	reader_start_keep(&reader, sv[1], 200 * 2000);
	for (int i = 0; i < 200; i++) {
		struct snapsend_request request = make_request(sv[0], file, 500, 2000);
		request.user_data = (uint64_t)i;
		request.flags = i % 2 ? SNAPSEND_NOTIFY_SNAPSHOT : 0; /* ignored where the DONE comes directly */
		memset(&completion, 0xaa, sizeof completion);
		int result = snapsend_try_send(ctx, &request, sizeof request, &completion);
		CHECK(result == 0 || result == 1);
		inlined += result;
		if (result == 0) {
			uint64_t id = completion.id;
			CHECK_UNE(id, 0);
			if (request.flags)
				CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &completion, WAIT_MS));
			wait_done(ctx, id, &completion);
		} else {
			CHECK_UEQ(completion.event, SNAPSEND_EVENT_DONE);
			CHECK(completion.flags & SNAPSEND_WAS_INLINE);
			CHECK_ERR(snapsend_cancel(ctx, completion.id), ENOENT); /* it is over */
		}
		CHECK_EQ(completion.status, 0);
		CHECK_UEQ(completion.user_data, i);
		CHECK_UEQ(completion.wire_bytes, 2000);
	}
	expect_nothing(ctx, 20); /* none comes through poll for those done inline */
	reader_join(&reader);
	for (size_t i = 0; i < 200; i++)
		CHECK(pattern_bad(reader.data + i * 2000, 500, 2000, 1) == SIZE_MAX);
	reader_free(&reader);
	close(sv[0]);
	close(sv[1]);
	printf("family %d: %d of 200 inline\n", family, inlined);
}

/* Behind queued ones it must wait its turn, and the caller must not. */
static void behind(int family, uint64_t prefill)
{
	int sv[2];
	uint64_t ids[20], filled = 0;
	struct snapsend_completion completion;
	struct reader reader;
	if (!pair_sized(family, sv, prefill ? 65536 : 0, prefill ? 65536 : 0))
		return;
	if (prefill)
		filled = fill_socket(sv[0]);
	uint64_t at = 0;
	int64_t begin = now_ms();
	for (int i = 0; i < 20; i++) {
		uint64_t length = i == 0 && !prefill ? 12 * MIB : 1000;
		struct snapsend_request request = make_request(sv[0], file, at, length);
		at += length;
		if (i % 3 == 0) {
			ids[i] = submit_ok(ctx, &request);
		} else {
			CHECK_EQ(snapsend_try_send(ctx, &request, sizeof request, &completion), 0);
			ids[i] = completion.id;
		}
	}
	CHECK_LE(now_ms() - begin, 3000);
	expect_nothing(ctx, 20);
	reader_init(&reader, sv[1], filled + at);
	reader.check = true;
	reader.skip = filled;
	reader.seed = 1;
	reader_go(&reader);
	for (int i = 0; i < 20; i++) {
		wait_done(ctx, ids[i], &completion);
		CHECK_EQ(completion.status, 0);
	}
	reader_join(&reader);
	close(sv[0]);
	close(sv[1]);
}

/* Longer ranges, too, as long as they are one piece: none of it needs the ring thread where there is room. */
static void piece(int family)
{
	int sv[2], inlined = 0;
	struct snapsend_completion completion;
	if (!pair_sized(family, sv, 4 * MIB, 4 * MIB))
		return;
	for (int i = 0; i < 20; i++) {
		uint64_t from = 77 + (uint64_t)i * 5000, length = MIB - (uint64_t)i * 3333;
		struct reader reader;
		struct snapsend_request request = make_request(sv[0], file, from, length);
		reader_start_keep(&reader, sv[1], length);
		int result = snapsend_try_send(ctx, &request, sizeof request, &completion);
		CHECK(result == 0 || result == 1);
		if (result == 0)
			wait_done(ctx, completion.id, &completion);
		CHECK_EQ(completion.status, 0);
		CHECK_UEQ(completion.wire_bytes, length);
		inlined += (completion.flags & SNAPSEND_WAS_INLINE) != 0;
		reader_join(&reader);
		CHECK(pattern_bad(reader.data, from, length, 1) == SIZE_MAX);
		reader_free(&reader);
	}
	printf("family %d: of 20 longer ones %d inline\n", family, inlined);
	if (family == AF_INET)
		CHECK(inlined > 0);
	close(sv[0]);
	close(sv[1]);
}

/* More than fits: what went out on the calling thread counts, the rest follows. */
static void part(int family)
{
	int sv[2];
	struct snapsend_completion completion;
	struct reader reader;
	if (!pair_sized(family, sv, 0, 0))
		return;
	struct iovec head = { "0123456789", 10 };
	struct snapsend_request request = make_request(sv[0], file, 0, 12 * MIB);
	request.header = &head;
	request.header_count = 1;
	int64_t begin = now_ms();
	CHECK_EQ(snapsend_try_send(ctx, &request, sizeof request, &completion), 0);
	CHECK_LE(now_ms() - begin, 3000);
	reader_init(&reader, sv[1], 12 * MIB + 10);
	reader.check = true;
	reader.skip = 10;
	reader.seed = 1;
	reader_go(&reader);
	wait_done(ctx, completion.id, &completion);
	CHECK_EQ(completion.status, 0);
	CHECK_UEQ(completion.wire_bytes, 12 * MIB + 10);
	CHECK_UEQ(completion.file_bytes, 12 * MIB);
	reader_join(&reader);
	close(sv[0]);
	close(sv[1]);
}

int main(void)
{
	static const int families[] = { AF_INET, AF_INET6, AF_UNIX };
	ctx = create_ctx();
	file = temp_file(13 * MIB, 1);
	for (size_t i = 0; i < COUNT_OF(families); i++) {
		idle(families[i]);
		behind(families[i], 0);
		behind(families[i], 1);
		part(families[i]);
		piece(families[i]);
	}
	destroy_ctx(ctx);
	return 0;
}
