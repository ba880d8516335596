/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The server for all ways but io_uring's: one thread, one epoll loop, edge-triggered, so that no way pays
 * for epoll_ctl in between.  Each classic way is one push function: it sends of the operation in
 * hand what the socket takes.  The library's are submit_operation() and take_completions().
 */
#include "bench.h"

#include <inttypes.h>
#include <linux/errqueue.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <fcntl.h>
#include <unistd.h>

#define BATCH        256
#define RETRY_MS     10             /* after -EAGAIN, when no completion comes sooner */
#define MAP_WINDOW   MIB
#define SENT_MAX     256u           /* zero-copy sends of a connection that the kernel has not reported */
#define SENT_REAP    8u             /* from here on looked for without being told */
#define PINNED_MAX   (256 * MIB)    /* buffers held for zero-copy, past which copies are sent */
#define DEPTH_BYTES  (4 * MIB)      /* bulk through the library: kept submitted ... */
#define DEPTH_MAX    16u            /* ... in at most so many operations ... */
#define DEPTH_MIN    2u             /* ... and at least so many, so that the next one is there in time */

enum { BROKEN = -1, BLOCKED = 0, DONE = 1, REFUSED = 2 };

struct server {
	const struct setup *setup;
	struct shared *shared;
	struct connection *connections;
	int epoll;
	snapsend_t *snapsend;
	unsigned depth;
	bool many;                 /* the library: requests are gathered for snapsend_submit_many() */
	struct snapsend_request *gathered;
	unsigned gathered_count;
	struct connection *first_waiting, **last_waiting; /* for room in the library, in order */
	size_t chunk, pipe_size;
	struct buffer *free_buffers;
	uint64_t buffers_size;
	int (*pipes)[2];           /* free ones, as a stack: the last used is the warmest */
	unsigned pipe_count;
	bool counted;              /* stats at the start of the time that counts have been taken */
};

static struct server server;

typedef int (*push_function)(struct connection *c);
static push_function push;

/* ---- what all servers share ---------------------------------------------------------------- */

struct connection *accept_all(const struct setup *setup, struct shared *shared, bool blocking)
{
	unsigned count = setup->connections + setup->cold + setup->stalled;
	struct connection *all = calloc(count, sizeof(*all));
	int file = open(setup->path, O_RDONLY | O_CLOEXEC);

	if (all == NULL || file < 0)
		fail(shared, "server: %s: %s", setup->path, strerror(errno));
	for (unsigned i = 0; i < count; i++) {
		struct connection *c = &all[i];
		int one = 1, buffer = STALL_BUFFER;

		c->fd = accept4(setup->listener, NULL, NULL, SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK));
		if (c->fd < 0)
			fail(shared, "server: accept: %s", strerror(errno));
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		/* Loopback's segments make the kernel start with buffers of megabytes, times thousands. */
		if (setup->workload == STALLED)
			setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
		/* Cold reads are guessed ahead by descriptor: streams that share one would spoil it. */
		c->file_fd = setup->cold > 0 ? open(setup->path, O_RDONLY | O_CLOEXEC) : file;
		if (c->file_fd < 0)
			fail(shared, "server: %s: %s", setup->path, strerror(errno));
		c->index = i;
		c->pipe[0] = c->pipe[1] = -1;
	}
	return all;
}

void take_question(const struct setup *setup, struct shared *shared, struct connection *c,
		   const struct question *question)
{
	if (question->length == 0 || question->offset > setup->file_size ||
	    question->length > setup->file_size - question->offset)
		fail(shared, "server: a question out of range");
	atomic_fetch_add_explicit(&shared->questions, 1, memory_order_relaxed);
	c->busy = true;
	c->start = c->offset = question->offset;
	c->left = question->length;
	if (setup->workload != BULK) {
		c->header = (struct header){
			.magic = HEADER_MAGIC, .offset = c->offset, .length = c->left, .sequence = c->operations,
		};
		c->header_left = sizeof(c->header);
	}
	c->operations++;
}

bool take_next(const struct setup *setup, struct shared *shared, struct connection *c)
{
	if (setup->workload != BULK || atomic_load_explicit(&shared->stopping, memory_order_relaxed) ||
	    (setup->operations != 0 && c->operations >= setup->operations))
		return false;
	c->offset = (c->start + c->operations * setup->size) % setup->file_size;
	c->left = setup->size;
	c->operations++;
	c->busy = true;
	return true;
}

static int broken(const char *call)
{
	if (errno == EAGAIN)
		return BLOCKED;
	if (!atomic_load(&server.shared->stopping))
		fail(server.shared, "server: %s: %s", call, strerror(errno));
	return BROKEN;
}

static void ended_early(const struct connection *c)
{
	fail(server.shared, "server: the file ended early, at %" PRIu64, c->offset);
}

