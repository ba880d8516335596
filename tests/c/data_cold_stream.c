/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A file that is not in the page cache is read piece by piece by helpers, until the kernel has read ahead to its end:
 * another thread that finds those pages would have to read ahead itself, which takes up to 2 ms. A file in the page
 * cache is not read by helpers. */
#include "data_common.h"

#include <dirent.h>

enum { PIECES = 48, AHEAD = 16, FEW = 3 };

static unsigned char image[PIECES * MIB];

/* What the helpers have read so far, as long as none has ended. */
static uint64_t read_by_helpers(void)
{
	uint64_t sum;
	if (!sum_of_threads("snapsend-read", "io", "rchar: %" SCNu64, &sum))
		skip("the kernel does not count what a thread reads");
	return sum;
}

/* Sends the file in pieces; returns how many of them helpers have read. */
static int pieces_by_helpers(snapsend_t *ctx, enum call call, int file, int sv[2])
{
	uint64_t before = read_by_helpers();
	for (uint64_t at = 0; at < sizeof image; at += MIB) {
		struct reader reader;
		reader_start_keep(&reader, sv[1], MIB);
		CHECK_EQ(call_done(ctx, call, make_request(sv[0], file, at, MIB)).status, 0);
		reader_join(&reader);
		CHECK(memcmp(reader.data, image + at, MIB) == 0);
		reader_free(&reader);
	}
	return (int)((read_by_helpers() - before) / MIB);
}

int main(void)
{
	static const enum call calls[] = { CALL_SUBMIT, CALL_TRY_SEND };
	int file = temp_file(sizeof image, 61), sv[2];
	pattern_fill(image, 0, sizeof image, 61);
	tcp_pair(sv);
	for (size_t i = 0; i < COUNT_OF(calls); i++) {
		snapsend_t *ctx = create_ctx();
		drop_cache(file);
		if (cached_bytes(file, sizeof image) > sizeof image / 8)
			skip("this file system keeps its pages");
		int cold = pieces_by_helpers(ctx, calls[i], file, sv);
		int warm = pieces_by_helpers(ctx, calls[i], file, sv);
		printf("read by helpers: %d of %d cold pieces, %d warm ones\n", cold, PIECES, warm);
		CHECK_GE(cold, PIECES - AHEAD - FEW);
		CHECK_LE(warm, FEW);
		destroy_ctx(ctx);
	}
	close_pair(sv);
	return 0;
}
