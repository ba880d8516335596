/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A host that closes every descriptor from 3 up with operations in flight, for manners_closefrom_*.c.
 *
 *   fork_holder   a child that keeps the descriptors open
 *   flight_start  operations of all kinds to peers in a process of its own, which goes on reading, or does not
 *   flight_ends   each ends once, through poll
 *   beyond_use    every call on the context says so
 *   flight_peers  what the peers got is the beginning of what was sent; waits until they have ended
 */
#ifndef SNAPSEND_TESTS_MANNERS_CLOSEFROM_H
#define SNAPSEND_TESTS_MANNERS_CLOSEFROM_H

#include "manners_common.h"

#define FLIGHT_SOCKETS 16
#define FLIGHT_EACH    3
#define FLIGHT_OPS     (FLIGHT_SOCKETS * FLIGHT_EACH)
#define FLIGHT_LENGTH  (3 * MIB)

struct flight {
	snapsend_t *ctx;
	pid_t peers;
	int ended[FLIGHT_OPS];
};

static inline void close_from_3(void)
{
	if (syscall(SYS_close_range, 3, ~0U, 0) != 0)
		for (int fd = 3; fd < 20000; fd++)
			close(fd);
}

/* A child that holds all descriptors open until it is killed. */
static inline pid_t fork_holder(void)
{
	pid_t child = (pid_t)SYS(fork());
	if (child != 0)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(0);
	for (;;)
		pause();
}

/* Reads slowly from all of them (stalled: not at all for stalled_ms), until the end of each, and compares. */
static inline void flight_peer_process(int sv[][2], int stalled_ms)
{
	unsigned char *image = image_of(0, FLIGHT_LENGTH, 88), *block = malloc(65536);
	uint64_t got[FLIGHT_SOCKETS] = { 0 };
	int open_ends = FLIGHT_SOCKETS;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	time_limit(50);
	doing("the peers' process");
	for (int i = 0; i < FLIGHT_SOCKETS; i++)
		close(sv[i][0]);
	sleep_ms(stalled_ms);
	while (open_ends > 0) {
		struct pollfd p[FLIGHT_SOCKETS];
		for (int i = 0; i < FLIGHT_SOCKETS; i++)
			p[i] = (struct pollfd){ .fd = sv[i][1], .events = POLLIN };
		SYS(poll(p, FLIGHT_SOCKETS, -1));
		for (int i = 0; i < FLIGHT_SOCKETS; i++) {
			if (p[i].revents == 0)
				continue;
			uint64_t at = got[i] % FLIGHT_LENGTH,
				 most = FLIGHT_LENGTH - at < 65536 ? FLIGHT_LENGTH - at : 65536;
			ssize_t n = read(sv[i][1], block, most);
			if (n <= 0) {
				close(sv[i][1]);
				sv[i][1] = -1;
				open_ends--;
				continue;
			}
			if (memcmp(block, image + at, (size_t)n) != 0)
				fail("peer %d: wrong bytes near %" PRIu64, i, got[i]);
			got[i] += (uint64_t)n;
		}
		usleep(2000);
	}
	_exit(0);
}

static inline void flight_start(struct flight *f, int stalled_ms)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	int sv[FLIGHT_SOCKETS][2], file = temp_file(FLIGHT_LENGTH, 88);
	memset(f, 0, sizeof *f);
	SYS(fdatasync(file));
	for (int i = 0; i < FLIGHT_SOCKETS; i++)
		CHECK(pair_of_kind(i % 2 ? TCP4 : UNIX, sv[i], 0));
	f->peers = (pid_t)SYS(fork());
	if (f->peers == 0)
		flight_peer_process(sv, stalled_ms);
	for (int i = 0; i < FLIGHT_SOCKETS; i++)
		close(sv[i][1]);
	f->ctx = create_ctx();
	for (int i = 0; i < FLIGHT_OPS; i++) {
		struct snapsend_request request = make_request(sv[i % FLIGHT_SOCKETS][0], file, 0, FLIGHT_LENGTH);
		request.flags = flags[i / 2 % 3];
		request.user_data = (uint64_t)i;
		if (i == FLIGHT_OPS / 2)
			posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
		submit_ok(f->ctx, &request);
	}
	if (stalled_ms == 0) {
		sleep_ms(15); /* in the middle of it */
	} else {
		sleep_ms(100);
	}
}

static inline void flight_note(struct flight *f, const struct snapsend_completion *done)
{
	if (done->event != SNAPSEND_EVENT_DONE)
		return;
	CHECK_ULE(done->user_data, FLIGHT_OPS - 1);
	CHECK_EQ(f->ended[done->user_data]++, 0);
	CHECK_LE(done->status, 0);
	CHECK(done->status != 0 || done->wire_bytes == FLIGHT_LENGTH);
}

/* Through poll, which waits for each as long as ms. */
static inline void flight_ends(struct flight *f, int ms)
{
	struct snapsend_completion done;
	int count = 0, bad = 0;
	for (int i = 0; i < FLIGHT_OPS; i++)
		count += f->ended[i];
	while (count < FLIGHT_OPS) {
		int n = snapsend_poll(f->ctx, &done, 1, ms);
		if (n == 0)
			fail("%d of %d operations have not ended %d ms after the host closed everything",
			     FLIGHT_OPS - count, FLIGHT_OPS, ms);
		if (n < 0)
			fail("snapsend_poll: %d (%s) with %d of %d operations ended", n, strerror(-n), count,
			     FLIGHT_OPS);
		flight_note(f, &done);
		bad += done.status != 0;
		count++;
	}
	printf("%d ended well, %d with an error\n", FLIGHT_OPS - bad, bad);
}

static inline void flight_peers(struct flight *f)
{
	int status;
	SYS(waitpid(f->peers, &status, 0));
	CHECK(ended_well(status));
}

/* Every call on the context says so. */
static inline void beyond_use(snapsend_t *ctx, const struct watched *w)
{
	struct snapsend_request request = make_request(w->empty[0][0], w->files[0], 0, 1000);
	struct snapsend_completion done;
	CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, NULL), EBADF);
	CHECK_ERR(snapsend_submit_many(ctx, &request, sizeof request, 1, NULL), EBADF);
	CHECK_ERR(snapsend_send(ctx, &request, sizeof request, &done), EBADF);
	CHECK_ERR(snapsend_try_send(ctx, &request, sizeof request, &done), EBADF);
	CHECK_ERR(snapsend_event_fd(ctx), EBADF);
	CHECK_LT(snapsend_cancel(ctx, 1), 0);
	CHECK_LT(snapsend_cancel_socket(ctx, w->empty[0][0]), 0);
}

/* And so does poll, when all completions have been taken. */
static inline void poll_beyond_use(snapsend_t *ctx)
{
	struct snapsend_completion done;
	CHECK_ERR(snapsend_poll(ctx, &done, 1, 2000), EBADF);
	CHECK_ERR(snapsend_poll(ctx, &done, 1, -1), EBADF);
}

static inline void destroy_promptly(snapsend_t *ctx)
{
	int64_t begin = now_ms();
	destroy_ctx(ctx);
	CHECK_LE(now_ms() - begin, 3000);
	CHECK_EQ(wait_threads(1, 2000), 1);
}

static inline void new_context_works(void)
{
	doing("a new context");
	snapsend_t *ctx = create_ctx();
	transfers(ctx);
	destroy_ctx(ctx);
	doing("");
}

#endif