/* ---- buffers, for pread and zerocopy ------------------------------------------------------- */

struct buffer {
	struct buffer *next;
	unsigned sends;            /* zero-copy sends that the kernel has not reported */
	bool finished;             /* nothing of it is left to send */
	char *bytes;
};

/* The last one given back comes first: it is the one still in the processor's cache. */
static struct buffer *get_buffer(void)
{
	struct buffer *b = server.free_buffers;

	if (b != NULL) {
		server.free_buffers = b->next;
	} else {
		b = calloc(1, sizeof(*b));
		if (b == NULL || posix_memalign((void **)&b->bytes, PAGE, server.chunk + PAGE) != 0)
			fail(server.shared, "server: no memory");
		server.buffers_size += server.chunk;
	}
	b->finished = false;
	return b;
}

static void put_buffer(struct buffer *b)
{
	b->next = server.free_buffers;
	server.free_buffers = b;
}

/* Header and data share a buffer: then one send does for a small answer.  The data starts on a page. */
static void fill_buffer(struct connection *c)
{
	struct buffer *b = get_buffer();
	size_t length = (size_t)smaller(c->left, server.chunk);
	ssize_t n;

	c->from = PAGE - c->header_left;
	memcpy(b->bytes + c->from, (char *)&c->header + sizeof(c->header) - c->header_left, c->header_left);
	c->header_left = 0;
	n = pread(c->file_fd, b->bytes + PAGE, length, (off_t)c->offset);
	if (n <= 0)
		ended_early(c);
	c->until = PAGE + (size_t)n;
	c->offset += (uint64_t)n;
	c->left -= (uint64_t)n;
	c->buffer = b;
}

static int more(const struct connection *c)
{
	return MSG_NOSIGNAL | (c->left > 0 && server.setup->workload != BULK ? MSG_MORE : 0);
}

static int push_pread(struct connection *c)
{
	for (;;) {
		ssize_t n;

		if (c->buffer == NULL) {
			if (c->left == 0)
				return DONE;
			fill_buffer(c);
		}
		n = send(c->fd, c->buffer->bytes + c->from, c->until - c->from, more(c));
		if (n < 0)
			return broken("send");
		c->from += (size_t)n;
		if (c->from == c->until) {
			put_buffer(c->buffer);
			c->buffer = NULL;
		}
	}
}

/* ---- MSG_ZEROCOPY -------------------------------------------------------------------------- */

static void sent_reported(struct connection *c, uint32_t first, uint32_t last)
{
	for (uint32_t id = first; id != last + 1; id++) {
		struct buffer **slot = &c->sent[id % SENT_MAX], *b = *slot;

		*slot = NULL;
		if (b != NULL && --b->sends == 0 && b->finished)
			put_buffer(b);
	}
	while (c->sent_first != c->sent_next && c->sent[c->sent_first % SENT_MAX] == NULL)
		c->sent_first++;
}

static void reap(struct connection *c)
{
	char control[256];

	while (c->sent_first != c->sent_next) {
		struct msghdr message = { .msg_control = control, .msg_controllen = sizeof(control) };
		struct cmsghdr *part;

		if (recvmsg(c->fd, &message, MSG_ERRQUEUE) < 0)
			return;
		for (part = CMSG_FIRSTHDR(&message); part != NULL; part = CMSG_NXTHDR(&message, part)) {
			struct sock_extended_err error;

			memcpy(&error, CMSG_DATA(part), sizeof(error));
			if (error.ee_origin != SO_EE_ORIGIN_ZEROCOPY || error.ee_errno != 0)
				continue;
			sent_reported(c, error.ee_info, error.ee_data);
			server.shared->zerocopy_notified += error.ee_data - error.ee_info + 1;
			if ((error.ee_code & SO_EE_CODE_ZEROCOPY_COPIED) != 0)
				server.shared->zerocopy_copied += error.ee_data - error.ee_info + 1;
		}
	}
}

static int push_zerocopy(struct connection *c)
{
	for (;;) {
		bool copy;
		ssize_t n;

		if (c->sent_next - c->sent_first >= SENT_REAP)
			reap(c);
		if (c->buffer == NULL) {
			if (c->left == 0)
				return DONE;
			fill_buffer(c);
		}
		copy = c->sent_next - c->sent_first >= SENT_MAX || server.buffers_size > PINNED_MAX;
		n = send(c->fd, c->buffer->bytes + c->from, c->until - c->from, more(c) | (copy ? 0 : MSG_ZEROCOPY));
		if (n < 0 && !copy && errno == ENOBUFS) { /* the socket's share of optmem is used up */
			copy = true;
			n = send(c->fd, c->buffer->bytes + c->from, c->until - c->from, more(c));
		}
		if (n < 0)
			return broken("send");
		if (!copy) {
			c->sent[c->sent_next++ % SENT_MAX] = c->buffer;
			c->buffer->sends++;
		}
		c->from += (size_t)n;
		if (c->from == c->until) {
			c->buffer->finished = true;
			if (c->buffer->sends == 0)
				put_buffer(c->buffer);
			c->buffer = NULL;
		}
	}
}

