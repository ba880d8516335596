/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the tests of pages lent to the socket (lent_*.c) share, beyond data_common.h and the network of torture.
 *
 *   network    lending_network
 *   files      warm  acquaint
 *   requests   lend_request: a range with ZEROCOPY  registered: the same by handles  unregister
 *   counters   lent_bytes: sent from the page cache so far
 *   sockets    buffer_of  in_transit: bytes that have left the sender's calls and that the peer has not read
 *              read_to_end: all that the peer can get, and how the stream ends
 *   transfer   lent_ok: one operation to a reading peer, everything checked; the bytes from the page cache
 */
#ifndef SNAPSEND_TESTS_LENT_H
#define SNAPSEND_TESTS_LENT_H

#include "../torture/network.h"
#include "manners_common.h"

#include <linux/sockios.h>

/* A network where zero-copy is real. With precedence over other processes: a ring thread that has waited long for a
 * processor takes the file for a slow one, and reads it for a while instead. */
static inline void lending_network(struct network *n)
{
	zero_copy_network(n);
	(void)setpriority(PRIO_PROCESS, 0, -15);
}

/* Has all of the file in the page cache: a file system may not call the end of a new file present until it is read. */
static inline void warm(int file, size_t length)
{
	static unsigned char block[65536];
	for (size_t at = 0; at < length; at += sizeof block)
		SYS(pread(file, block, sizeof block, (off_t)at));
}

static inline struct snapsend_request lend_request(int socket, int file, uint64_t offset, uint64_t length)
{
	struct snapsend_request request = make_request(socket, file, offset, length);
	request.flags = SNAPSEND_ZEROCOPY;
	return request;
}

/* The same request through handles that are new. */
static inline struct snapsend_request registered(snapsend_t *ctx, struct snapsend_request request)
{
	request.socket_fd = snapsend_register_socket(ctx, request.socket_fd, 0);
	request.file_fd = snapsend_register_file(ctx, request.file_fd, 0);
	CHECK(request.socket_fd >= 0 && request.file_fd >= 0);
	request.flags |= SNAPSEND_REGISTERED_SOCKET | SNAPSEND_REGISTERED_FILE;
	return request;
}

static inline void unregister(snapsend_t *ctx, const struct snapsend_request *request)
{
	CHECK_EQ(snapsend_unregister_socket(ctx, request->socket_fd), 0);
	CHECK_EQ(snapsend_unregister_file(ctx, request->file_fd), 0);
}

static inline uint64_t lent_bytes(snapsend_t *ctx)
{
	return stats_of(ctx).bytes_page_cache;
}

static inline void buffer_of(int socket, uint64_t bytes)
{
	int size = (int)bytes;
	SYS(setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size));
}

static inline uint64_t in_transit(const int sv[2])
{
	int queued = 0, on = 1;
	/* What the peer has, it acknowledges: it would not be counted once otherwise. */
	SYS(setsockopt(sv[1], IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on));
	SYS(ioctl(sv[0], SIOCOUTQ, &queued));
	return (uint64_t)queued + (uint64_t)unread(sv[1]);
}

/* Reads all that there is into memory for `most` bytes; how many, and by *error 0 (an orderly end) or errno,
 * EAGAIN where it does not end. */
static inline size_t read_to_end(int fd, unsigned char *to, size_t most, int *error)
{
	size_t got = 0;
	struct timeval limit = { .tv_sec = 5 };
	SYS(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
	for (;;) {
		ssize_t n = recv(fd, to + got, most - got, 0);
		*error = n < 0 ? errno : 0;
		if (n <= 0)
			return got;
		got += (size_t)n;
		CHECK_ULE(got, most - 1);
	}
}

/* Sends a request to sv[0]; sv[1] must get exactly these bytes, which stay right when the file changes after DONE.
 * The number of bytes that were sent from the page cache. */
static inline uint64_t lent_ok(snapsend_t *ctx, int sv[2], struct snapsend_request request, const unsigned char *want,
			       size_t length)
{
	uint64_t before = lent_bytes(ctx);
	request.flags |= SNAPSEND_ZEROCOPY;
	struct snapsend_completion done = transfer_ok(ctx, sv, request, want, length);
	uint64_t lent = lent_bytes(ctx) - before;
	CHECK(lent == 0 || done.flags & SNAPSEND_WAS_ZEROCOPY);
	CHECK_UEQ(stats_of(ctx).connections_reset, 0);
	return lent;
}

/* Lets the library find out that the file is quick, so that the next operation needs no look at it first. Nothing else
 * is in flight. */
static inline void acquaint(snapsend_t *ctx, int file)
{
	static unsigned char got[16 * KIB];
	int sv[2];
	unix_pair(sv);
	for (int i = 0; i < 2; i++) {
		struct snapsend_completion done;
		wait_done(ctx, submit_range(ctx, sv[0], file, 0, 16 * KIB), &done);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(read_all(sv[1], got, 16 * KIB), 16 * KIB);
	}
	close_pair(sv);
}

#endif
