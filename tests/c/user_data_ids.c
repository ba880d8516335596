/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Ids are unique, user_data comes back as it was, and the id is written before the completion can be seen. */
#include "common.h"

#define OPS 20000

static snapsend_t *ctx;
static _Atomic uint64_t ids[OPS]; /* written by submit, read by the thread that polls */
static uint64_t seen[OPS];

static void *poller(void *unused)
{
	struct snapsend_completion some[64];
	(void)unused;
	for (int got = 0; got < OPS;) {
		int n = snapsend_poll(ctx, some, 64, WAIT_MS);
		CHECK_GE(n, 1);
		for (int i = 0; i < n; i++, got++) {
			uint64_t index = some[i].user_data ^ 0xabcdef0123456789ULL;
			CHECK_EQ(some[i].status, 0);
			CHECK_ULE(index, OPS - 1);
			CHECK_UEQ(atomic_load(&ids[index]), some[i].id); /* already there */
			CHECK_UEQ(seen[index], 0);
			seen[index] = some[i].id;
		}
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

int main(void)
{
	int sv[2];
	pthread_t thread;
	struct reader reader;
	ctx = create_ctx_with(300, 0, 0);
	unix_pair(sv);
	int file = temp_file(100, 1);
	reader_init(&reader, sv[1], (uint64_t)OPS * 100);
	reader_go(&reader);
	PTHREAD(pthread_create(&thread, NULL, poller, NULL));
	for (unsigned i = 0; i < OPS;) {
		struct snapsend_request requests[3];
		unsigned count = i % 4 == 0 && i + 3 <= OPS ? 3 : 1;
		for (unsigned k = 0; k < count; k++) {
			requests[k] = make_request(sv[0], file, 0, 100);
			requests[k].user_data = (i + k) ^ 0xabcdef0123456789ULL;
		}
		int result;
		if (count == 1)
			result = snapsend_submit(ctx, requests, sizeof requests[0], (uint64_t *)&ids[i]);
		else
			result = snapsend_submit_many(ctx, requests, sizeof requests[0], count, (uint64_t *)&ids[i]);
		if (result == -EAGAIN) { /* full: wait for the other thread */
			usleep(100);
			continue;
		}
		CHECK_GE(result, 0);
		CHECK_LE(result, count == 1 ? 0 : (int)count);
		i += result == 0 ? 1 : (unsigned)result;
	}
	PTHREAD(pthread_join(thread, NULL));
	reader_join(&reader);
	qsort(seen, OPS, sizeof seen[0], compare);
	CHECK_UNE(seen[0], 0);
	for (int i = 1; i < OPS; i++)
		CHECK_UNE(seen[i - 1], seen[i]);
	expect_nothing(ctx, 20);

	/* Any value of user_data. */
	static const uint64_t values[] = { 0, 1, UINT64_MAX, 1ULL << 63, 0x8000000080000000ULL };
	for (size_t i = 0; i < COUNT_OF(values); i++) {
		struct snapsend_completion completion;
		struct snapsend_request request = make_request(sv[0], file, 0, 1);
		request.user_data = values[i];
		wait_done(ctx, submit_ok(ctx, &request), &completion);
		CHECK_UEQ(completion.user_data, values[i]);
	}
	destroy_ctx(ctx);
	return 0;
}
