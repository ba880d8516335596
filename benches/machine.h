/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What figures depend on: the machine's processors, and its kernel.
 */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include "common.h"

/* "2 x AMD EPYC"; no commas in it. */
const char *processor_name(void);
/* As uname(2) has it. */
const char *kernel_release(void);

#endif
