/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * http_server: serves static files over HTTP.  It has one thread and one epoll loop, which also watches snapsend's event
 * descriptor.
 *
 *	http_server [--zerocopy] DIRECTORY [PORT [ADDRESS [IDLE_SECONDS]]]
 *
 * The section "snapsend" is what a server of any protocol needs; http.h implements HTTP.  Sockets and files are registered
 * while they are open.  The next request of a client is answered at SENT, when all of the answer before it is in the
 * socket.  A client is closed at its last DONE, which with --zerocopy comes later: the socket holds pages of the file
 * until the peer has acknowledged them.  If a client disconnects during an answer, the server cancels its operations.
 */
#define _GNU_SOURCE
#include <sys/epoll.h>

#include "http.h"
#include "loopback.h"
#include "snapsend.h"

#define CLIENTS 65536 /* clients have descriptors below this */
#define FILES   256u  /* kept open */
#define SHORT   65536 /* answers up to this length are tried on this thread */
#define TICK_MS 1000  /* how often deadlines are checked */
#define BATCH   256

enum state {
	READING, /* waits for a request, or, after the last answer, until the peer closes */
	SENDING, /* an answer is not yet in the socket as a whole */
	ENDING,  /* waits for the last DONE; then closed */
};

struct client {
	enum state state;
	int fd, handle;
	unsigned in_flight; /* operations whose DONE has not come */
	bool watched;       /* epoll reports input */
	bool keep_alive;    /* false: the answer in flight is the last */
	int64_t deadline;   /* for the next request; does not count while an operation is in flight */
	struct http_input input;
};

/* An open file; handle 0: none. */
struct file {
	int fd, handle;
	dev_t device;
	ino_t inode;
	int64_t used; /* when an answer with it was last started */
};

static struct {
	int epoll, listener, root;
	snapsend_t *snapsend;
	uint32_t file_flags;             /* of requests with a file */
	struct client *clients[CLIENTS]; /* by descriptor */
	struct file files[FILES];
	int64_t now, idle_ms;
	int64_t looked_at; /* when deadlines were last checked */
} server;

static bool epoll_set(int operation, int fd, uint32_t events, void *tag)
{
	struct epoll_event event = { .events = events, .data.ptr = tag };

	return epoll_ctl(server.epoll, operation, fd, &event) == 0;
}

/* Enables or disables the report of input.  A client that waits for each answer needs no epoll_ctl. */
static void watch(struct client *c, bool on)
{
	if (c->watched != on && !epoll_set(EPOLL_CTL_MOD, c->fd, on ? EPOLLIN : 0, c))
		die("epoll_ctl", errno);
	c->watched = on;
}

/* ---- snapsend ------------------------------------------------------------------------------ */

/* Closes a client, as soon as it has no operation in flight. */
static void end_client(struct client *c)
{
	/* Hang-ups cannot be masked.  Closing does not suffice: the library's copy keeps the connection open for a
	 * moment. */
	epoll_set(EPOLL_CTL_DEL, c->fd, 0, NULL);
	c->state = ENDING;
	if (c->in_flight == 0) {
		snapsend_unregister_socket(server.snapsend, c->handle);
		close(c->fd);
		server.clients[c->fd] = NULL;
		free(c);
	}
}

static void add_client(int fd)
{
	struct client *c = fd < CLIENTS ? calloc(1, sizeof(*c)) : NULL;

	if (c == NULL) {
		close(fd);
		return;
	}
	server.clients[fd] = c;
	c->fd = fd;
	c->handle = snapsend_register_socket(server.snapsend, fd, 0);
	c->watched = c->keep_alive = true;
	c->deadline = server.now + server.idle_ms;
	if (c->handle < 0 || !epoll_set(EPOLL_CTL_ADD, fd, EPOLLIN, c))
		end_client(c);
}

