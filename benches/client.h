/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The readers of a run on loopback.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include "common.h"

void run_client(const struct setup *setup, struct shared *shared);

#endif
