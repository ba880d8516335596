/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the tests with very many pending operations share: full sockets, and when the operations are pending.
 */
#ifndef SNAPSEND_TESTS_PENDING_H
#define SNAPSEND_TESTS_PENDING_H

#include "data_common.h"

#include <sys/prctl.h>

/* Makes full sockets whose peers are a process of their own, for the limit of descriptors; returns that process. */
static inline pid_t make_full_sockets(int *sockets, int count)
{
	static const char piece[1024];
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length = sizeof address;
	int listener = (int)SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), buffer = 0;
	SYS(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t))); /* the kernel finds a name */
	SYS(getsockname(listener, (struct sockaddr *)&address, &length));
	SYS(listen(listener, 64));
	pid_t peers = (pid_t)SYS(fork());
	if (peers == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int i = 0; i < count; i++) {
			int fd = (int)SYS(socket(AF_UNIX, SOCK_STREAM, 0));
			SYS(connect(fd, (struct sockaddr *)&address, length));
		}
		for (;;)
			pause();
	}
	for (int i = 0; i < count; i++) {
		sockets[i] = (int)SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
		SYS(setsockopt(sockets[i], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer));
		while (send(sockets[i], piece, sizeof piece, MSG_DONTWAIT) > 0)
			;
	}
	close(listener);
	return peers;
}

/* Returns once the ring thread has looked at all operations; the first one is done. */
static inline void wait_until_looked_at(snapsend_t *ctx)
{
	for (int64_t end = now_ms() + WAIT_MS; snapsend_cancel(ctx, 1) != -ENOENT; sleep_ms(1))
		CHECK_LT(now_ms(), end);
}

#endif
