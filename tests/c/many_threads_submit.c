/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* 8 threads submit to one context, each to its own socket, 3 threads poll: each DONE is seen exactly once. */
#include "common.h"

#define THREADS 8
#define OPS     600
#define POLLERS 3

static snapsend_t *ctx;
static int file;
static _Atomic int dones[THREADS * OPS];
static atomic_int total;

static uint64_t length_of(int op)
{
	return op % 50 == 0 ? 100000 : 1 + (uint64_t)op * 7 % 3000;
}

static void *submitter(void *argument)
{
	int number = *(int *)argument, sv[2];
	struct reader reader;
	uint64_t all = 0;
	if (number & 1)
		tcp_pair(sv);
	else
		unix_pair(sv);
	for (int op = 0; op < OPS; op++)
		all += length_of(op);
	reader_start_keep(&reader, sv[1], all);
	for (int op = 0; op < OPS; op++) {
		struct snapsend_request request = make_request(sv[0], file, (uint64_t)op, length_of(op));
		request.user_data = (uint64_t)(number * OPS + op);
		request.flags = op % 5 == 0 ? SNAPSEND_EAGER : 0;
		int result;
		while ((result = snapsend_submit(ctx, &request, sizeof request, NULL)) == -EAGAIN)
			usleep(200); /* max_ops is smaller than what all want at once */
		CHECK_EQ(result, 0);
	}
	reader_join(&reader);
	uint64_t at = 0;
	for (int op = 0; op < OPS; at += length_of(op), op++)
		if (pattern_bad(reader.data + at, (uint64_t)op, length_of(op), 1) != SIZE_MAX)
			fail("thread %d operation %d: wrong data", number, op);
	reader_free(&reader);
	/* The descriptors must stay open until the DONEs. */
	while (atomic_load(&total) < THREADS * OPS)
		usleep(1000);
	close(sv[0]);
	close(sv[1]);
	return NULL;
}

static void *poller(void *unused)
{
	struct snapsend_completion some[16];
	(void)unused;
	while (atomic_load(&total) < THREADS * OPS) {
		int n = snapsend_poll(ctx, some, 16, 100);
		CHECK_GE(n, 0);
		for (int i = 0; i < n; i++) {
			CHECK_EQ(some[i].status, 0);
			CHECK_UEQ(some[i].event, SNAPSEND_EVENT_DONE);
			CHECK_ULE(some[i].user_data, THREADS * OPS - 1);
			CHECK_EQ(atomic_fetch_add(&dones[some[i].user_data], 1), 0);
			atomic_fetch_add(&total, 1);
		}
	}
	return NULL;
}

int main(void)
{
	pthread_t submitters[THREADS], pollers[POLLERS];
	int numbers[THREADS];
	ctx = create_ctx_with(300, 0, 0);
	file = temp_file(200000, 1);
	for (int i = 0; i < POLLERS; i++)
		PTHREAD(pthread_create(&pollers[i], NULL, poller, NULL));
	for (int i = 0; i < THREADS; i++) {
		numbers[i] = i;
		PTHREAD(pthread_create(&submitters[i], NULL, submitter, &numbers[i]));
	}
	for (int i = 0; i < THREADS; i++)
		PTHREAD(pthread_join(submitters[i], NULL));
	for (int i = 0; i < POLLERS; i++)
		PTHREAD(pthread_join(pollers[i], NULL));
	for (int i = 0; i < THREADS * OPS; i++)
		CHECK_EQ(atomic_load(&dones[i]), 1);
	expect_nothing(ctx, 50);
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	CHECK_UEQ(stats.submitted, THREADS * OPS);
	CHECK_UEQ(stats.done_ok, THREADS * OPS);
	destroy_ctx(ctx);
	return 0;
}
