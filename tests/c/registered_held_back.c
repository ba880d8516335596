/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An operation is submitted while another thread sends on the registered socket by itself, and is cancelled before that
 * thread is done: the socket, which stays open, holds nothing back afterwards. */
#include "registered.h"

#define LENGTH    (900 * KIB)
#define ROUNDS_MS 2000

static struct ends ends;
static atomic_bool stop;
static _Atomic uint64_t tried;

static void *try_all(void *argument)
{
	struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, LENGTH);
	(void)argument;
	while (!atomic_load(&stop)) {
		struct snapsend_completion done;
		int result = snapsend_try_send(ends.ctx, &request, sizeof request, &done);
		CHECK(result == 0 || result == 1);
		if (result == 0)
			wait_done(ends.ctx, done.id, &done);
		else
			atomic_fetch_add(&tried, 1);
		CHECK(done.status == 0 || done.status == -ECANCELED);
		usleep(50);
	}
	return NULL;
}

static void *read_all_of_it(void *argument)
{
	static char junk[1 << 20];
	(void)argument;
	while (read(ends.sv[1], junk, sizeof junk) > 0)
		;
	return NULL;
}

int main(void)
{
	pthread_t thread, reader;
	struct snapsend_completion done;
	unsigned random = 1, cancelled = 0;
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 43);
	ends.ctx = ctx, ends.file = file;
	CHECK(pair_of_kind(UNIX, ends.sv, 8 * MIB));
	ends_register(&ends);
	PTHREAD(pthread_create(&reader, NULL, read_all_of_it, NULL));
	PTHREAD(pthread_create(&thread, NULL, try_all, NULL));
	struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, 10);
	for (int64_t end = now_ms() + ROUNDS_MS; now_ms() < end;) {
		uint64_t id = submit_ok(ctx, &request);
		for (unsigned spin = (unsigned)rand_r(&random) % 20000; spin > 0; spin--)
			atomic_signal_fence(memory_order_seq_cst);
		(void)snapsend_cancel(ctx, id);
		wait_done_ms(ctx, id, &done, 3000);
		cancelled += done.status != 0;
		usleep((useconds_t)rand_r(&random) % 200);
	}
	atomic_store(&stop, true);
	PTHREAD(pthread_join(thread, NULL));
	printf("%d sent by try_send, %u cancelled\n", (int)atomic_load(&tried), cancelled);
	for (int call = 0; call < CALLS; call++)
		CHECK_EQ(call_done(ctx, (enum call)call, request).status, 0);
	SYS(shutdown(ends.sv[0], SHUT_WR));
	PTHREAD(pthread_join(reader, NULL));
	ends_close(&ends);
	destroy_ctx(ctx);
	return 0;
}
