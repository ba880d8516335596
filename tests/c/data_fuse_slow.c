/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A file system whose every read takes long holds up nobody: answers from warm files come soon all the while,
 * also when a dozen slow ones are in flight; and the slow ones come right in the end. Pages that are only being read
 * yet are in the page cache too, and who touches one waits. */
#include "data_fuse.h"

#define SIZE (4 * MIB)
#define SLOW 12

/* The time of the slowest answer while the slow ones are in flight. */
static int64_t answers(snapsend_t *ctx, int to_warm[2], int warm, int rounds)
{
	unsigned char got[4096];
	int64_t worst = 0;
	for (int i = 0; i < rounds; i++) {
		struct snapsend_completion done;
		int64_t begin = now_ms();
		struct snapsend_request request = make_request(to_warm[0], warm, 0, sizeof got);
		request.flags = i % 2 ? SNAPSEND_EAGER : 0;
		wait_done(ctx, submit_ok(ctx, &request), &done);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(read_all(to_warm[1], got, sizeof got), sizeof got);
		worst = now_ms() - begin > worst ? now_ms() - begin : worst;
	}
	return worst;
}

static void with(const char *path, bool direct, bool ahead, uint32_t flags)
{
	snapsend_t *ctx = create_ctx();
	int file = fuse_open(path, direct), warm = temp_file(4096, 74), sv[SLOW][2], to_warm[2];
	uint64_t ids[SLOW];
	posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	tcp_pair(to_warm);
	answers(ctx, to_warm, warm, 10);
	atomic_store(&fuse->hold, true);
	for (uint64_t at = 0; ahead && at < SIZE; at += 128 << 10) {
		readahead(file, (off64_t)at, 128 << 10);
	}
	for (int i = 0; i < SLOW; i++) {
		pair_of_kind(i % 2 ? TCP4 : UNIX, sv[i], 0);
		struct snapsend_request request = make_request(sv[i][0], file, (uint64_t)i * 300000, MIB / 2);
		request.flags = flags;
		ids[i] = submit_ok(ctx, &request);
	}
	int64_t worst = answers(ctx, to_warm, warm, 300);
	printf("the slowest answer took %d ms\n", (int)worst);
	CHECK_LE(worst, 500);
	expect_nothing(ctx, 0); /* the slow ones were in flight all the time */
	atomic_store(&fuse->hold, false);
	for (int i = 0; i < SLOW; i++) {
		struct reader reader;
		reader_start_check(&reader, sv[i][1], MIB / 2, (uint64_t)i * 300000, 73);
		wait_done(ctx, ids[i], NULL);
		reader_join(&reader);
		close_pair(sv[i]);
	}
	close(file);
	close(warm);
	destroy_ctx(ctx);
}

int main(void)
{
	const char *path = fuse_mount(SIZE, 73, 64);
	for (int direct = 0; direct < 2; direct++) {
		doing(direct ? "direct" : "with the page cache");
		with(path, direct, false, 0);
		with(path, direct, false, SNAPSEND_EAGER);
		with(path, direct, false, SNAPSEND_EXACT);
	}
	doing("being read");
	with(path, false, true, 0);
	return 0;
}
