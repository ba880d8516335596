/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The io_uring ways, by raw system calls.
 */
#ifndef BENCH_RING_H
#define BENCH_RING_H

#include "common.h"

/* Variants of struct way. */
enum { RING_SPLICE, RING_ZEROCOPY, RING_ZEROCOPY_PLAIN };

int serve_by_ring(const struct setup *setup, struct shared *shared);

#endif
