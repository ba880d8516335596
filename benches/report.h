/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What has been measured, for readers: medians, tables, CSV.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "cases.h"

/* A line of the CSV, if there is one. */
void write_csv(const struct one_case *c, unsigned way, unsigned round, const struct result *r);
/* Takes a way's medians over the rounds into the case. */
void summarise(struct one_case *c, unsigned way, const struct result *results);
void print_machine(void);
void print_case(const struct one_case *c);
/* The library in each case, as parts of what the others reach. */
void print_summary(void);

#endif
