/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Allocations that fail, for the tests of what happens then.
 *
 *   refuse_from(n, good)  the n-th allocation from now on fails, or all from the n-th on; failed counts them
 *   refuse_none  is_accepted: a result that is none of success and -ENOMEM fails the test
 *   queue        a group by submit_many, one operation by submit and one by try_send: how many were accepted
 *   take         takes the DONEs of accepted operations
 *   run_each     runs a scenario for every n, with one failure and with all from the n-th on
 */
#ifndef SNAPSEND_TESTS_NO_MEMORY_H
#define SNAPSEND_TESTS_NO_MEMORY_H

#include "common.h"

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t align, size_t size);

static atomic_long left = -1; /* allocations until one fails; negative: none does */
static atomic_bool all_fail, for_good;
static atomic_long failed;

static bool refuse(void)
{
	if (atomic_load(&all_fail) || (atomic_load(&left) > 0 && atomic_fetch_sub(&left, 1) == 1)) {
		if (for_good)
			atomic_store(&all_fail, true);
		atomic_fetch_add(&failed, 1);
		errno = ENOMEM;
		return true;
	}
	return false;
}

void *malloc(size_t size)
{
	return refuse() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return refuse() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
	return refuse() ? NULL : __libc_realloc(memory, size);
}

void *aligned_alloc(size_t align, size_t size)
{
	return refuse() ? NULL : __libc_memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
	*out = refuse() ? NULL : __libc_memalign(align, size);
	return *out != NULL ? 0 : ENOMEM;
}

static void refuse_from(long n, bool good)
{
	atomic_store(&failed, 0);
	atomic_store(&for_good, good);
	atomic_store(&left, n);
}

static void refuse_none(void)
{
	atomic_store(&left, -1);
	atomic_store(&all_fail, false);
}

static uint32_t is_accepted(int result, const char *call)
{
	if (result < 0 && result != -ENOMEM)
		fail("%s: %d (%s)", call, result, strerror(-result));
	return result < 0 ? 0 : 1;
}

static inline uint32_t queue(snapsend_t *ctx, const struct snapsend_request *single,
			     const struct snapsend_request *group, uint32_t count)
{
	struct snapsend_completion done;
	int many = snapsend_submit_many(ctx, group, sizeof *group, count, NULL);
	uint32_t accepted = is_accepted(many, "submit_many") ? (uint32_t)many : 0;
	accepted += is_accepted(snapsend_submit(ctx, single, sizeof *single, NULL), "submit");
	int tried = snapsend_try_send(ctx, single, sizeof *single, &done);
	if (tried != 1)
		accepted += is_accepted(tried, "try_send");
	return accepted;
}

/* Each has the status 0, -ENOMEM, or the given one. */
static inline void take(snapsend_t *ctx, uint32_t count, int other_status)
{
	struct snapsend_completion batch[16];
	int64_t end = now_ms() + WAIT_MS;
	while (count > 0) {
		CHECK_LT(now_ms(), end);
		int taken = snapsend_poll(ctx, batch, COUNT_OF(batch), 1000);
		CHECK_GE(taken, 0);
		for (int i = 0; i < taken; i++) {
			CHECK_EQ(batch[i].event, SNAPSEND_EVENT_DONE);
			if (batch[i].status != 0 && batch[i].status != other_status)
				CHECK_EQ(batch[i].status, -ENOMEM);
		}
		count -= (uint32_t)taken;
	}
}

/* Ends with the first n for which nothing was refused. The scenario calls refuse_from(n, good) and refuse_none(), and must
 * leave no descriptor and no thread behind. */
static inline void run_each(void (*scenario)(long n, bool good), long least)
{
	scenario(-1, false); /* what is made once for the process */
	for (int good = 0; good < 2; good++) {
		long n = 0;
		int fds = count_fds(), threads = wait_threads(1, 0);
		do {
			scenario(++n, good);
			CHECK_EQ(wait_threads(threads, WAIT_MS), threads);
			CHECK_EQ(count_fds(), fds);
		} while (atomic_load(&failed) > 0);
		printf("%s: %ld allocations\n", good ? "all from the n-th on fail" : "the n-th fails", n - 1);
		CHECK_GT(n, least);
	}
}

#endif
