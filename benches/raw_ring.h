/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The least that zero-copy from the page cache costs.  raw_ring.c says how.
 */
#ifndef BENCH_RAW_RING_H
#define BENCH_RAW_RING_H

#include "common.h"

int serve_by_raw_ring(const struct setup *setup, struct shared *shared);

#endif
