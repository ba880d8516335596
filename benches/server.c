/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One thread, one epoll loop, edge-triggered, so that no way pays for epoll_ctl in between.  Each way is a push function:
 * those of the library are in library.c, the others in classic.c.
 */
#include "server.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "classic.h"
#include "connections.h"
#include "library.h"

#define BATCH    256
#define RETRY_MS 10 /* after -EAGAIN, when no completion comes sooner */

static struct {
	const struct setup *setup;
	struct shared *shared;
	push_function push;
	struct connection *connections;
	int epoll;
	struct connection *first_waiting, **last_waiting; /* for room in the library, in order */
	bool counted; /* stats at the start of the time that counts have been taken */
} server;

static bool by_library(void)
{
	return server.setup->way->library;
}

/* ---- the loop ------------------------------------------------------------------------------ */

static bool read_question(struct connection *c)
{
	struct question question;
	ssize_t n = recv(c->fd, &question, sizeof(question), MSG_DONTWAIT);

	if (n == (ssize_t)sizeof(question)) {
		take_question(server.setup, server.shared, c, &question);
		return true;
	}
	if (n < 0 && errno == EAGAIN)
		return false;
	/* The client writes sixteen bytes at once, so never less arrives. */
	if (!atomic_load(&server.shared->stopping))
		fail(server.shared, "server: recv: %s", n < 0 ? strerror(errno) : "end of the stream");
	return false;
}

/* Those that wait go first, or the lucky ones would overtake them for ever. */
static void wait_for_room(struct connection *c)
{
	c->waiting = true;
	c->next_waiting = NULL;
	*server.last_waiting = c;
	server.last_waiting = &c->next_waiting;
}

/* Goes on with the operation in hand, and in bulk with the next ones: the library takes several ahead. */
static void work(struct connection *c)
{
	for (;;) {
		int r = server.push(c);

		if (r == REFUSED)
			wait_for_room(c);
		if (r == BROKEN || r == REFUSED || (r == BLOCKED && !(by_library() && wants_more(c))))
			return;
		if (r == DONE)
			c->busy = false;
		if (!take_next(server.setup, server.shared, c))
			return;
	}
}

static void retry_waiting(void)
{
	struct connection *c = server.first_waiting;

	server.first_waiting = NULL;
	server.last_waiting = &server.first_waiting;
	while (c != NULL) {
		struct connection *next = c->next_waiting;

		c->waiting = false;
		work(c);
		if (c->waiting) { /* still no room: so for the others */
			c->next_waiting = next;
			while (*server.last_waiting != NULL)
				server.last_waiting = &(*server.last_waiting)->next_waiting;
			return;
		}
		c = next;
	}
}

static void work_on_next(struct connection *c)
{
	if (!c->waiting && take_next(server.setup, server.shared, c))
		work(c);
}

/* The library sends what is submitted for a socket in order: the next answer need not wait for the DONE of the last. */
static void connection_event(struct connection *c, uint32_t events)
{
	if ((events & EPOLLERR) != 0)
		take_reports(c);
	if (c->busy && !by_library())
		work(c);
	if ((!c->busy || by_library()) && (events & EPOLLIN) != 0 && read_question(c))
		work(c);
}

static void loop(void)
{
	struct epoll_event events[BATCH];
	static char control, completions;

	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &control };

	epoll_ctl(server.epoll, EPOLL_CTL_ADD, server.setup->control, &event);
	event.data.ptr = &completions;
	if (by_library() && epoll_ctl(server.epoll, EPOLL_CTL_ADD, completions_descriptor(), &event) < 0)
		fail(server.shared, "server: epoll_ctl: %s", strerror(errno));
	for (;;) {
		bool retry = server.first_waiting != NULL || has_gathered();
		int n = epoll_wait(server.epoll, events, BATCH, retry ? RETRY_MS : -1);

		if (n < 0 && errno != EINTR)
			fail(server.shared, "server: epoll_wait: %s", strerror(errno));
		if (!server.counted && atomic_load_explicit(&server.shared->measuring, memory_order_relaxed)) {
			server.counted = true;
			if (by_library())
				count_library(&server.shared->before);
		}
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &control)
				return;
			if (events[i].data.ptr == &completions)
				take_completions(work_on_next);
			else
				connection_event(events[i].data.ptr, events[i].events);
		}
		if (server.first_waiting != NULL)
			retry_waiting();
		if (has_gathered())
			flush_gathered();
	}
}

/* ---- a run --------------------------------------------------------------------------------- */

static void watch_connection(struct connection *c)
{
	/* The library looks after writability itself. */
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLET | (by_library() ? 0 : EPOLLOUT),
		.data.ptr = c,
	};

	if (by_library())
		start_library(c);
	else
		start_classic(c);
	if (epoll_ctl(server.epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
		fail(server.shared, "server: epoll_ctl: %s", strerror(errno));
}

int serve_by_epoll(const struct setup *setup, struct shared *shared)
{
	unsigned total = setup->connections + setup->cold + setup->stalled;

	server.setup = setup;
	server.shared = shared;
	server.last_waiting = &server.first_waiting;
	server.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (server.epoll < 0)
		fail(shared, "server: epoll_create1: %s", strerror(errno));
	server.connections = accept_all(setup, shared, false);
	server.push =
		by_library() ? prepare_library(setup, shared, server.connections) : prepare_classic(setup, shared);
	for (unsigned i = 0; i < total; i++)
		watch_connection(&server.connections[i]);
	atomic_store(&shared->server_ready, 1);
	loop();
	if (by_library())
		finish_library();
	return 0;
}
