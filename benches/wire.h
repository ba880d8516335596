/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The wire: a link where zero-copy is real, and its far end.  wire.c says how it works.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include "common.h"

#define WIRE_CONNECTIONS 128u /* of a run, at most; a power of two */

/* The requests of an HTTP client. */
struct get {
	uint16_t port;
	const char *path;
	uint32_t answer_length; /* with its header */
	unsigned connections;
	double seconds;
	pid_t server; /* whose CPU time counts */
};

/* Makes the link; nothing is dropped on it yet. */
const struct veth *wire_make(void);
/* Makes the link, and its far end drops data.  The file's size is a power of two up to 2 GiB. */
const struct veth *wire_open(uint64_t file_size);
/* The client of a run on the wire. */
void run_far_end(const struct setup *setup, struct shared *shared);
/* Called at the far end: sends the requests, and drops and acknowledges the answers. */
void wire_get(const struct get *get, struct shared *shared);

#endif
