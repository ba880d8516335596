/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Cold files hold up nobody: answers from warm ones come soon while 8 ranges of 64 MiB are read from the disk. */
#include "data_common.h"

#define FILES  8
#define LENGTH (64 * MIB)

static void *discard_all(void *argument)
{
	int fd = *(int *)argument;
	for (uint64_t left = LENGTH; left > 0;) {
		ssize_t n = recv(fd, NULL, left < MIB ? left : MIB, MSG_TRUNC);
		CHECK_GT(n, 0);
		left -= (uint64_t)n;
	}
	return NULL;
}

static int cold_file(void)
{
	static unsigned char block[4 * MIB];
	memset(block, 'c', sizeof block);
	int file = temp_file(0, 0);
	for (uint64_t at = 0; at < FILES * LENGTH; at += sizeof block)
		file_put(file, at, block, sizeof block);
	drop_cache(file);
	if (cached_bytes(file, LENGTH) > LENGTH / 2)
		skip("this file system keeps its pages");
	return file;
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int cold = cold_file(), warm = temp_file(4096, 39), to_cold[FILES][2], to_warm[2], rounds = 0, ended = 0;
	pthread_t threads[FILES];
	uint64_t ids[FILES];
	unsigned char got[4096];
	int64_t worst = 0, start = now_ms();
	tcp_pair(to_warm);
	for (int i = 0; i < FILES; i++) {
		tcp_pair(to_cold[i]);
		PTHREAD(pthread_create(&threads[i], NULL, discard_all, &to_cold[i][1]));
		struct snapsend_request request = make_request(to_cold[i][0], cold, (uint64_t)i * LENGTH, LENGTH);
		ids[i] = submit_ok(ctx, &request);
	}
	while (ended < FILES) {
		struct snapsend_completion done;
		int64_t begin = now_ms();
		struct snapsend_request request = make_request(to_warm[0], warm, 0, sizeof got);
		wait_done(ctx, submit_ok(ctx, &request), &done);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(read_all(to_warm[1], got, sizeof got), sizeof got);
		worst = now_ms() - begin > worst ? now_ms() - begin : worst;
		rounds++;
		while (ended < FILES && wait_event(ctx, ids[ended], SNAPSEND_EVENT_DONE, &done, 0)) {
			CHECK_EQ(done.status, 0);
			PTHREAD(pthread_join(threads[ended++], NULL));
		}
	}
	int64_t took = now_ms() - start;
	printf("%d warm answers in %d ms, the slowest %d ms\n", rounds, (int)took, (int)worst);
	CHECK_GE(rounds, 10);
	CHECK_LE(worst, 500);
	destroy_ctx(ctx);
	return 0;
}
