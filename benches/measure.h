/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The client's clock and counts.  The client says when the time that counts begins and ends, and takes the CPU time of both
 * processes there, so that neither connecting nor tearing down is in the figures.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "common.h"

/* Called first, by the client. */
void prepare_measuring(const struct setup *setup, struct shared *shared);
/* Bytes that have come since the start; those of cold ranges apart. */
void count_received(uint64_t bytes);
void count_cold(uint64_t bytes);
uint64_t total_received(void);
void count_checked(uint64_t words);
/* CPU time of the server so far. */
uint64_t server_time(void);
/* When the run is to end. */
uint64_t begin_measuring(uint64_t now);
bool is_over(uint64_t now, uint64_t limit);
/* On a busy machine the first bytes may take longer than the whole run was to be. */
bool is_overdue(uint64_t now, uint64_t limit);
/* Fails the run if nothing has been checked. */
void end_measuring(uint64_t now);

#endif
