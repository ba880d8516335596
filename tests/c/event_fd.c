/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The event descriptor in poll, select, epoll level and edge: readable while completions wait, cleared by
 * snapsend_poll, closed on exec, gone with the context. */
#include "common.h"
#include <sys/epoll.h>
#include <sys/select.h>

static snapsend_t *ctx;
static int event;
static int sv[2];
static int file;

static bool by_poll(int ms)
{
	struct pollfd p = { .fd = event, .events = POLLIN };
	int n = (int)SYS(poll(&p, 1, ms));
	CHECK(n == 0 || p.revents == POLLIN);
	return n == 1;
}

static bool by_select(int ms)
{
	fd_set set;
	struct timeval t = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	FD_ZERO(&set);
	FD_SET(event, &set);
	return SYS(select(event + 1, &set, NULL, NULL, &t)) == 1;
}

static bool by_epoll(int epoll, int ms)
{
	struct epoll_event e;
	return SYS(epoll_wait(epoll, &e, 1, ms)) == 1;
}

/* Not readable when nothing waits; once in vain is allowed now and then, and polling clears it. */
static void quiet(void)
{
	struct snapsend_completion completion;
	for (int i = 0; i < 4 && by_poll(0); i++)
		CHECK_EQ(snapsend_poll(ctx, &completion, 1, 0), 0);
	if (by_poll(20))
		fail("readable though nothing waits");
}

static void submit(int count)
{
	struct snapsend_request request = make_request(sv[0], file, 0, 100);
	for (int i = 0; i < count; i++)
		submit_ok(ctx, &request);
}

static void take(int count)
{
	struct snapsend_completion completion;
	for (int i = 0; i < count; i++)
		CHECK_EQ(snapsend_poll(ctx, &completion, 1, WAIT_MS), 1);
}

static int epoll_of(uint32_t mode)
{
	int epoll = (int)SYS(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event e = { .events = EPOLLIN | mode };
	SYS(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &e));
	return epoll;
}

int main(void)
{
	struct snapsend_completion some[7];
	struct reader reader;
	ctx = create_ctx();
	unix_pair(sv);
	file = temp_file(100, 1);
	event = snapsend_event_fd(ctx);
	CHECK_GE(event, 0);
	CHECK_EQ(snapsend_event_fd(ctx), event); /* always the same one */
	CHECK(SYS(fcntl(event, F_GETFD)) & FD_CLOEXEC);
	reader_init(&reader, sv[1], UINT64_MAX);
	reader_go(&reader);
	int level = epoll_of(0), edge = epoll_of(EPOLLET);
	quiet();

	/* Level: readable as long as one waits, not one poll longer. */
	doing("level");
	submit(3);
	for (int left = 3; left > 0; left--) {
		CHECK(by_poll(WAIT_MS));
		CHECK(by_select(WAIT_MS));
		CHECK(by_epoll(level, WAIT_MS));
		take(1);
	}
	quiet();
	CHECK(!by_select(0));
	CHECK(!by_epoll(level, 0));

	/* One poll that takes all clears it too. */
	submit(5);
	sleep_ms(100);
	CHECK_EQ(snapsend_poll(ctx, some, 7, 0), 5);
	quiet();

	/* Edge: whoever polls until nothing is left is told of the next one. */
	doing("edge");
	while (by_epoll(edge, 0))
		;
	for (int round = 0; round < 1500; round++) {
		int want = round % 5 + 1, got = 0;
		submit(want);
		while (got < want) {
			if (!by_epoll(edge, WAIT_MS))
				fail("round %d: no edge, %d of %d taken", round, got, want);
			int n;
			while ((n = snapsend_poll(ctx, some, 1 + (unsigned)round % 7, 0)) > 0)
				got += n;
			CHECK_EQ(n, 0);
		}
		CHECK_EQ(got, want);
	}
	quiet();

	/* Many at once, taken in pieces by level. */
	doing("many");
	for (int round = 0, taken = 0; round < 30; round++, taken = 0) {
		submit(300);
		while (taken < 300) {
			CHECK(by_epoll(level, WAIT_MS));
			int n = snapsend_poll(ctx, some, 7, 0);
			CHECK_GE(n, 0);
			taken += n;
		}
	}
	quiet();
	close(level);
	close(edge);
	close(sv[0]);
	reader_join(&reader);
	destroy_ctx(ctx);
	CHECK_EQ(fcntl(event, F_GETFD), -1); /* destroyed with its context */
	return 0;
}
