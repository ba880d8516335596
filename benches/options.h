/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The command line.  bench.c says what the options mean.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "common.h"
#include "files.h"
#include "ways.h"

#include <stdio.h>

#define ROUNDS_MAX 64
#define LIST_MAX   32

/* What can be asked for: enum workload on loopback, and the other links. */
enum { ON_WIRE = STALLED + 1, ON_LAN, WORKLOADS };

struct options {
	bool quick, pin;
	bool workloads[WORKLOADS];
	bool ways[WAYS_MAX];
	uint64_t sizes[LIST_MAX];
	unsigned size_count;
	unsigned connections[LIST_MAX];
	unsigned connection_count;
	unsigned stalled, rounds;
	double seconds, calm, patience;
	const char *dir, *congestion_control;
	enum frozen frozen;
	FILE *csv;
};

extern struct options options;

void parse_options(int argc, char **argv);

#endif
