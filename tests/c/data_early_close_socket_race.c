/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A second thread changes all the time which of two connections the number means, also during submit: each
 * operation goes to the one or to the other, never to both, or ends with -EBADF; the counts say which. */
#include "data_common.h"

#define LENGTH (2 * MIB)
#define ROUNDS 1500
#define NUMBER 900

static int ends[2][2];
static atomic_bool stop;

static void *change(void *argument)
{
	unsigned seed = 1;
	(void)argument;
	for (int i = 0; !atomic_load(&stop); i++) {
		SYS(dup2(ends[i % 2][0], NUMBER));
		if (rand_r(&seed) % 8 == 0)
			close(NUMBER);
		for (unsigned spin = (unsigned)rand_r(&seed) % 3000; spin > 0; spin--)
			atomic_signal_fence(memory_order_seq_cst);
	}
	return NULL;
}

/* One operation; the peers read all the time. */
static void one(snapsend_t *ctx, int file, uint64_t length, uint32_t flags, struct reader readers[2], int outcomes[3])
{
	struct snapsend_completion done;
	uint64_t id, before[2] = { atomic_load(&readers[0].got), atomic_load(&readers[1].got) }, got[2] = { 0, 0 };
	struct snapsend_request request = make_request(NUMBER, file, 0, length);
	request.flags = flags;
	int result = snapsend_submit(ctx, &request, sizeof request, &id);
	CHECK(result == 0 || result == -EBADF);
	if (result != 0)
		return;
	wait_done(ctx, id, &done);
	CHECK(done.status == 0 || done.status == -EBADF);
	CHECK_EQ(done.status == 0, done.wire_bytes == length);
	for (int i = 0; i < 5000 && got[0] + got[1] < done.wire_bytes; i++) {
		for (int j = 0; j < 2; j++)
			got[j] = atomic_load(&readers[j].got) - before[j];
		if (got[0] + got[1] < done.wire_bytes)
			usleep(100);
	}
	CHECK_UEQ(got[0] + got[1], done.wire_bytes);
	CHECK(got[0] == 0 || got[1] == 0);
	outcomes[done.status != 0 ? 2 : got[1] > 0]++;
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 62), outcomes[3] = { 0, 0, 0 };
	struct reader readers[2];
	pthread_t thread;
	srand(62);
	for (int i = 0; i < 2; i++) {
		pair_of_kind(i ? TCP4 : UNIX, ends[i], 0);
		reader_init(&readers[i], ends[i][1], UINT64_MAX);
		reader_go(&readers[i]);
	}
	SYS(dup2(ends[0][0], NUMBER));
	PTHREAD(pthread_create(&thread, NULL, change, NULL));
	for (int round = 0; round < ROUNDS; round++)
		one(ctx, file, round % 10 == 0 ? LENGTH : 100 + (uint64_t)rand() % 200000, flags[round % 3], readers,
		    outcomes);
	atomic_store(&stop, true);
	PTHREAD(pthread_join(thread, NULL));
	printf("%d on the one, %d on the other, %d -EBADF\n", outcomes[0], outcomes[1], outcomes[2]);
	destroy_ctx(ctx);
	return 0;
}
