/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Connections that the kernel ends by itself. The peer's kernel answers nothing any more, so that all that was put
 * into the socket is still there (SIOCOUTQ) until the connection ends, and wire_bytes can be compared with it.
 */
#ifndef SNAPSEND_TESTS_DATA_KERNEL_ENDS_H
#define SNAPSEND_TESTS_DATA_KERNEL_ENDS_H

#include "data_common.h"

#include <linux/filter.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#define KERNEL_ENDS_LENGTH (16 * MIB) /* more than a socket's buffer takes */

/* Each segment for this socket is dropped before TCP sees it. */
static inline void drop_all(int fd)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = { .len = 1, .filter = &drop };
	SYS(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
}

static inline uint64_t bytes_in(int fd)
{
	int bytes = 0;
	SYS(ioctl(fd, SIOCOUTQ, &bytes));
	return (uint64_t)bytes;
}

/* Waits until nothing more goes in, and says how much there is. */
static inline uint64_t bytes_when_full(int fd)
{
	uint64_t before = 0, bytes = 0;
	double begin = now_ms(), changed = begin;
	while (bytes == 0 || now_ms() < changed + 100 * slowness()) {
		before = bytes;
		bytes = bytes_in(fd);
		if (bytes != before)
			changed = now_ms();
		if (now_ms() > begin + WAIT_MS)
			fail("nothing goes into the socket");
		sleep_ms(2);
	}
	return bytes;
}

/*
 * Ends a connection on which three operations are queued, and looks at what they say. The first has put in what fits,
 * or nothing, if `full`; then none is cut off, and each finds for itself that the connection is gone.
 */
static inline void kernel_ends(snapsend_t *ctx, int file, uint32_t flags, bool full, int status,
			       void (*end)(int socket))
{
	int sv[2];
	uint64_t ids[3], bytes = 0;
	struct snapsend_completion done[3];
	tcp_pair(sv);
	drop_all(sv[1]);
	if (full)
		stuff_socket(sv[0]);
	for (int i = 0; i < 3; i++) {
		struct snapsend_request request = make_request(sv[0], file, 0, KERNEL_ENDS_LENGTH);
		request.flags = flags;
		ids[i] = submit_ok(ctx, &request);
	}
	bytes = bytes_when_full(sv[0]);
	end(sv[0]);
	for (int i = 0; i < 3; i++) {
		wait_done(ctx, ids[i], &done[i]);
		CHECK_ULE(done[i].file_bytes, done[i].wire_bytes);
	}
	CHECK_EQ(done[0].status, status);
	CHECK_UEQ(done[0].wire_bytes, full ? 0 : bytes);
	for (int i = 1; i < 3; i++) {
		CHECK_UEQ(done[i].wire_bytes, 0);
		CHECK(done[i].status == (full ? -EPIPE : -ECANCELED));
	}
	expect_nothing(ctx, 0);
	close_pair(sv);
}

#endif
