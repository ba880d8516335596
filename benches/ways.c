/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "ways.h"

#include "classic.h"
#include "raw_ring.h"
#include "ring.h"
#include "server.h"

#define EVERYWHERE (LOOPBACK | WIRE | LAN)
#define NO_LAN     (LOOPBACK | WIRE)

const struct way ways[] = {
	{ .name = "submit", .library = true, .links = EVERYWHERE, .serve = serve_by_epoll, .variant = SUBMIT },
	{ .name = "submit_many",
	  .library = true,
	  .links = EVERYWHERE,
	  .serve = serve_by_epoll,
	  .variant = SUBMIT_MANY },
	{ .name = "try_send", .library = true, .links = EVERYWHERE, .serve = serve_by_epoll, .variant = TRY_SEND },
	{ .name = "sendfile", .links = EVERYWHERE, .serve = serve_by_epoll, .variant = SENDFILE },
	{ .name = "splice64k", .group = "splice", .links = EVERYWHERE, .serve = serve_by_epoll, .variant = SPLICE_64K },
	{ .name = "splice1m", .group = "splice", .links = EVERYWHERE, .serve = serve_by_epoll, .variant = SPLICE_1M },
	{ .name = "pread", .links = EVERYWHERE, .serve = serve_by_epoll, .variant = PREAD },
	{ .name = "mmap", .links = NO_LAN, .serve = serve_by_epoll, .variant = MMAP },
	{ .name = "zerocopy", .no_stalled = true, .links = EVERYWHERE, .serve = serve_by_epoll, .variant = ZEROCOPY },
	{ .name = "uring_splice", .no_stalled = true, .links = NO_LAN, .serve = serve_by_ring, .variant = RING_SPLICE },
	{ .name = "uring_zc", .no_stalled = true, .links = NO_LAN, .serve = serve_by_ring, .variant = RING_ZEROCOPY },
	{ .name = "uring_zc_plain",
	  .group = "uring_zc",
	  .links = WIRE,
	  .serve = serve_by_ring,
	  .variant = RING_ZEROCOPY_PLAIN },
	{ .name = "raw_ring", .links = WIRE | LAN, .serve = serve_by_raw_ring },
};
const unsigned way_count = sizeof(ways) / sizeof(ways[0]);

_Static_assert(sizeof(ways) / sizeof(ways[0]) <= WAYS_MAX, "more ways than WAYS_MAX");
