/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A file cut while its last piece is sent: a mapping, or a long read, shows zeros up to the end of the page then, and
 * these must never arrive under a status of 0, whichever thread sends. */
#include "registered.h"

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
		int most = round & 2 ? 100000 : 20000; /* some operations are over soon */
		for (volatile int wait = (round * 7919) % most; wait > 0; wait--)
			;
		SYS(ftruncate(file, CUT));
		atomic_store(&turn, 0);
		round++;
	}
}

enum sender { BY_SUBMIT, BY_SUBMIT_EAGER, BY_TRY_SEND, BY_TRY_FIXED, SENDERS };
static const char *const sender_name[] = { "submit", "submit, EAGER", "try_send", "try_send with handles" };

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

static void run(snapsend_t *ctx, const unsigned char *image, enum sender sender)
{
	unsigned char *got = malloc(LENGTH);
	struct snapsend_completion done;
	pthread_t thread;
	struct ends ends = { .ctx = ctx, .file = file };
	int whole = 0, cut = 0, inlined = 0;
	pair_sized(AF_INET, ends.sv, 4 * MIB, 4 * MIB);
	ends_register(&ends);
	CHECK(got != NULL);
	PTHREAD(pthread_create(&thread, NULL, cutter, NULL));
	int rounds = sender == BY_TRY_FIXED ? 6 * ROUNDS : ROUNDS; /* which is over soonest */
	for (int round = 1; round <= rounds; round++) {
		file_put(file, CUT - 1, image + CUT - 1, LENGTH - CUT + 1);
		struct snapsend_request request =
			ends_request(&ends, sender == BY_TRY_FIXED ? BY_HANDLE : BY_NUMBER, 0, LENGTH);
		request.flags |= SNAPSEND_NOTIFY_SNAPSHOT * (unsigned)(round % 2);
		request.flags |= sender == BY_SUBMIT_EAGER ? SNAPSEND_EAGER : 0;
		start(ctx, &request, sender >= BY_TRY_SEND, &done, round);
		while (atomic_load(&turn) != 0)
			sched_yield();
		inlined += (done.flags & SNAPSEND_WAS_INLINE) != 0;
		CHECK(done.status == 0 || done.status == -ENODATA);
		CHECK_UEQ(read_all(ends.sv[1], got, done.wire_bytes), done.wire_bytes);
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
			ends_close(&ends);
			pair_sized(AF_INET, ends.sv, 4 * MIB, 4 * MIB);
			ends_register(&ends);
		}
	}
	printf("%s: %d whole, %d cut, %d of them inline\n", sender_name[sender], whole, cut, inlined);
	atomic_store(&turn, -1);
	PTHREAD(pthread_join(thread, NULL));
	atomic_store(&turn, 0);
	ends_close(&ends);
	free(got);
}

/* The rest of the test, with each of these ways of copying. */
static void with_each_way(const char *name)
{
	static const char *const ways[] = { "map", "read1m" };
	for (size_t i = 0; i < COUNT_OF(ways); i++) {
		pid_t child = SYS(fork());
		if (child == 0) {
			SYS(setenv("SNAPSEND_COPY", ways[i], 1));
			execl("/proc/self/exe", name, (char *)NULL);
			_exit(127);
		}
		int status;
		SYS(waitpid(child, &status, 0));
		if (status != 0)
			fail("SNAPSEND_COPY=%s: status %#x", ways[i], status);
	}
}

int main(int argc, char **argv)
{
	(void)argc;
	if (getenv("SNAPSEND_COPY") == NULL) {
		with_each_way(argv[0]);
		return 0;
	}
	printf("SNAPSEND_COPY=%s\n", getenv("SNAPSEND_COPY"));
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, LENGTH, 91);
	file = temp_file(LENGTH, 91);
	for (enum sender sender = 0; sender < SENDERS; sender++) {
		doing(sender_name[sender]);
		run(ctx, image, sender);
	}
	free(image);
	destroy_ctx(ctx);
	return 0;
}
