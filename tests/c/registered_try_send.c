/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What try_send does on the calling thread with handles: all of a range that is in the page cache and fits into the
 * socket, up to chunk_bytes; with a file in the page cache as far as it is; and where
 * only the file is registered, no more than with descriptors. */
#include "registered.h"

#define SIZE (3 * MIB)

/* 1 and how: done here, else the DONE comes later. */
static int try(const struct ends *ends, int naming, uint64_t offset, uint64_t length, struct snapsend_completion *done)
{
	struct snapsend_request request = ends_request(ends, naming, offset, length);
	int result = snapsend_try_send(ends->ctx, &request, sizeof request, done);
	CHECK(result == 0 || result == 1);
	CHECK_EQ(result == 1 && !(done->flags & SNAPSEND_WAS_INLINE), 0);
	return result;
}

static void finish(const struct ends *ends, int tried, struct snapsend_completion *done, uint64_t offset, size_t length)
{
	struct reader reader;
	reader_start_check(&reader, ends->sv[1], length, offset, 37);
	if (tried == 0)
		wait_done(ends->ctx, done->id, done);
	CHECK_EQ(done->status, 0);
	CHECK_UEQ(done->wire_bytes, length);
	reader_join(&reader);
}

/* Into a socket with room for all of it. */
static void here(struct ends *ends)
{
	static const size_t lengths[] = { 1, 1000, 256 * KIB, 256 * KIB + 1, 900001, MIB };
	struct snapsend_completion done;
	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		int tried = try(ends, BY_HANDLE, 0, lengths[i], &done);
		CHECK_EQ(tried, 1);
		CHECK_UEQ(done.flags, SNAPSEND_WAS_COPIED | SNAPSEND_WAS_INLINE);
		finish(ends, tried, &done, 0, lengths[i]);
		if (lengths[i] == MIB)
			break; /* the end of the file would be looked for behind chunk_bytes */
		tried = try(ends, BY_HANDLE, SIZE - lengths[i], SNAPSEND_TO_EOF, &done);
		CHECK_EQ(tried, 1);
		finish(ends, tried, &done, SIZE - lengths[i], lengths[i]);
	}
}

/* With one handle alone, as far as descriptors do. */
static void as_descriptors(struct ends *ends)
{
	struct snapsend_completion done;
	for (int naming = BY_NUMBER; naming <= SOCKET_BY_HANDLE; naming++) {
		doing(naming_name[naming]);
		int tried = try(ends, naming, 1000, 50000, &done);
		CHECK_EQ(tried, 1);
		finish(ends, tried, &done, 1000, 50000);
		tried = try(ends, naming, 1000, 700000, &done);
		CHECK_EQ(tried, 1);
		finish(ends, tried, &done, 1000, 700000);
		tried = try(ends, naming, SIZE - 700000, SNAPSEND_TO_EOF, &done);
		CHECK_EQ(tried, 1); /* read in one piece: the end of a mapping is not exact */
		finish(ends, tried, &done, SIZE - 700000, 700000);
	}
}

/* The second half has to be read from the disk. */
static void half_cold(struct ends *ends)
{
	struct snapsend_completion done;
	for (int i = 0; i < 3; i++) {
		drop_cache_wholly(ends->file, SIZE);
		SYS(posix_fadvise(ends->file, 0, 0, POSIX_FADV_RANDOM));
		static unsigned char junk[SIZE];
		SYS(pread(ends->file, junk, SIZE / 2, 0));
		if (cached_bytes(ends->file, SIZE) != SIZE / 2) {
			printf("the page cache keeps what it likes here\n");
			return;
		}
		int tried = try(ends, BY_HANDLE, 0, SIZE, &done);
		CHECK_EQ(tried, 0);
		finish(ends, tried, &done, 0, SIZE);
	}
}

/* A peer that reads nothing: a part goes out here, the ring thread sends the rest, and it is counted once. */
static void half_full(snapsend_t *ctx, int file)
{
	struct ends ends;
	struct snapsend_completion done;
	struct snapsend_stats before, after;
	for (int kind = TCP4; kind < KINDS; kind++) {
		if (!kind_exists((enum kind)kind))
			continue;
		ends_open(&ends, ctx, (enum kind)kind, file);
		CHECK_EQ(snapsend_get_stats(ctx, &before, sizeof before), 0);
		int tried = try(&ends, BY_HANDLE, 0, SIZE, &done);
		finish(&ends, tried, &done, 0, SIZE);
		CHECK_EQ(snapsend_get_stats(ctx, &after, sizeof after), 0);
		CHECK_UGE(after.bytes_inline, before.bytes_inline + 1);
		CHECK_UEQ(after.wire_bytes - before.wire_bytes, SIZE);
		CHECK_UEQ(after.file_bytes - before.file_bytes, SIZE);
		ends_close(&ends);
	}
}

int main(void)
{
	if (!has_statmount())
		skip("without statmount(2) the file system of a new file is not known at once");
	snapsend_t *ctx = create_ctx();
	struct ends ends;
	int file = temp_file(SIZE, 37);
	SYS(fdatasync(file));
	pair_of_kind(UNIX, ends.sv, 4 * SIZE);
	ends.ctx = ctx, ends.file = file;
	ends_register(&ends);
	doing("here");
	here(&ends);
	as_descriptors(&ends);
	doing("half cold");
	half_cold(&ends);
	doing("half full");
	half_full(ctx, file);
	ends_close(&ends);
	destroy_ctx(ctx);
	return 0;
}
