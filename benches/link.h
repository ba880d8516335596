/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The links for other programs: link.c says how they are used.
 */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#include "common.h"

/* bench link ...: returns the command's exit status. */
int run_on_link(int argc, char **argv);
/* bench get ... */
int get_by_link(int argc, char **argv);

#endif
