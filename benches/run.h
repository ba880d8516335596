/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One run: a server and a client, processes of their own, and what comes out.
 */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include "common.h"

struct result {
	bool valid;
	double rate; /* GB/s */
	double cold_rate;
	double answers;                             /* per second */
	double server_cpu, client_cpu, machine_cpu; /* s/GB */
	double p50, p99, p999;                      /* microseconds */
	double enters, wakeups;                     /* per operation */
	double zerocopy_notified, zerocopy_copied;  /* see struct shared */
	double page_cache;                          /* share of the library's file data sent straight from there */
	double foreign;                             /* share of the machine's processors that others had meanwhile */
	uint32_t engine;                            /* the library's */
	uint64_t checked;                           /* words of the file that were compared */
};

/* EXIT_SUCCESS, EXIT_FAILURE or SKIPPED; except for the first, run_message() says why. */
int run(struct setup *setup, struct result *result);
const char *run_message(void);
/* Of the last run, as the kernel calls it. */
const char *run_congestion_control(void);
/* How many there have been. */
unsigned run_count(void);

#endif
