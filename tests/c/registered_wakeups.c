/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Operations by handle come with no message, so that the ring thread must notice them by itself or be woken: from
 * several threads, with pauses of random length between, while it sleeps, while it waits for the kernel with other
 * operations in flight, and while it is busy, each is done in time. */
#include "registered.h"

#define THREADS   4
#define ANSWER    700
#define LATE_MS   400
#define ROUNDS_MS 500

static snapsend_t *ctx;
static int file;
static atomic_bool stop;
static _Atomic int64_t worst;

struct part {
	pthread_t thread;
	unsigned random;
	int answers;
	struct ends ends;
};

/* None at all, a few instructions, or so long that the ring thread waits or sleeps. */
static void pause_at_random(unsigned *random)
{
	switch (rand_r(random) % 4) {
	case 0: break;
	case 1:
		for (unsigned spin = (unsigned)rand_r(random) % 30000; spin > 0; spin--)
			atomic_signal_fence(memory_order_seq_cst);
		break;
	default: usleep((useconds_t)(rand_r(random) % (rand_r(random) % 3 ? 300 : 3000)));
	}
}

static void *answer(void *argument)
{
	struct part *part = argument;
	char got[8 * ANSWER];
	while (!atomic_load(&stop)) {
		struct snapsend_request requests[8];
		uint64_t ids[8];
		int count = rand_r(&part->random) % 3 ? 1 : 1 + rand_r(&part->random) % 8;
		for (int i = 0; i < count; i++)
			requests[i] = ends_request(&part->ends, BY_HANDLE, (uint64_t)i * 100, ANSWER);
		int64_t begin = now_ms();
		if (count == 1)
			ids[0] = submit_ok(ctx, &requests[0]);
		else
			CHECK_EQ(snapsend_submit_many(ctx, requests, sizeof requests[0], (uint32_t)count, ids), count);
		CHECK_UEQ(read_all(part->ends.sv[1], got, (size_t)count * ANSWER), (size_t)count * ANSWER);
		int64_t took = now_ms() - begin;
		if (took > atomic_load(&worst))
			atomic_store(&worst, took);
		for (int i = 0; i < count; i++)
			CHECK(pattern_bad(got + i * ANSWER, (uint64_t)i * 100, ANSWER, 41) == SIZE_MAX);
		part->answers++;
		pause_at_random(&part->random);
	}
	return NULL;
}

static void *poll_all(void *argument)
{
	struct snapsend_completion done[16];
	(void)argument;
	while (!atomic_load(&stop)) {
		int n = snapsend_poll(ctx, done, 16, 50);
		CHECK_GE(n, 0);
		for (int i = 0; i < n; i++)
			CHECK_EQ(done[i].status, 0);
	}
	return NULL;
}

/* in_flight: an operation waits all the while for a peer that does not read, so that the ring thread waits for the
 * kernel; moving: it moves on from time to time. */
static void with(int threads, bool in_flight, bool moving)
{
	static struct part parts[THREADS];
	pthread_t poller;
	int stuck[2], answers = 0;
	uint64_t left = 64 * MIB;
	unix_pair(stuck);
	if (in_flight) {
		struct snapsend_request request = make_request(stuck[0], file, 0, 64 * MIB);
		request.flags = SNAPSEND_ZERO_PAD;
		submit_ok(ctx, &request);
	}
	atomic_store(&stop, false);
	atomic_store(&worst, 0);
	PTHREAD(pthread_create(&poller, NULL, poll_all, NULL));
	for (int i = 0; i < threads; i++) {
		parts[i].random = (unsigned)(i + threads * 10);
		parts[i].answers = 0;
		ends_open(&parts[i].ends, ctx, i % 2 ? TCP4 : UNIX, file);
		PTHREAD(pthread_create(&parts[i].thread, NULL, answer, &parts[i]));
	}
	for (int64_t end = now_ms() + ROUNDS_MS; now_ms() < end;) {
		usleep(1000);
		if (moving && left > 32 * MIB)
			left -= drain(stuck[1], 0);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < threads; i++) {
		PTHREAD(pthread_join(parts[i].thread, NULL));
		answers += parts[i].answers;
	}
	PTHREAD(pthread_join(poller, NULL));
	printf("%d threads%s%s: %d answers, the slowest after %d ms\n", threads, in_flight ? ", in flight" : "",
	       moving ? ", moving" : "", answers, (int)atomic_load(&worst));
	/* A lost wake-up is made up for after a second. */
	CHECK_LE(atomic_load(&worst), LATE_MS * slowness());
	for (int i = 0; i < threads; i++)
		ends_close(&parts[i].ends);
	if (in_flight)
		(void)snapsend_cancel_socket(ctx, stuck[0]);
	close_pair(stuck);
	struct snapsend_completion done;
	while (snapsend_poll(ctx, &done, 1, 100) > 0)
		;
}

int main(void)
{
	ctx = create_ctx();
	file = temp_file(10000, 41);
	for (int threads = 1; threads <= THREADS; threads *= 2) {
		with(threads, false, false);
		with(threads, true, false);
		with(threads, true, true);
	}
	destroy_ctx(ctx);
	return 0;
}
