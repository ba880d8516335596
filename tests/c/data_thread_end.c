/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The thread that submitted ends long before the operation does: nothing changes for it. */
#include "data_common.h"

#define LENGTH  (6 * MIB)
#define THREADS 12

struct job {
	snapsend_t *ctx;
	struct snapsend_request request;
	uint64_t id;
};

static void *submit_and_end(void *argument)
{
	struct job *job = argument;
	char text[] = "header";
	struct iovec head = { text, 6 };
	job->request.header = &head, job->request.header_count = 1;
	job->id = submit_ok(job->ctx, &job->request);
	return NULL; /* and its stack is gone */
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_NOTIFY_SNAPSHOT };
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 68), sv[THREADS][2];
	struct job jobs[THREADS];
	struct snapsend_completion done;
	drop_cache(file); /* reads of an ended thread can be cancelled by the kernel */
	for (int i = 0; i < THREADS; i++) {
		pthread_t thread;
		if (!pair_of_kind((enum kind)(i % KINDS), sv[i], 0))
			unix_pair(sv[i]);
		jobs[i].ctx = ctx;
		jobs[i].request = make_request(sv[i][0], file, 0, i % 4 == 2 ? LENGTH / 4 : LENGTH);
		jobs[i].request.flags = flags[i % 4];
		PTHREAD(pthread_create(&thread, NULL, submit_and_end, &jobs[i]));
		PTHREAD(pthread_join(thread, NULL));
	}
	sleep_ms(100);
	for (int i = THREADS - 1; i >= 0; i--) {
		struct reader reader;
		uint64_t length = jobs[i].request.length;
		reader_init(&reader, sv[i][1], 6 + length);
		reader.check = true, reader.skip = 6, reader.seed = 68;
		reader_go(&reader);
		wait_done(ctx, jobs[i].id, &done);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.wire_bytes, 6 + length);
		reader_join(&reader);
	}
	destroy_ctx(ctx);
	return 0;
}
