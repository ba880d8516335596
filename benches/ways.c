/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "ways.h"

#include "classic.h"
#include "library.h"
#include "raw_ring.h"
#include "ring.h"
#include "server.h"

#define EVERYWHERE (LOOPBACK | NETWORK)
#define NO_LAN     (LOOPBACK | WIRE)
#define NETWORK    (WIRE | LAN)

const struct way ways[] = {
	{ .name = "submit", .library = true, .links = EVERYWHERE, .serve = serve_by_epoll, .variant = SUBMIT },
	{ .name = "submit_many",
	  .library = true,
	  .links = EVERYWHERE,
	  .serve = serve_by_epoll,
	  .variant = SUBMIT_MANY },
	{ .name = "try_send", .library = true, .links = EVERYWHERE, .serve = serve_by_epoll, .variant = TRY_SEND },
	{ .name = "submit_fixed",
	  .library = true,
	  .links = EVERYWHERE,
	  .serve = serve_by_epoll,
	  .variant = SUBMIT_FIXED },
	{ .name = "try_fixed", .library = true, .links = EVERYWHERE, .serve = serve_by_epoll, .variant = TRY_FIXED },
	{ .name = "submit_zc", .library = true, .links = NETWORK, .serve = serve_by_epoll, .variant = SUBMIT_ZC },
	{ .name = "submit_zc_unregistered",
	  .library = true,
	  .links = NETWORK,
	  .serve = serve_by_epoll,
	  .variant = SUBMIT_ZC_UNREGISTERED },
	{ .name = "submit_zc_new_file",
	  .library = true,
	  .links = NETWORK,
	  .serve = serve_by_epoll,
	  .variant = SUBMIT_ZC_NEW_FILE },
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
	{ .name = "raw_ring", .links = NETWORK, .serve = serve_by_raw_ring },
};
const unsigned way_count = sizeof(ways) / sizeof(ways[0]);

_Static_assert(sizeof(ways) / sizeof(ways[0]) <= WAYS_MAX, "more ways than WAYS_MAX");
