/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* 100,000 operations pending on peers that do not read, on as many sockets as descriptors allow: an operation beside
 * them takes at most 1.2 times as long as alone, in the median and at the 99th percentile; cancel_socket and destroy
 * take time linear in what they end. Times are those of the best of several tries, in alternation with those compared
 * with. All threads share one processor: to wake a thread on another one takes longer than the operation itself, and
 * the scheduler, not the number of operations, decides how often that happens. */
#include "pending.h"

#include <sched.h>

enum { MOST = 100000, SPARE = 2000, ROUNDS = 1500, TRIES = 60, LENGTH = 4096, PART = 4 };

static int sockets[MOST];
static int made, file;
static struct snapsend_completion batch[256];

static int64_t now_ns(void)
{
	struct timespec t;
	SYS(clock_gettime(CLOCK_MONOTONIC, &t));
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void stay_on_this_processor(void)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET((size_t)SYS(sched_getcpu()), &one);
	SYS(sched_setaffinity(0, sizeof one, &one));
}

static snapsend_t *create_large(void)
{
	struct snapsend_options options = { .max_ops = PART * MOST + 1 };
	snapsend_t *ctx;
	CHECK_EQ(snapsend_create(&options, sizeof options, &ctx), 0);
	return ctx;
}

/* Submits `count` operations to the first `to` sockets; returns once the ring thread has looked at all of them. */
static void pend(snapsend_t *ctx, int count, int to)
{
	struct snapsend_request first = make_request(sockets[0], file, 0, LENGTH);
	CHECK_EQ(snapsend_cancel(ctx, submit_ok(ctx, &first)), 0); /* its id is 1 */
	CHECK_EQ(snapsend_poll(ctx, batch, 1, WAIT_MS), 1);
	for (int i = 0; i < count; i++) {
		struct snapsend_request request = make_request(sockets[i % to], file, 0, LENGTH);
		submit_ok(ctx, &request);
	}
	wait_until_looked_at(ctx);
}

/* ---- an operation beside them ------------------------------------------------------------------------ */

struct times {
	int64_t median, p99;
};

static int in_order(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

static struct times measure(snapsend_t *ctx, const int sv[2])
{
	static int64_t took[ROUNDS];
	struct snapsend_completion done;
	for (int i = 0; i < ROUNDS; i++) {
		struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
		int64_t begin = now_ns();
		submit_ok(ctx, &request);
		CHECK_EQ(snapsend_poll(ctx, &done, 1, WAIT_MS), 1);
		took[i] = now_ns() - begin;
		CHECK_EQ(done.status, 0);
		swallow(sv[1], LENGTH);
	}
	qsort(took, ROUNDS, sizeof *took, in_order);
	return (struct times){ took[ROUNDS / 2], took[ROUNDS * 99 / 100] };
}

static void take_best(struct times *best, struct times other)
{
	best->median = other.median < best->median ? other.median : best->median;
	best->p99 = other.p99 < best->p99 ? other.p99 : best->p99;
}

static void beside(snapsend_t *ctx)
{
	int sv[2];
	snapsend_t *alone = create_large();
	struct times one = { INT64_MAX, INT64_MAX }, other = one;
	bool is_within = false;
	CHECK(pair_of_kind(TCP4, sv, 0));
	for (int try = 0; try < TRIES && !is_within; try++) {
		take_best(&one, measure(alone, sv));
		take_best(&other, measure(ctx, sv));
		is_within = other.median * 10 <= one.median * 12 && other.p99 * 10 <= one.p99 * 12;
	}
	printf("median %.1f us alone, %.1f beside; p99 %.1f, %.1f\n", (double)one.median / 1e3,
	       (double)other.median / 1e3, (double)one.p99 / 1e3, (double)other.p99 / 1e3);
	CHECK(is_within);
	destroy_ctx(alone);
	close_pair(sv);
}

/* ---- the end of many --------------------------------------------------------------------------------- */

/* Ends `count` operations on one socket. */
static int64_t time_cancel(int count)
{
	snapsend_t *ctx = create_large();
	pend(ctx, count, 1);
	int64_t begin = now_ns();
	CHECK_EQ(snapsend_cancel_socket(ctx, sockets[0]), count);
	for (int left = count; left > 0;) {
		int n = snapsend_poll(ctx, batch, COUNT_OF(batch), WAIT_MS);
		CHECK_GT(n, 0);
		left -= n;
	}
	int64_t took = now_ns() - begin;
	destroy_ctx(ctx);
	return took;
}

static int64_t time_destroy(int count, int to)
{
	snapsend_t *ctx = create_large();
	pend(ctx, count, to);
	int64_t begin = now_ns();
	destroy_ctx(ctx);
	return now_ns() - begin;
}

/* Ends `count` operations on all sockets, or on as many of them. */
static int64_t time_end(bool destroys, int count, int to)
{
	return destroys ? time_destroy(count, to) : time_cancel(count);
}

/* Of PART times as many, the end takes at most 2 * PART times as long; PART * PART times if it is quadratic. */
static void check_linear(const char *what, bool destroys, int most)
{
	double best = 1e9;
	for (int try = 0; try < TRIES && best > 2 * PART; try++) {
		int64_t few = time_end(destroys, most / PART, made / PART), all = time_end(destroys, most, made);
		printf("%s: %.1f ms for %d, %.1f for %d\n", what, (double)few / 1e6, most / PART, (double)all / 1e6,
		       most);
		double ratio = (double)all / (double)few;
		best = ratio < best ? ratio : best;
	}
	CHECK_LE((int)(best * 10), 20 * PART);
}

int main(void)
{
	struct rlimit limit = { MOST + SPARE, MOST + SPARE };
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		SYS(getrlimit(RLIMIT_NOFILE, &limit));
	int room = (int)limit.rlim_cur - SPARE;
	if (room < 10000) {
		printf("SKIP: RLIMIT_NOFILE is %d\n", (int)limit.rlim_cur);
		return 77;
	}
	time_limit(100);
	stay_on_this_processor();
	file = temp_file(LENGTH, 43);
	made = room < MOST ? room : MOST;
	pid_t peers = make_full_sockets(sockets, made);
	snapsend_t *ctx = create_large();
	int64_t begin = now_ms();
	pend(ctx, MOST, made);
	printf("%d operations on %d sockets, after %lld ms\n", MOST, made, (long long)(now_ms() - begin));
	beside(ctx);
	destroy_ctx(ctx);
	check_linear("cancel_socket", false, PART * MOST);
	check_linear("destroy", true, MOST);
	SYS(kill(peers, SIGKILL));
	return 0;
}
