/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The table of all ways of sending.
 */
#ifndef BENCH_WAYS_H
#define BENCH_WAYS_H

#include "common.h"

#define WAYS_MAX 24u

extern const struct way ways[];
extern const unsigned way_count;

#endif
