/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A file cut while its last piece is sent: a mapping shows zeros up to the end of the page then, and these must
 * never arrive under a status of 0, whichever thread sends. */
#include "data_common.h"

#define LENGTH (300 * 1024)
#define CUT    (LENGTH - 1000) /* within the last page: nothing else tells */
#define ROUNDS 1200

static int file;
static _Atomic int turn;

static void *cutter(void *unused)
{
	(void)unused;
	for (int round = 1;;) {
		int now = atomic_load(&turn);
		if (now < 0)
			return NULL;
		if (now != round) { /* on a busy machine the processor is for the one that is waited for */
			sched_yield();
			continue;
		}
		for (volatile int wait = (round * 7919) % 100000; wait > 0; wait--)
			;
		SYS(ftruncate(file, CUT));
		atomic_store(&turn, 0);
		round++;
	}
}

static void start(snapsend_t *ctx, const struct snapsend_request *request, bool here, struct snapsend_completion *done,
		  int round)
{
	uint64_t id = here ? 0 : submit_ok(ctx, request);
	atomic_store(&turn, round);
	if (here) {
		int result = snapsend_try_send(ctx, request, sizeof *request, done);
		CHECK(result == 0 || result == 1);
		if (result == 1)
			return;
		id = done->id;
	}
	wait_done(ctx, id, done);
}

static void run(snapsend_t *ctx, const unsigned char *image, bool here)
{
	unsigned char *got = malloc(LENGTH);
	struct snapsend_completion done;
	pthread_t thread;
	int sv[2], whole = 0, cut = 0, inlined = 0;
	pair_sized(AF_INET, sv, 4 * MIB, 4 * MIB);
	CHECK(got != NULL);
	PTHREAD(pthread_create(&thread, NULL, cutter, NULL));
	for (int round = 1; round <= ROUNDS; round++) {
		file_put(file, CUT - 1, image + CUT - 1, LENGTH - CUT + 1);
		struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
		request.flags = SNAPSEND_NOTIFY_SNAPSHOT * (unsigned)(round % 2);
		start(ctx, &request, here, &done, round);
		while (atomic_load(&turn) != 0)
			sched_yield();
		inlined += (done.flags & SNAPSEND_WAS_INLINE) != 0;
		CHECK(done.status == 0 || done.status == -ENODATA);
		CHECK_UEQ(read_all(sv[1], got, done.wire_bytes), done.wire_bytes);
		if (done.status == 0) {
			CHECK_UEQ(done.wire_bytes, LENGTH);
			CHECK(memcmp(got, image, LENGTH) == 0);
			whole++;
		} else {
			size_t right = done.wire_bytes < CUT ? done.wire_bytes : CUT;
			CHECK(memcmp(got, image, right) == 0);
			cut++;
		}
		if (done.status != 0 && done.wire_bytes > 0) { /* such a stream is closed */
			close_pair(sv);
			pair_sized(AF_INET, sv, 4 * MIB, 4 * MIB);
		}
	}
	printf("%s: %d whole, %d cut, %d of them inline\n", here ? "try_send" : "submit", whole, cut, inlined);
	atomic_store(&turn, -1);
	PTHREAD(pthread_join(thread, NULL));
	atomic_store(&turn, 0);
	close_pair(sv);
	free(got);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, LENGTH, 91);
	file = temp_file(LENGTH, 91);
	run(ctx, image, false);
	run(ctx, image, true);
	free(image);
	destroy_ctx(ctx);
	return 0;
}
