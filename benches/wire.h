/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The wire: a link where zero-copy is real, and its far end.  wire.c says how it works.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include "common.h"

#define WIRE_CONNECTIONS 128u /* of a run, at most; a power of two */

/* Makes the link.  The file's size is a power of two up to 2 GiB. */
const struct veth *wire_open(uint64_t file_size);
/* The client of a run on the wire. */
void run_far_end(const struct setup *setup, struct shared *shared);

#endif
