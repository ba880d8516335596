/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The server for all ways except io_uring's own.
 */
#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

#include "common.h"

int serve_by_epoll(const struct setup *setup, struct shared *shared);

#endif
