/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The cases, as the options have them: a workload with a size and a number of connections.
 */
#ifndef BENCH_CASES_H
#define BENCH_CASES_H

#include "common.h"
#include "run.h"
#include "ways.h"

struct one_case {
	struct setup setup;
	char name[48];
	int alone; /* index of the case without the cold or stalled ones, or -1 */
	struct result median[WAYS_MAX];
	double lowest[WAYS_MAX], highest[WAYS_MAX];
};

extern struct one_case cases[];
extern int case_count;

/* Fills cases[].  Reports a workload that cannot be run here, and why. */
void plan_cases(void (*cannot_run)(const char *workload, const char *why));

#endif
