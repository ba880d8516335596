/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A read that fails part-way: -EIO, what was sent before is right and counted exactly, and the peer gets the end
 * of the stream from its owner. */
#include "data_fuse.h"

#define SIZE (6 * MIB)

static bool direct;

static void one(snapsend_t *ctx, enum kind kind, int file, uint64_t error_from, uint32_t flags,
		const unsigned char *image)
{
	int sv[2];
	struct snapsend_completion done;
	struct reader reader;
	struct iovec head = { (void *)(uintptr_t)image, 10 }; /* the stream is the image */
	if (!pair_of_kind(kind, sv, 0))
		return;
	if (!direct)
		drop_cache_wholly(file, SIZE);
	atomic_store(&fuse->error_from, error_from);
	struct snapsend_request request = make_request(sv[0], file, 10, SIZE - 10);
	request.flags = flags;
	request.header = &head, request.header_count = 1;
	reader_start_keep(&reader, sv[1], UINT64_MAX);
	wait_done(ctx, submit_ok(ctx, &request), &done);
	SYS(shutdown(sv[0], SHUT_WR));
	uint64_t got = reader_join(&reader);
	CHECK_EQ(done.status, -EIO);
	CHECK_UEQ(got, done.wire_bytes);
	CHECK_UEQ(done.file_bytes, got > 10 ? got - 10 : 0);
	CHECK_ULE(got, error_from > 10 ? error_from : 10);
	if (flags & SNAPSEND_EXACT)
		CHECK_UEQ(got, 0);
	CHECK(got == 0 || memcmp(reader.data, image, got) == 0);
	reader_free(&reader);
	close_pair(sv);
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_ZERO_PAD };
	static const uint64_t from[] = { 0, 5, 200000, 3 * MIB + 1, SIZE - 1 };
	const char *path = fuse_mount(SIZE, 71, 4);
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, SIZE, 71);
	for (int i = 0; i < 2; i++) {
		direct = i;
		int file = fuse_open(path, direct), sv[2];
		for (size_t j = 0; j < COUNT_OF(from) * COUNT_OF(flags); j++)
			one(ctx, (enum kind)(j % KINDS), file, from[j / 4], flags[j % 4], image);
		atomic_store(&fuse->error_from, UINT64_MAX);
		tcp_pair(sv);
		transfer_ok(ctx, sv, make_request(-1, file, 0, SIZE), image, SIZE); /* the disk is well again */
		close_pair(sv);
		close(file);
	}
	destroy_ctx(ctx);
	return 0;
}
