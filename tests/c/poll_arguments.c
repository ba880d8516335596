/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* snapsend_poll: bad arguments, how long it waits, how many it gives. */
#include "common.h"

static snapsend_t *ctx;
static int sv[2];

/* 150 ms later something ends. */
static void *later(void *request)
{
	sleep_ms(150);
	CHECK_EQ(snapsend_submit(ctx, request, sizeof(struct snapsend_request), NULL), 0);
	return NULL;
}

static void waits(int timeout, int64_t least, int64_t most, int expected)
{
	struct snapsend_completion completion;
	int64_t begin = now_ms();
	CHECK_EQ(snapsend_poll(ctx, &completion, 1, timeout), expected);
	int64_t took = now_ms() - begin;
	CHECK_GE(took, least);
	CHECK_LE(took, most);
}

int main(void)
{
	struct snapsend_completion completions[8];
	ctx = create_ctx();
	unix_pair(sv);
	int file = temp_file(100, 1);
	struct snapsend_request request = make_request(sv[0], file, 0, 100);

	CHECK_ERR(snapsend_poll(ctx, completions, 0, 0), EINVAL);
	CHECK_ERR(snapsend_poll(ctx, completions, 0, -1), EINVAL); /* must not wait */
	CHECK_ERR(snapsend_poll(ctx, completions, 1, -2), EINVAL);
	CHECK_ERR(snapsend_poll(ctx, completions, 1, INT_MIN), EINVAL);

	waits(0, 0, 100, 0);
	waits(1, 0, 1000, 0);
	waits(120, 119, 2000, 0);

	/* Something comes meanwhile: at once, and also when it waits for ever or nearly so. */
	const int timeouts[] = { -1, WAIT_MS, INT_MAX };
	for (size_t i = 0; i < COUNT_OF(timeouts); i++) {
		pthread_t thread;
		PTHREAD(pthread_create(&thread, NULL, later, &request));
		waits(timeouts[i], 100, 3000, 1);
		PTHREAD(pthread_join(thread, NULL));
	}

	/* Never more than max; what is there does not wait for more; the rest stays. */
	for (int i = 0; i < 5; i++)
		submit_ok(ctx, &request);
	sleep_ms(200);
	int64_t begin = now_ms();
	memset(completions, 0xaa, sizeof completions);
	CHECK_EQ(snapsend_poll(ctx, completions, 2, -1), 2);
	CHECK_UEQ(completions[2].id, 0xaaaaaaaaaaaaaaaaULL);
	CHECK_EQ(snapsend_poll(ctx, completions, 8, WAIT_MS), 3);
	CHECK_LE(now_ms() - begin, 3000);
	waits(0, 0, 100, 0);

	/* A bad call takes nothing away. */
	submit_ok(ctx, &request);
	sleep_ms(50);
	CHECK_ERR(snapsend_poll(ctx, completions, 0, 100), EINVAL);
	CHECK_ERR(snapsend_poll(ctx, completions, 1, -5), EINVAL);
	CHECK_EQ(snapsend_poll(ctx, completions, 8, WAIT_MS), 1);
	CHECK_UEQ(drain(sv[1], 20), 900);
	destroy_ctx(ctx);
	return 0;
}