/* Operations in flight continue: the library has a copy. */
static void close_file(struct file *file)
{
	if (file->handle != 0) {
		snapsend_unregister_file(server.snapsend, file->handle);
		close(file->fd);
		file->handle = 0;
	}
}

/* Registers the file of an answer, unless it is registered already.  Returns the handle, or -errno. */
static int keep_file(const struct http_answer *answer)
{
	const struct stat *st = &answer->st;
	struct file *file = &server.files[(st->st_dev ^ st->st_ino) % FILES];

	if (file->handle > 0 && file->device == st->st_dev && file->inode == st->st_ino) {
		close(answer->file_fd);
	} else {
		close_file(file);
		*file = (struct file){ .fd = answer->file_fd, .device = st->st_dev, .inode = st->st_ino };
		file->handle = snapsend_register_file(server.snapsend, file->fd, 0);
	}
	file->used = server.now;
	return file->handle;
}

/* Sends the head as the request's header, then a range of the file.  Answers without a file are also operations, so that
 * pipelined answers keep their order.  Returns whether the answer has been sent; else completions follow, or the client
 * has been closed. */
static bool send_answer(struct client *c, struct http_answer *answer)
{
	bool body = answer->file_fd >= 0;
	struct iovec header = { .iov_base = answer->head, .iov_len = answer->head_length };
	struct snapsend_request request = {
		.socket_fd = c->handle,
		.file_fd = body ? keep_file(answer) : -1,
		.offset = answer->offset,
		.length = answer->length,
		.header = &header,
		.header_count = 1,
		.flags = SNAPSEND_REGISTERED_SOCKET | SNAPSEND_NOTIFY_SENT | (body ? server.file_flags : 0),
		.user_data = (uintptr_t)c,
		.timeout_ms = http_timeout_ms(answer),
	};

	struct snapsend_completion done;
	int r;

	/* A short answer usually fits into the socket, and then needs no other thread. */
	if (answer->length <= SHORT)
		r = snapsend_try_send(server.snapsend, &request, sizeof(request), &done);
	else
		r = snapsend_submit(server.snapsend, &request, sizeof(request), NULL);
	c->keep_alive = answer->keep_alive;
	c->deadline = server.now + server.idle_ms;
	if (r == 1 && done.status == 0)
		return true;
	if (r != 0) { /* no room, no memory, or the peer is gone */
		end_client(c);
		return false;
	}
	c->in_flight++;
	c->state = SENDING;
	return false;
}

/* Answers requests that are complete, one at a time.  After the last answer, it ends the stream instead and discards input:
 * closing while the peer still sends would reset the connection, and the peer could lose the end of the answer. */
static void serve(struct client *c)
{
	struct http_answer answer;

	while (c->keep_alive && http_take(&c->input, server.root, &answer))
		if (!send_answer(c, &answer))
			return;
	if (!c->keep_alive) {
		shutdown(c->fd, SHUT_WR);
		c->input.length = 0;
	}
	c->state = READING;
	watch(c, true);
}

static void take_completions(void)
{
	struct snapsend_completion batch[BATCH];
	int n = snapsend_poll(server.snapsend, batch, BATCH, 0);

	if (n < 0 && n != -EINTR)
		die("snapsend_poll", n);
	for (int i = 0; i < n; i++) {
		struct client *c = (struct client *)(uintptr_t)batch[i].user_data;

		c->deadline = server.now + server.idle_ms;
		if (batch[i].event == SNAPSEND_EVENT_DONE) {
			c->in_flight--;
			/* After the length was announced, only closing reports an error. */
			if (c->state == ENDING || batch[i].status < 0)
				end_client(c);
		} else if (c->state == SENDING) {
			serve(c);
		}
	}
}

/* ---- the loop ------------------------------------------------------------------------------ */

