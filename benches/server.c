/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One thread, one epoll loop, edge-triggered, so that no way pays for epoll_ctl in between.  Each way is a push function: the
 * classic ones are in classic.c, the library's are submit_operation() and try_operation(), with take_completions().
 */
#include "server.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "classic.h"
#include "connections.h"

#define BATCH       256
#define RETRY_MS    10        /* after -EAGAIN, when no completion comes sooner */
#define DEPTH_BYTES (4 * MIB) /* bulk through the library: kept submitted ... */
#define DEPTH_MAX   16u       /* ... in at most so many operations ... */
#define DEPTH_MIN   2u        /* ... and at least so many, so that the next one is there in time */

static struct {
	const struct setup *setup;
	struct shared *shared;
	push_function push;
	struct connection *connections;
	int epoll;
	snapsend_t *snapsend; /* NULL: one of the classic ways */
	unsigned depth;
	struct snapsend_request *gathered; /* for snapsend_submit_many(), or NULL */
	unsigned gathered_count;
	struct connection *first_waiting, **last_waiting; /* for room in the library, in order */
	bool counted; /* stats at the start of the time that counts have been taken */
} server;

/* ---- the library --------------------------------------------------------------------------- */

static void make_request(struct connection *c, struct snapsend_request *request)
{
	*request = (struct snapsend_request){
		.socket_fd = c->fd,
		.file_fd = c->file_fd,
		.offset = c->offset,
		.length = c->left,
		.user_data = (uintptr_t)c,
	};
	if (c->header_left > 0) {
		c->header_part = (struct iovec){ &c->header, sizeof(c->header) };
		request->header = &c->header_part;
		request->header_count = 1;
	}
}

static void check_done(const struct snapsend_completion *done)
{
	if (done->status < 0 && !atomic_load(&server.shared->stopping))
		fail(server.shared, "server: an operation ended with %s after %" PRIu64 " bytes",
		     strerror(-done->status), done->wire_bytes);
}

/* Those that wait go first, or the lucky ones would overtake them for ever. */
static int refused(struct connection *c)
{
	atomic_fetch_add(&server.shared->refusals, 1);
	c->waiting = true;
	c->next_waiting = NULL;
	*server.last_waiting = c;
	server.last_waiting = &c->next_waiting;
	return REFUSED;
}

static int submit_operation(struct connection *c)
{
	struct snapsend_request request;
	int r;

	if (server.gathered != NULL) {
		make_request(c, &server.gathered[server.gathered_count++]);
		c->in_flight++;
		return BLOCKED;
	}
	make_request(c, &request);
	r = snapsend_submit(server.snapsend, &request, sizeof(request), NULL);
	if (r == -EAGAIN)
		return refused(c);
	if (r < 0)
		fail(server.shared, "server: snapsend_submit: %s", strerror(-r));
	c->in_flight++;
	return BLOCKED;
}

static int try_operation(struct connection *c)
{
	struct snapsend_completion done;
	struct snapsend_request request;
	int r;

	make_request(c, &request);
	r = snapsend_try_send(server.snapsend, &request, sizeof(request), &done);
	if (r == -EAGAIN)
		return refused(c);
	if (r < 0)
		fail(server.shared, "server: snapsend_try_send: %s", strerror(-r));
	if (r == 1) {
		check_done(&done);
		return DONE;
	}
	c->in_flight++;
	return BLOCKED;
}