static void start_zerocopy(struct connection *c)
{
	int one = 1;

	if (setsockopt(c->fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) < 0)
		skip(server.shared, "SO_ZEROCOPY: %s", strerror(errno));
	c->sent = calloc(SENT_MAX, sizeof(*c->sent));
	if (c->sent == NULL)
		fail(server.shared, "server: no memory");
}

/* ---- sendfile, splice, mmap ---------------------------------------------------------------- */

/* Held back by MSG_MORE until data follows, so that both share a segment. */
static int push_header(struct connection *c)
{
	while (c->header_left > 0) {
		ssize_t n = send(c->fd, (char *)&c->header + sizeof(c->header) - c->header_left, c->header_left,
				 MSG_MORE | MSG_NOSIGNAL);

		if (n < 0)
			return broken("send");
		c->header_left -= (unsigned)n;
	}
	return DONE;
}

static int push_sendfile(struct connection *c)
{
	int r = push_header(c);

	while (r == DONE && c->left > 0) {
		off_t offset = (off_t)c->offset;
		ssize_t n = sendfile(c->fd, c->file_fd, &offset, (size_t)c->left);

		if (n < 0)
			return broken("sendfile");
		if (n == 0)
			ended_early(c);
		c->offset += (uint64_t)n;
		c->left -= (uint64_t)n;
	}
	return r;
}