/* The listener is edge-triggered.  Clients that found no free descriptor are accepted when deadlines are checked. */
static void accept_clients(void)
{
	int fd;

	while ((fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		add_client(fd);
}

static void read_input(struct client *c)
{
	ssize_t n = read(c->fd, c->input.bytes + c->input.length, sizeof(c->input.bytes) - c->input.length);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		end_client(c);
		return;
	}
	c->input.length += (size_t)n;
	serve(c);
}

static void client_event(struct client *c, uint32_t events)
{
	if (c->state == READING) {
		read_input(c);
	} else if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
		snapsend_cancel_socket(server.snapsend, c->fd);
		end_client(c);
	} else { /* the request is pipelined, and answered after the one in flight */
		watch(c, false);
	}
}

/* Closes what has been idle for too long.  Only timeout_ms limits an answer. */
static void look_at_deadlines(void)
{
	server.looked_at = server.now;
	for (int i = 0; i < CLIENTS; i++) {
		struct client *c = server.clients[i];

		if (c != NULL && c->in_flight == 0 && server.now >= c->deadline)
			end_client(c);
	}
	for (unsigned i = 0; i < FILES; i++)
		if (server.now - server.files[i].used >= server.idle_ms)
			close_file(&server.files[i]);
	accept_clients();
}

/* Completions are taken after the events of clients, because they may free a client that has an event.  False: a signal
 * ends the server. */
static bool turn(void)
{
	struct epoll_event events[BATCH];
	int n = epoll_wait(server.epoll, events, BATCH, TICK_MS);
	bool completions = false;

	if (n < 0 && errno != EINTR)
		die("epoll_wait", errno);
	server.now = milliseconds();
	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr == NULL)
			return false;
		if (events[i].data.ptr == &server.listener)
			accept_clients();
		else if (events[i].data.ptr == &server.snapsend)
			completions = true;
		else
			client_event(events[i].data.ptr, events[i].events);
	}
	if (completions)
		take_completions();
	if (server.now - server.looked_at >= TICK_MS)
		look_at_deadlines();
	return true;
}

int main(int argc, char **argv)
{
	bool zerocopy = argc > 1 && strcmp(argv[1], "--zerocopy") == 0;
	const char *program = argv[0];
	struct snapsend_stats stats;
	int signals = stop_signals(), r;

	argc -= zerocopy;
	argv += zerocopy;
	server.file_flags = SNAPSEND_REGISTERED_FILE | (zerocopy ? SNAPSEND_ZEROCOPY : 0);
	server.idle_ms = argc > 4 ? atol(argv[4]) * 1000 : 30000;
	if (argc < 2 || argc > 5 || server.idle_ms <= 0) {
		fprintf(stderr, "usage: %s [--zerocopy] DIRECTORY [PORT [ADDRESS [IDLE_SECONDS]]]\n", program);
		return 2;
	}
	server.root = open_directory(argv[1]);
	r = snapsend_create(NULL, 0, &server.snapsend);
	if (r < 0)
		die("snapsend_create", r);
	server.epoll = epoll_create1(EPOLL_CLOEXEC);
	server.listener = tcp_listener(argc > 3 ? argv[3] : "127.0.0.1", argc > 2 ? atoi(argv[2]) : 0);
	if (!epoll_set(EPOLL_CTL_ADD, signals, EPOLLIN, NULL) ||
	    !epoll_set(EPOLL_CTL_ADD, snapsend_event_fd(server.snapsend), EPOLLIN, &server.snapsend) ||
	    !epoll_set(EPOLL_CTL_ADD, server.listener, EPOLLIN | EPOLLET, &server.listener))
		die("epoll_ctl", errno);
	while (turn())
		;
	r = snapsend_get_stats(server.snapsend, &stats, sizeof(stats));
	if (r < 0)
		die("snapsend_get_stats", r);
	fprintf(stderr, "%" PRIu64 " bytes, %" PRIu64 " of them from the page cache\n", stats.wire_bytes,
		stats.bytes_page_cache);
	snapsend_destroy(server.snapsend);
	return 0;
}
