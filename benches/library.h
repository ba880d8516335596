/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The library's ways: submitting the operation in hand and taking completions.
 */
#ifndef BENCH_LIBRARY_H
#define BENCH_LIBRARY_H

#include "connections.h"

/* Variants of struct way. */
enum {
	SUBMIT,
	SUBMIT_MANY,
	TRY_SEND,
	SUBMIT_FIXED,
	TRY_FIXED,
	SUBMIT_ZC,
	SUBMIT_ZC_UNREGISTERED,
	SUBMIT_ZC_NEW_FILE,
};

/* Creates the context for the run's way and returns its push function. */
push_function prepare_library(const struct setup *setup, struct shared *shared, struct connection *connections);
/* Called for each connection once it has been accepted: registers it where the way does so. */
void start_library(struct connection *c);
/* Readable while there are completions. */
int completions_descriptor(void);
/* Whether the connection should have more operations in flight. */
bool wants_more(const struct connection *c);
/* Takes completions.  Calls again() for each that may let its connection submit the next operation. */
void take_completions(void (*again)(struct connection *c));
/* submit_many: whether operations wait to be submitted together, and does so. */
bool has_gathered(void);
void flush_gathered(void);
void count_library(struct snapsend_stats *stats);
void finish_library(void);

#endif
