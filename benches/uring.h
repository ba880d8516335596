/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An io_uring by raw system calls: one for a server, which has one thread.
 */
#ifndef BENCH_URING_H
#define BENCH_URING_H

#include "common.h"

#include <linux/io_uring.h>

/* Not in all headers. */
#define ZC_REPORT_USAGE (1u << 3)
#define ZC_COPIED       (1u << 31)

/* Makes the ring; the run is skipped where there is none. */
void make_ring(const struct setup *setup, struct shared *shared);
/* For the registration of what the ring is to know. */
int ring_descriptor(void);
/* Sees to it that so many requests fit: a chain must be submitted by one call. */
void make_room(unsigned count);
/* A request that is submitted before the ring waits next.  Its user_data may be anything but UINT64_MAX. */
struct io_uring_sqe *request(unsigned op, int fd, uint64_t user_data);
/* Asks for the next question of a connection. */
void request_question(int fd, struct question *question, uint64_t user_data);
/* Fails the run if a result is an error, unless the run is being ended. */
void check_result(const char *what, int result);
/* Counts a notification of a zero-copy send. */
void count_notification(int result);
/* Submits, waits and hands over completions until the run is over. */
void run_ring(void (*take)(const struct io_uring_cqe *cqe));

#endif