/* A connection has a pipe only while it has something in hand. */
static void get_pipe(struct connection *c)
{
	if (server.pipe_count > 0) {
		memcpy(c->pipe, server.pipes[--server.pipe_count], sizeof(c->pipe));
		return;
	}
	if (pipe2(c->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
		skip(server.shared, "no descriptors for a pipe for each peer: %s", strerror(errno));
	if (fcntl(c->pipe[0], F_SETPIPE_SZ, (int)server.pipe_size) < 0)
		skip(server.shared, "F_SETPIPE_SZ: %s", strerror(errno));
}

static void put_pipe(struct connection *c)
{
	memcpy(server.pipes[server.pipe_count++], c->pipe, sizeof(c->pipe));
	c->pipe[0] = c->pipe[1] = -1;
}

static int push_splice(struct connection *c)
{
	int r = push_header(c);

	if (r != DONE)
		return r;
	if (c->pipe[0] < 0)
		get_pipe(c);
	while (c->left > 0 || c->in_pipe > 0) {
		ssize_t n;

		if (c->in_pipe == 0) {
			off_t offset = (off_t)c->offset;

			n = splice(c->file_fd, &offset, c->pipe[1], NULL, (size_t)smaller(c->left, server.pipe_size),
				   SPLICE_F_NONBLOCK);
			if (n < 0)
				fail(server.shared, "server: splice from the file: %s", strerror(errno));
			if (n == 0)
				ended_early(c);
			c->in_pipe = (size_t)n;
			c->offset += (uint64_t)n;
			c->left -= (uint64_t)n;
		}
		n = splice(c->pipe[0], NULL, c->fd, NULL, c->in_pipe,
			   SPLICE_F_NONBLOCK | ((more(c) & MSG_MORE) != 0 ? SPLICE_F_MORE : 0));
		if (n < 0)
			return broken("splice to the socket");
		c->in_pipe -= (size_t)n;
	}
	put_pipe(c);
	return DONE;
}

/* from and until are the window's part that is still to be sent. */
static int push_mmap(struct connection *c)
{
	for (;;) {
		struct iovec parts[2];
		struct msghdr message = { .msg_iov = parts };
		ssize_t n;

		if (c->map == NULL) {
			uint64_t base = c->offset / PAGE * PAGE;
			size_t length;

			if (c->left == 0)
				return DONE;
			length = (size_t)smaller(c->left, MAP_WINDOW);
			c->from = (size_t)(c->offset - base);
			c->until = c->map_length = c->from + length;
			/* Populated: one call instead of a fault for each 64 KiB. */
			c->map = mmap(NULL, c->map_length, PROT_READ, MAP_SHARED | MAP_POPULATE, c->file_fd, (off_t)base);
			if (c->map == MAP_FAILED)
				fail(server.shared, "server: mmap: %s", strerror(errno));
			c->offset += length;
			c->left -= length;
		}
		if (c->header_left > 0)
			parts[message.msg_iovlen++] = (struct iovec){
				(char *)&c->header + sizeof(c->header) - c->header_left, c->header_left };
		parts[message.msg_iovlen++] = (struct iovec){ c->map + c->from, c->until - c->from };
		n = sendmsg(c->fd, &message, more(c));
		if (n < 0)
			return broken("sendmsg");
		if (c->header_left > 0) {
			unsigned head = (unsigned)smaller(c->header_left, (uint64_t)n);

			c->header_left -= head;
			n -= head;
		}
		c->from += (size_t)n;
		if (c->from == c->until) {
			munmap(c->map, c->map_length);
			c->map = NULL;
		}
	}
}

/* ---- the library --------------------------------------------------------------------------- */

static void make_request(struct connection *c, struct snapsend_request *request)
{
	*request = (struct snapsend_request){
		.socket_fd = c->fd, .file_fd = c->file_fd, .offset = c->offset, .length = c->left,
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

	if (server.many) {
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
		int r = push(c);

		if (r == BROKEN || r == REFUSED || (r == BLOCKED && !(server.snapsend != NULL && c->in_flight < server.depth)))
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
	if ((events & EPOLLERR) != 0 && c->sent != NULL)
		reap(c);
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

static void prepare_way(const char *name)
{
	const struct setup *setup = server.setup;
	struct snapsend_info info;
	int r;

	/* In bulk larger pieces cost less; in an answer they would only leave the cache. */
	server.chunk = (size_t)smaller(setup->size, setup->workload == BULK ? MIB : 256 * KIB);
	if (setup->cold > 0)
		server.chunk = 256 * KIB;
	if (setup->stalled > 0) /* each stalled peer keeps one */
		server.chunk = 64 * KIB;
	server.pipe_size = strcmp(name, "splice1m") == 0 ? MIB : 64 * KIB;
	if (strcmp(name, "sendfile") == 0) {
		push = push_sendfile;
	} else if (strncmp(name, "splice", 6) == 0) {
		push = push_splice;
		server.pipes = calloc(setup->connections + setup->cold + setup->stalled, sizeof(*server.pipes));
	} else if (strcmp(name, "pread") == 0) {
		push = push_pread;
	} else if (strcmp(name, "mmap") == 0) {
		push = push_mmap;
	} else if (strcmp(name, "zerocopy") == 0) {
		push = push_zerocopy;
	} else {
		push = strcmp(name, "try_send") == 0 ? try_operation : submit_operation;
		server.many = strcmp(name, "submit_many") == 0;
		r = snapsend_create(NULL, 0, &server.snapsend);
		if (r < 0)
			fail(server.shared, "server: snapsend_create: %s", strerror(-r));
		if (snapsend_get_info(server.snapsend, &info, sizeof(info)) == 0)
			server.shared->engine = info.engine;
		server.depth = 1;
		if (setup->workload == BULK) {
			server.depth = (unsigned)smaller(DEPTH_BYTES / setup->size, DEPTH_MAX);
			server.depth = server.depth < DEPTH_MIN ? DEPTH_MIN : server.depth;
		}
		if (server.many) {
			unsigned total = setup->connections + setup->cold + setup->stalled;

			server.gathered = calloc(total * (size_t)server.depth, sizeof(*server.gathered));
			if (server.gathered == NULL)
				fail(server.shared, "server: no memory");
		}
	}
}

int serve_by_epoll(const struct setup *setup, struct shared *shared)
{
	unsigned total = setup->connections + setup->cold + setup->stalled;
	int r;

	server = (struct server){ .setup = setup, .shared = shared, .last_waiting = &server.first_waiting };
	server.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (server.epoll < 0)
		fail(shared, "server: epoll_create1: %s", strerror(errno));
	prepare_way(setup->way->name);
	server.connections = accept_all(setup, shared, false);
	for (unsigned i = 0; i < total; i++) {
		struct connection *c = &server.connections[i];
		/* The library looks after writability itself. */
		struct epoll_event event = {
			.events = EPOLLIN | EPOLLET | (server.snapsend == NULL ? EPOLLOUT : 0), .data.ptr = c,
		};

		if (push == push_zerocopy)
			start_zerocopy(c);
		if (epoll_ctl(server.epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
			fail(shared, "server: epoll_ctl: %s", strerror(errno));
	}
	atomic_store(&shared->server_ready, 1);
	loop();
	count(&shared->after);
	if (server.snapsend != NULL) {
		shared->zerocopy_notified = shared->after.zerocopy_notified;
		shared->zerocopy_copied = shared->after.zerocopy_copied_anyway;
		r = snapsend_destroy(server.snapsend);
		if (r < 0)
			fail(shared, "server: snapsend_destroy: %s", strerror(-r));
	}
	return 0;
}
