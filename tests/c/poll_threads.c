/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Several threads wait in snapsend_poll: each completion wakes one of them, none is lost, none comes twice. */
#include "common.h"

#define WAITERS 5
#define ROUNDS  300

static snapsend_t *ctx;
static atomic_int taken;
static uint64_t ids[WAITERS];

static void *waiter(void *argument)
{
	struct snapsend_completion completion;
	int n = snapsend_poll(ctx, &completion, 1, -1);
	CHECK_EQ(n, 1);
	*(uint64_t *)argument = completion.id;
	atomic_fetch_add(&taken, 1);
	return NULL;
}

int main(void)
{
	int sv[2];
	ctx = create_ctx();
	unix_pair(sv);
	int file = temp_file(100, 1);
	struct snapsend_request request = make_request(sv[0], file, 0, 100);
	for (int round = 0; round < ROUNDS; round++) {
		pthread_t threads[WAITERS];
		uint64_t submitted[WAITERS];
		atomic_store(&taken, 0);
		for (int i = 0; i < WAITERS; i++)
			PTHREAD(pthread_create(&threads[i], NULL, waiter, &ids[i]));
		if (round % 10 == 0)
			sleep_ms(5); /* all of them asleep */
		for (int i = 0; i < WAITERS; i++) {
			submitted[i] = submit_ok(ctx, &request);
			doing("one completion, one of the waiting threads");
			int64_t end = now_ms() + 5000;
			while (round % 2 == 0 && atomic_load(&taken) <= i) { /* one by one, or all at once */
				if (now_ms() > end)
					fail("round %d: completion %d wakes nobody", round, i);
				usleep(50);
			}
		}
		for (int i = 0; i < WAITERS; i++)
			PTHREAD(pthread_join(threads[i], NULL));
		for (int i = 0; i < WAITERS; i++) {
			int times = 0;
			for (int k = 0; k < WAITERS; k++)
				times += ids[k] == submitted[i];
			CHECK_EQ(times, 1);
		}
		CHECK_UEQ(drain(sv[1], 0), 100 * WAITERS);
	}
	expect_nothing(ctx, 10);
	destroy_ctx(ctx);
	return 0;
}
