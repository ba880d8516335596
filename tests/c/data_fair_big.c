/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Sockets take turns: while 2 GiB go out on one, small answers on another come soon. */
#include "data_common.h"

#define BIG (2 * GIB)

static int big;
static uint64_t length; /* of the big one */

static void *discard_all(void *argument)
{
	int fd = *(int *)argument;
	for (uint64_t at = 0; at < length;) {
		uint64_t left = length - at;
		ssize_t n = recv(fd, NULL, left < MIB ? left : MIB, MSG_TRUNC);
		CHECK_GT(n, 0);
		at += (uint64_t)n;
		if (length == BIG && at % (32 * MIB) < (uint64_t)n) /* or the page cache holds 2 GiB of nothing */
			posix_fadvise(big, 0, (off_t)at & -4096, POSIX_FADV_DONTNEED);
	}
	return NULL;
}

/* While the first bytes of the big file go out. */
static void during(snapsend_t *ctx)
{
	struct snapsend_completion done;
	int small = temp_file(4096, 38), to_big[2], to_small[2], rounds = 0;
	unsigned char got[4096];
	int64_t worst = 0;
	pthread_t thread;
	tcp_pair(to_big);
	tcp_pair(to_small);
	PTHREAD(pthread_create(&thread, NULL, discard_all, &to_big[1]));
	struct snapsend_request request = make_request(to_big[0], big, 0, length);
	uint64_t id = submit_ok(ctx, &request);
	int64_t start = now_ms();
	while (!wait_event(ctx, id, SNAPSEND_EVENT_DONE, &done, 0)) {
		int64_t begin = now_ms();
		request = make_request(to_small[0], small, 0, sizeof got);
		struct snapsend_completion one;
		wait_done(ctx, submit_ok(ctx, &request), &one);
		CHECK_EQ(one.status, 0);
		CHECK_UEQ(read_all(to_small[1], got, sizeof got), sizeof got);
		CHECK_UEQ(pattern_bad(got, 0, sizeof got, 38), SIZE_MAX);
		worst = now_ms() - begin > worst ? now_ms() - begin : worst;
		rounds++;
	}
	int64_t took = now_ms() - start;
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, length);
	PTHREAD(pthread_join(thread, NULL));
	printf("%d small ones in %d ms, the slowest %d ms\n", rounds, (int)took, (int)worst);
	CHECK_GE(rounds, 10);
	CHECK_LE(worst, 500);
	close(small);
	close_pair(to_big);
	close_pair(to_small);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	big = temp_file(0, 0);
	SYS(ftruncate(big, BIG));
	doing("a cold file");
	length = BIG;
	during(ctx);
	doing("a warm file");
	length = BIG / 4;
	for (uint64_t at = 0; at < length; at += 4096) {
		char byte;
		CHECK_EQ(pread(big, &byte, 1, (off_t)at), 1);
	}
	during(ctx);
	destroy_ctx(ctx);
	return 0;
}
