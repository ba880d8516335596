/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Operations through handles send the same bytes and report the same as through descriptors: by each call, with
 * each flag, socket or file registered or both, warm and cold, with header and trailer, and without a file. */
#include "registered.h"

#define SIZE   (2 * MIB + 777)
#define OFFSET 4099
#define WRAP   1001

struct variant {
	const char *name;
	uint32_t flags;
	size_t beyond; /* so much of the range is behind the end of the file */
	bool open_end, wrapped;
};

static const struct variant variants[] = {
	{ "plain", 0, 0, false, false },
	{ "header and trailer", 0, 0, false, true },
	{ "EAGER", SNAPSEND_EAGER, 0, false, true },
	{ "EXACT", SNAPSEND_EXACT, 0, false, false },
	{ "MORE", SNAPSEND_MORE, 0, false, false },
	{ "ZERO_PAD", SNAPSEND_ZERO_PAD, 5000, false, true },
	{ "TO_EOF", 0, 0, true, true },
	{ "EXACT to the end", SNAPSEND_EXACT, 0, true, false },
	{ "ZEROCOPY", SNAPSEND_ZEROCOPY, 0, false, true },
};

enum { CALL_SUBMIT_MANY = CALLS, EVERY_CALL };

static unsigned char image[SIZE + 5000], head[WRAP], tail[WRAP];

static struct snapsend_completion by_call(snapsend_t *ctx, int call, const struct snapsend_request *request)
{
	struct snapsend_completion done;
	uint64_t id = 0;
	if (call != CALL_SUBMIT_MANY)
		return call_done(ctx, (enum call)call, *request);
	CHECK_EQ(snapsend_submit_many(ctx, request, sizeof *request, 1, &id), 1);
	wait_done(ctx, id, &done);
	return done;
}

/* So many bytes before the end of the file. */
static void one(const struct ends *ends, int naming, int call, const struct variant *variant, size_t left)
{
	struct iovec before = { head, sizeof head }, after = { tail, sizeof tail };
	size_t offset = SIZE - left, wrap = variant->wrapped ? WRAP : 0, range = left + variant->beyond;
	struct snapsend_request request =
		ends_request(ends, naming, offset, variant->open_end ? SNAPSEND_TO_EOF : range);
	struct reader reader;
	request.flags |= variant->flags;
	request.user_data = left;
	if (variant->wrapped) {
		request.header = &before, request.trailer = &after;
		request.header_count = request.trailer_count = 1;
	}
	reader_start_keep(&reader, ends->sv[1], range + 2 * wrap);
	struct snapsend_completion done = by_call(ends->ctx, call, &request);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, range + 2 * wrap);
	CHECK_UEQ(done.file_bytes, range);
	CHECK_UEQ(done.user_data, left);
	CHECK_EQ((done.flags & SNAPSEND_WAS_PADDED) != 0, variant->beyond > 0);
	reader_join(&reader);
	CHECK(memcmp(reader.data, head, wrap) == 0);
	CHECK(memcmp(reader.data + wrap, image + offset, range) == 0);
	CHECK(memcmp(reader.data + wrap + range, tail, wrap) == 0);
	reader_free(&reader);
	CHECK_EQ(unread(ends->sv[1]), 0);
}

static void without_file(const struct ends *ends, int naming, int call)
{
	char got[WRAP];
	struct iovec before = { head, sizeof head };
	struct snapsend_request request = ends_request(ends, naming & SOCKET_BY_HANDLE, 0, 0);
	request.file_fd = -1;
	request.header = &before, request.header_count = 1;
	struct snapsend_completion done = by_call(ends->ctx, call, &request);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, WRAP);
	CHECK_UEQ(read_all(ends->sv[1], got, WRAP), WRAP);
	CHECK(memcmp(got, head, WRAP) == 0);
}

int main(void)
{
	static const size_t lengths[] = { 1, 1000, 70001, SIZE - OFFSET };
	snapsend_t *ctx = create_ctx();
	int file = temp_file(SIZE, 31);
	pattern_fill(image, 0, SIZE, 31);
	memset(head, 'H', sizeof head);
	memset(tail, 'T', sizeof tail);
	time_limit(100);
	for (int kind = TCP4; kind < KINDS; kind++) {
		struct ends ends;
		if (!kind_exists((enum kind)kind))
			continue;
		ends_open(&ends, ctx, (enum kind)kind, file);
		/* The longest once for each, the others by turns. */
		for (size_t i = 0; i < 4 * EVERY_CALL * COUNT_OF(variants); i++) {
			int naming = i % 4, call = (int)(i / 4 % EVERY_CALL);
			const struct variant *variant = &variants[i / 4 / EVERY_CALL];
			doing(naming_name[naming]);
			if (i % 7 == 0)
				drop_cache(file);
			one(&ends, naming, call, variant, lengths[i % 11 % 3]);
			one(&ends, naming, call, variant, SIZE - OFFSET);
			without_file(&ends, naming, call);
		}
		ends_close(&ends);
	}
	destroy_ctx(ctx);
	return 0;
}
