/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The ways that need neither the library nor a ring: read and send, map and send, sendfile, splice, MSG_ZEROCOPY.  Each is a
 * push function, which sends what the socket takes of the operation in hand.
 */
#ifndef BENCH_CLASSIC_H
#define BENCH_CLASSIC_H

#include "connections.h"

/* Variants of struct way. */
enum { SENDFILE, SPLICE_64K, SPLICE_1M, PREAD, MMAP, ZEROCOPY };

/* Prepares the run's way and returns its push function. */
push_function prepare_classic(const struct setup *setup, struct shared *shared);
/* Called for each connection once it has been accepted. */
void start_classic(struct connection *c);
/* Called when epoll reports EPOLLERR: the kernel may have reported zero-copy sends. */
void take_reports(struct connection *c);

#endif
