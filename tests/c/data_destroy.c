/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Destroy with work of all sorts in flight: it comes back soon, and leaves no descriptor, no thread, no hold on
 * the caller's files and sockets. */
#include "data_common.h"

#define LENGTH  (6 * MIB)
#define SOCKETS 24

static void submit_all_sorts(snapsend_t *ctx, int sv[SOCKETS][2], int file)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_ZERO_PAD,
					  SNAPSEND_NOTIFY_SNAPSHOT };
	for (int i = 0; i < SOCKETS * 4; i++) {
		uint64_t id;
		struct iovec head = { (char[]){ "header" }, 6 };
		struct snapsend_request request = make_request(sv[i % SOCKETS][0], file, (uint64_t)i, LENGTH - 1000);
		request.flags = flags[rand() % 5];
		if (request.flags & SNAPSEND_EXACT)
			request.length = MIB;
		if (i % 5 == 0)
			request.timeout_ms = 1 + (uint32_t)rand() % 30;
		if (i % 7 == 0)
			request.length = 10; /* its DONE is never taken */
		request.header = &head, request.header_count = (uint32_t)i % 2;
		CHECK_EQ(snapsend_submit(ctx, &request, sizeof request, &id), 0);
		if (i % 11 == 0)
			snapsend_cancel(ctx, id);
	}
}

static void one(int file, int round)
{
	int sv[SOCKETS][2];
	snapsend_t *ctx = create_ctx_with(0, round % 2 ? 8 * MIB : 0, 0);
	struct reader readers[SOCKETS / 3];
	for (int i = 0; i < SOCKETS; i++) {
		if (!pair_of_kind((enum kind)(i % KINDS), sv[i], 0))
			unix_pair(sv[i]);
		if (i % 3 == round % 3) { /* a third of the peers read, slowly */
			reader_init(&readers[i / 3], sv[i][1], UINT64_MAX);
			readers[i / 3].pause_us = 50;
			readers[i / 3].step = 65536;
			reader_go(&readers[i / 3]);
		}
	}
	drop_cache(file);
	submit_all_sorts(ctx, sv, file);
	usleep((useconds_t)(rand() % (round % 3 ? 30000 : 300)));
	int64_t start = now_ms();
	destroy_ctx(ctx);
	CHECK_LE(now_ms() - start, 3000);
	for (int i = 0; i < SOCKETS; i++) {
		close(sv[i][0]);
		if (i % 3 == round % 3) {
			reader_join(&readers[i / 3]);
			CHECK(readers[i / 3].eof);
		} else {
			drain(sv[i][1], 1000); /* ends at the end of the stream */
			expect_eof(sv[i][1], 1000);
		}
		close(sv[i][1]);
	}
}

int main(void)
{
	int file = temp_file(LENGTH, 66);
	srand(66);
	one(file, 0);
	int fds = count_fds(), threads = count_threads();
	for (int round = 0; round < 20; round++)
		one(file, round);
	CHECK_EQ(count_fds(), fds);
	CHECK_EQ(wait_threads(threads, 1000), threads);
	SYS(flock(file, LOCK_EX | LOCK_NB));
	return 0;
}
