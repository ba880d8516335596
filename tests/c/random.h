/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Random numbers for tests that print their seed: splitmix64. */
#ifndef SNAPSEND_TESTS_RANDOM_H
#define SNAPSEND_TESTS_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

/* A generator for each thread, so that a seed means the same choices. */
static _Thread_local uint64_t random_state;

static inline uint64_t random_number(void)
{
	random_state += 0x9e3779b97f4a7c15ULL;
	uint64_t x = random_state;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static inline uint64_t random_below(uint64_t limit)
{
	return random_number() % limit;
}

static inline bool one_in(uint64_t n)
{
	return random_below(n) == 0;
}

#endif
