/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Poll says that there is room, but send gives EAGAIN, as with TCP's memory at its limit, or ENOBUFS or ENOMEM, for a
 * while: it is tried again, but not more than a few times a second, and goes on soon after memory is there. The same
 * where a socket cannot be watched. */
#include "faults.h"

#define LENGTH      (2 * MIB)
#define WATCHED_MS  500
#define WAKEUPS_MAX 30  /* in that time, the first ones in quick succession among them */
#define SOON_MS     300 /* the longest pause, and a little */

static uint64_t entered(snapsend_t *ctx)
{
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	return stats.kernel_enters;
}

static void refused(int file, uint64_t length, enum fault_kind kind, int error)
{
	int sv[2];
	char what[100];
	struct reader reader;
	struct snapsend_completion done;
	snapsend_t *ctx = create_ctx();
	snprintf(what, sizeof what, "%s, %" PRIu64 " bytes: %s", fault_kinds[kind].name, length,
		 fault_errno_name(error));
	doing(what);
	CHECK(pair_sized(AF_INET, sv, 4 * MIB, 4 * MIB)); /* with room for all but what is refused */
	bool watched = kind != K_SEND && kind != K_CQE_SEND;
	if (watched) /* there must be something to wait for */
		(void)fill_socket(sv[0]);
	faults_set((struct fault_plan){ .kind = kind, .first = 1, .last = UINT_MAX, .error = error });
	struct snapsend_request request = make_request(sv[0], file, 0, length);
	uint64_t id = submit_ok(ctx, &request);
	sleep_ms(50);
	uint64_t before = entered(ctx);
	sleep_ms(WATCHED_MS);
	uint64_t times = entered(ctx) - before;
	CHECK_GT(atomic_load(&faults_given), watched ? 0 : 5);
	if (times > WAKEUPS_MAX || atomic_load(&faults_given) > WAKEUPS_MAX)
		fail("the kernel was entered %" PRIu64 " times in %d ms, and refused %u", times, WATCHED_MS,
		     faults_given);
	faults_off();
	int64_t begin = now_ms();
	reader_init(&reader, sv[1], UINT64_MAX);
	reader_go(&reader);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	CHECK_LE(now_ms() - begin, (watched ? 2 : 1) * SOON_MS * slowness());
	SYS(shutdown(sv[0], SHUT_WR));
	reader_join(&reader);
	close(sv[0]), close(sv[1]);
	destroy_ctx(ctx);
}

int main(void)
{
	static const int errors[] = { EAGAIN, ENOBUFS, ENOMEM };
	bool uring = strcmp(engine_name(), "uring") == 0;
	int file = temp_file(LENGTH, 32);
	for (size_t i = 0; i < COUNT_OF(errors); i++) {
		refused(file, LENGTH, K_SEND, errors[i]);
		if (uring) /* of a range, the last, short piece goes through the ring */
			refused(file, MIB + 100 * KIB, K_CQE_SEND, errors[i]);
	}
	if (!uring) /* there the next try goes through the ring */
		refused(file, 8 * KIB, K_SEND, EAGAIN);
	refused(file, LENGTH, uring ? K_CQE_POLL : K_EPOLL_CTL, ENOMEM);
	return 0;
}
