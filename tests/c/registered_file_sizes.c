/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The size of a registered file is that of the moment, not that of its registration: short, empty, grown and shrunk
 * since, in the page cache and not, by each call. */
#include "registered.h"

#define SIZE 100000

static unsigned char image[4 * MIB];
static int naming; /* of what is sent */

static struct snapsend_completion sent(const struct ends *ends, enum call call, uint64_t offset, uint64_t length,
				       uint32_t flags, size_t arrives)
{
	struct reader reader;
	struct snapsend_request request = ends_request(ends, naming, offset, length);
	request.flags |= flags;
	reader_start_keep(&reader, ends->sv[1], arrives);
	struct snapsend_completion done = call_done(ends->ctx, call, request);
	CHECK_UEQ(done.wire_bytes, arrives);
	reader_join(&reader);
	CHECK(arrives == 0 || memcmp(reader.data, image + offset, arrives) == 0);
	reader_free(&reader);
	CHECK_EQ(unread(ends->sv[1]), 0);
	return done;
}

/* One byte more than the file has: a part may go out, which the completion tells. The stream is cut then. */
static void too_long(const struct ends *ends, enum call call, size_t size)
{
	struct snapsend_request request = ends_request(ends, naming, 0, size + 1);
	struct reader reader;
	reader_start_keep(&reader, ends->sv[1], UINT64_MAX);
	struct snapsend_completion done = call_done(ends->ctx, call, request);
	CHECK_EQ(done.status, -ENODATA);
	SYS(shutdown(ends->sv[0], SHUT_WR));
	CHECK_UEQ(reader_join(&reader), done.wire_bytes);
	CHECK_ULE(done.wire_bytes, size);
	CHECK(done.wire_bytes == 0 || memcmp(reader.data, image, done.wire_bytes) == 0);
	reader_free(&reader);
}

/* The file has so many bytes now. */
static void with_size(const struct ends *ends, enum call call, size_t size, bool cold)
{
	SYS(ftruncate(ends->file, 0));
	file_put(ends->file, 0, image, size);
	if (cold)
		drop_cache(ends->file);
	CHECK_EQ(sent(ends, call, 0, SNAPSEND_TO_EOF, 0, size).status, 0);
	CHECK_EQ(sent(ends, call, size / 2, SNAPSEND_TO_EOF, 0, size - size / 2).status, 0);
	CHECK_EQ(sent(ends, call, size + 10, SNAPSEND_TO_EOF, 0, 0).status, 0);
	if (cold)
		drop_cache(ends->file);
	struct snapsend_completion done = sent(ends, call, 0, size, 0, size);
	CHECK_EQ(done.status, 0);
	if (cold)
		drop_cache(ends->file);
	too_long(ends, call, size);
}

/* After a part has been sent, the stream is cut: each time a new one. */
static void short_range(snapsend_t *ctx, int file, enum call call, size_t size, bool cold)
{
	struct ends ends;
	ends_open(&ends, ctx, UNIX, file);
	with_size(&ends, call, size, cold);
	ends_close(&ends);
	ends_open(&ends, ctx, TCP4, file);
	size_t padded = size + 5000;
	memset(image + size, 0, 5000);
	struct snapsend_completion done = sent(&ends, call, 0, padded, SNAPSEND_ZERO_PAD, padded);
	CHECK_EQ(done.status, 0);
	CHECK(done.flags & SNAPSEND_WAS_PADDED);
	CHECK_EQ(sent(&ends, call, 0, padded, SNAPSEND_EXACT, 0).status, -ENODATA);
	pattern_fill(image, 0, sizeof image, 33);
	ends_close(&ends);
}

int main(void)
{
	static const size_t sizes[] = { SIZE, 0, 10, 3 * MIB, 4096, 0, SIZE + 1 };
	snapsend_t *ctx = create_ctx();
	int file = temp_file(SIZE, 33);
	pattern_fill(image, 0, sizeof image, 33);
	naming = BY_HANDLE;
	for (size_t i = 0; i < 2 * CALLS * COUNT_OF(sizes); i++)
		short_range(ctx, file, (enum call)(i / 2 % CALLS), sizes[i / 2 / CALLS], i % 2);

	/* The handle is older than all sizes. */
	struct ends ends;
	SYS(ftruncate(file, 5));
	ends_open(&ends, ctx, UNIX, file);
	for (size_t size = 6; size < 3 * MIB; size = size * 3 + 1) {
		file_put(file, 0, image, size);
		for (int i = 0; i < 2 * CALLS; i++) {
			naming = i % 2 ? BY_HANDLE : FILE_BY_HANDLE;
			CHECK_EQ(sent(&ends, (enum call)(i / 2), 0, SNAPSEND_TO_EOF, 0, size).status, 0);
		}
	}
	ends_close(&ends);
	destroy_ctx(ctx);
	return 0;
}
