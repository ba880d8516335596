/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A second thread changes all the time which of two files the number means, also during submit: each operation
 * gives bytes of the one or of the other, never of both, or -EBADF. */
#include "data_common.h"

#define LENGTH (3 * MIB)
#define ROUNDS 1500
#define NUMBER 900

static int files[2];
static atomic_bool stop;

static void *change(void *argument)
{
	unsigned seed = 1;
	(void)argument;
	for (int i = 0; !atomic_load(&stop); i++) {
		SYS(dup2(files[i % 2], NUMBER));
		if (rand_r(&seed) % 8 == 0)
			close(NUMBER);
		for (unsigned spin = (unsigned)rand_r(&seed) % 3000; spin > 0; spin--)
			atomic_signal_fence(memory_order_seq_cst);
	}
	return NULL;
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	snapsend_t *ctx = create_ctx();
	unsigned char *images[2] = { image_of(0, LENGTH, 59), image_of(0, LENGTH, 60) };
	int sv[2], outcomes[3] = { 0, 0, 0 };
	pthread_t thread;
	files[0] = temp_file(LENGTH, 59);
	files[1] = temp_file(LENGTH, 60);
	SYS(dup2(files[0], NUMBER));
	PTHREAD(pthread_create(&thread, NULL, change, NULL));
	srand(59);
	for (int round = 0; round < ROUNDS; round++) {
		struct snapsend_completion done;
		struct reader reader;
		uint64_t id, length = round % 10 == 0 ? LENGTH : 100 + (uint64_t)rand() % 200000;
		if (!pair_of_kind((enum kind)(round % KINDS), sv, 0))
			continue;
		struct snapsend_request request = make_request(sv[0], NUMBER, 0, length);
		request.flags = flags[round % 9 / 3];
		int result = snapsend_submit(ctx, &request, sizeof request, &id);
		CHECK(result == 0 || result == -EBADF);
		if (result == 0) {
			reader_start_keep(&reader, sv[1], UINT64_MAX);
			wait_done(ctx, id, &done);
			SYS(shutdown(sv[0], SHUT_WR));
			uint64_t got = reader_join(&reader);
			CHECK(done.status == 0 || done.status == -EBADF);
			CHECK_UEQ(got, done.wire_bytes);
			CHECK_EQ(done.status == 0, got == length);
			int from = got > 0 && reader.data[0] == images[0][0] ? 0 : 1;
			CHECK(got == 0 || memcmp(reader.data, images[from], got) == 0);
			outcomes[done.status != 0 ? 2 : from]++;
			reader_free(&reader);
		}
		close_pair(sv);
	}
	atomic_store(&stop, true);
	PTHREAD(pthread_join(thread, NULL));
	printf("%d of the one, %d of the other, %d -EBADF\n", outcomes[0], outcomes[1], outcomes[2]);
	CHECK_UNE(images[0][0], images[1][0]);
	destroy_ctx(ctx);
	return 0;
}
