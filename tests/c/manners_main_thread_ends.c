/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The main thread ends by pthread_exit while others go on: the operations that it submitted complete, new ones do,
 * and the context that it made is destroyed by another thread. */
#include "manners_common.h"

#define LENGTH (6 * MIB)
#define OPS    8

static snapsend_t *ctx;
static int file, sv[OPS][2];
static uint64_t ids[OPS];
static pthread_t main_thread;

static void *goes_on(void *unused)
{
	struct snapsend_completion done;
	(void)unused;
	PTHREAD(pthread_join(main_thread, NULL));
	sleep_ms(50);
	for (int i = 0; i < OPS; i++) {
		struct reader reader;
		reader_start_check(&reader, sv[i][1], LENGTH, 0, 97);
		wait_done(ctx, ids[i], &done);
		CHECK_EQ(done.status, 0);
		reader_join(&reader);
	}
	transfers(ctx);
	destroy_ctx(ctx);
	ctx = create_ctx();
	transfers(ctx);
	destroy_ctx(ctx);
	exit(0);
}

int main(void)
{
	pthread_t thread;
	main_thread = pthread_self();
	ctx = create_ctx();
	file = temp_file(LENGTH, 97);
	drop_cache(file); /* reads of an ended thread can be cancelled by the kernel */
	for (int i = 0; i < OPS; i++) {
		pair_of_kind(i % 2 ? TCP4 : UNIX, sv[i], 0);
		struct snapsend_request request = make_request(sv[i][0], file, 0, LENGTH);
		request.flags = i % 3 == 1 ? SNAPSEND_EAGER : 0;
		ids[i] = submit_ok(ctx, &request);
	}
	PTHREAD(pthread_create(&thread, NULL, goes_on, NULL));
	pthread_exit(NULL);
}
