/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Allocations that fail, for the tests of what happens then.
 *
 *   refuse_from(n, good)  the n-th allocation from now on fails, or all from the n-th on; failed counts them
 *   refuse_none  is_accepted: a result that is none of success and -ENOMEM fails the test
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

#endif