static void flush_gathered(void)
{
	unsigned taken = 0;

	while (taken < server.gathered_count) {
		int r = snapsend_submit_many(server.snapsend, &server.gathered[taken], sizeof(*server.gathered),
					     server.gathered_count - taken, NULL);

		if (r == -EAGAIN) {
			atomic_fetch_add(&server.shared->refusals, 1);
			break;
		}
		if (r <= 0)
			fail(server.shared, "server: snapsend_submit_many: %s", strerror(-r));
		taken += (unsigned)r;
	}
	server.gathered_count -= taken;
	memmove(server.gathered, server.gathered + taken, server.gathered_count * sizeof(*server.gathered));
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

/* Goes on with the operation in hand, and in bulk with the next ones: the library takes several ahead. */
static void work(struct connection *c)
{
	for (;;) {
		int r = server.push(c);

		if (r == BROKEN || r == REFUSED ||
		    (r == BLOCKED && !(server.snapsend != NULL && c->in_flight < server.depth)))
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

static void take_completions(void)
{
	struct snapsend_completion done[BATCH];
	int n;

	/* The event fd stays readable while there are more than these. */
	n = snapsend_poll(server.snapsend, done, BATCH, 0);
	if (n < 0 && n != -EINTR)
		fail(server.shared, "server: snapsend_poll: %s", strerror(-n));
	for (int i = 0; i < n; i++) {
		struct connection *c = (struct connection *)(uintptr_t)done[i].user_data;

		check_done(&done[i]);
		c->in_flight--;
		c->busy = c->in_flight > 0;
		if (server.setup->workload == BULK) {
			if (take_next(server.setup, server.shared, c))
				work(c);
		} else if (c->readable) {
			c->readable = false;
			if (read_question(c))
				work(c);
		}
	}
}

static void connection_event(struct connection *c, uint32_t events)
{
	if ((events & EPOLLERR) != 0)
		take_reports(c);
	if (c->busy && server.snapsend != NULL) { /* waiting for its DONE, or for room */
		c->readable = true;
		return;
	}
	if (c->busy)
		work(c);
	if (!c->busy && (events & EPOLLIN) != 0 && read_question(c))
		work(c);
}

static void count(struct snapsend_stats *stats)
{
	int r = server.snapsend != NULL ? snapsend_get_stats(server.snapsend, stats, sizeof(*stats)) : 0;

	if (r < 0)
		fail(server.shared, "server: snapsend_get_stats: %s", strerror(-r));
}

static void loop(void)
{
	struct epoll_event events[BATCH];
	static char control, completions;

	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &control };

	epoll_ctl(server.epoll, EPOLL_CTL_ADD, server.setup->control, &event);
	event.data.ptr = &completions;
	if (server.snapsend != NULL &&
	    epoll_ctl(server.epoll, EPOLL_CTL_ADD, snapsend_event_fd(server.snapsend), &event) < 0)
		fail(server.shared, "server: epoll_ctl: %s", strerror(errno));
	for (;;) {
		bool retry = server.first_waiting != NULL || server.gathered_count > 0;
		int n = epoll_wait(server.epoll, events, BATCH, retry ? RETRY_MS : -1);

		if (n < 0 && errno != EINTR)
			fail(server.shared, "server: epoll_wait: %s", strerror(errno));
		if (!server.counted && atomic_load_explicit(&server.shared->measuring, memory_order_relaxed)) {
			count(&server.shared->before);
			server.counted = true;
		}
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &control)
				return;
			if (events[i].data.ptr == &completions)
				take_completions();
			else
				connection_event(events[i].data.ptr, events[i].events);
		}
		if (server.first_waiting != NULL)
			retry_waiting();
		if (server.gathered_count > 0)
			flush_gathered();
	}
}

/* ---- a run --------------------------------------------------------------------------------- */

static void prepare_library(void)
{
	const struct setup *setup = server.setup;
	struct snapsend_info info;
	int r = snapsend_create(NULL, 0, &server.snapsend);

	if (r < 0)
		fail(server.shared, "server: snapsend_create: %s", strerror(-r));
	if (snapsend_get_info(server.snapsend, &info, sizeof(info)) == 0)
		server.shared->engine = info.engine;
	server.push = setup->way->variant == TRY_SEND ? try_operation : submit_operation;
	server.depth = 1;
	if (setup->workload == BULK) {
		server.depth = (unsigned)smaller(DEPTH_BYTES / setup->size, DEPTH_MAX);
		server.depth = server.depth < DEPTH_MIN ? DEPTH_MIN : server.depth;
	}
	if (setup->way->variant == SUBMIT_MANY) {
		unsigned total = setup->connections + setup->cold + setup->stalled;

		server.gathered = calloc(total * (size_t)server.depth, sizeof(*server.gathered));
		if (server.gathered == NULL)
			fail(server.shared, "server: no memory");
	}
}

static void destroy_library(void)
{
	int r;

	server.shared->zerocopy_notified = server.shared->after.zerocopy_notified;
	server.shared->zerocopy_copied = server.shared->after.zerocopy_copied_anyway;
	r = snapsend_destroy(server.snapsend);
	if (r < 0)
		fail(server.shared, "server: snapsend_destroy: %s", strerror(-r));
}

static void watch_connection(struct connection *c)
{
	/* The library looks after writability itself. */
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLET | (server.snapsend == NULL ? EPOLLOUT : 0),
		.data.ptr = c,
	};

	if (server.snapsend == NULL)
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
	if (setup->way->library)
		prepare_library();
	else
		server.push = prepare_classic(setup, shared);
	server.connections = accept_all(setup, shared, false);
	for (unsigned i = 0; i < total; i++)
		watch_connection(&server.connections[i]);
	atomic_store(&shared->server_ready, 1);
	loop();
	count(&shared->after);
	if (server.snapsend != NULL)
		destroy_library();
	return 0;
}
