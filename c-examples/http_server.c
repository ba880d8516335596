/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * http_server: serves static files over HTTP/1.0 and 1.1 on 127.0.0.1.  It has one thread and one epoll loop, which
 * also watches snapsend's event descriptor.  GET, HEAD, one Range, keep-alive, pipelining.
 *
 *	http_server --root DIR [--port N] [--idle SECONDS]
 *
 * The calls of snapsend are in start_answer(), abandon(), take_completions(), start() and main().  One rule determines
 * the rest: from submit to DONE the socket and the file belong to the operation.  To close a client during that time,
 * the server cancels the operation, and closes the client when DONE arrives.  http.h implements HTTP.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>

#include "http.h"
#include "loopback.h"
#include "snapsend.h"

#define INLINE_MAX    (64u << 10) /* answers up to this size are tried on this thread first */
#define SLOWEST_RATE  4096u       /* bytes a second below which a client is disconnected ... */
#define SLOWEST_START 60u         /* ... after this many seconds */
#define CLIENTS_MAX   16384u
#define GRACE_MS      2000 /* for answers in flight at the end of the server */
#define TICK_MS       1000 /* how often deadlines are checked */
#define BATCH         256

/* ---- clients ------------------------------------------------------------------------------- */

enum state {
	READING,   /* waits for the rest of a request */
	SENDING,   /* an operation is in flight */
	ENDING,    /* an operation is in flight and has been cancelled; closed at its DONE */
	LINGERING, /* the last answer is sent; waits until the peer closes, so that none of it is lost */
};

struct client {
	struct client *next, *previous;
	enum state state;
	int fd;
	int file_fd;      /* of the answer in flight, or -1 */
	bool watched;     /* epoll reports input */
	bool keep_alive;  /* after the answer in flight */
	int64_t deadline; /* of READING and LINGERING */
	size_t in_length;
	char in[HTTP_HEAD_MAX];
};

static struct {
	int epoll, listener, signals, root;
	snapsend_t *snapsend;
	struct client *clients;
	unsigned count, most; /* number of clients, and its maximum */
	bool accepting;
	int64_t now, idle_ms;
	int64_t looked_at; /* when deadlines were last checked */
	int64_t stop_at;   /* when to cancel what is in flight; 0: not stopping */
	uint64_t answers;
} server = { .idle_ms = 30000 };

static int64_t milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void move_to(struct client *c, enum state state)
{
	c->state = state;
	c->deadline = server.now + server.idle_ms;
}

static bool epoll_set(int operation, int fd, uint32_t events, void *tag)
{
	struct epoll_event event = { .events = events, .data.ptr = tag };

	return epoll_ctl(server.epoll, operation, fd, &event) == 0;
}

static void accept_more(bool on)
{
	if (server.accepting != on && epoll_set(EPOLL_CTL_MOD, server.listener, on ? EPOLLIN : 0, &server.listener))
		server.accepting = on;
}

/* Enables or disables the report of input.  Called only when necessary, so that a well-behaved client needs no
 * epoll_ctl. */
static bool watch(struct client *c, bool on)
{
	if (c->watched != on && !epoll_set(EPOLL_CTL_MOD, c->fd, on ? EPOLLIN : 0, c))
		return false;
	c->watched = on;
	return true;
}

/* Called only when no operation is in flight. */
static void close_client(struct client *c)
{
	*(c->previous != NULL ? &c->previous->next : &server.clients) = c->next;
	if (c->next != NULL)
		c->next->previous = c->previous;
	close(c->fd);
	free(c);
	server.count--;
	accept_more(server.stop_at == 0);
}

/* Called when the client has disconnected, or must be disconnected, while its answer is in flight. */
static void abandon(struct client *c)
{
	int r = snapsend_cancel_socket(server.snapsend, c->fd);

	if (r < 0)
		fprintf(stderr, "snapsend_cancel_socket: %s\n", strerror(-r));
	/* Hang-ups cannot be masked: without this, epoll would report it repeatedly. */
	epoll_set(EPOLL_CTL_DEL, c->fd, 0, NULL);
	move_to(c, ENDING);
}

/* Closing while the peer still sends would reset the connection, and the peer could lose the end of the answer.
 * Therefore this ends the stream and waits until the peer has closed. */
static void linger(struct client *c)
{
	if (server.stop_at != 0 || shutdown(c->fd, SHUT_WR) < 0 || !watch(c, true)) {
		close_client(c);
		return;
	}
	c->in_length = 0;
	move_to(c, LINGERING);
}

/* ---- answers ------------------------------------------------------------------------------- */

struct answer {
	int status;
	int file_fd;                   /* or -1 */
	uint64_t offset, length, size; /* the range, and the whole file */
	bool keep_alive, head_only;
};

/* Symbolic links are followed: a user who may create one below the root may publish with it.  O_NONBLOCK: a FIFO must
 * not block the loop. */
static void open_file(const struct http_request *request, struct answer *answer)
{
	struct stat st;
	int fd = openat(server.root, request->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	answer->status = 404;
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		answer->size = (uint64_t)st.st_size;
		answer->status = http_select(request, answer->size, &answer->offset, &answer->length);
	}
	if (answer->length > 0 && !answer->head_only)
		answer->file_fd = fd;
	else if (fd >= 0)
		close(fd);
}

/* Determines the answer to the request at the start of the buffer.  Length 0: the request is too long for it. */
static void make_answer(const struct client *c, size_t length, struct answer *answer)
{
	struct http_request request;

	*answer = (struct answer){ .status = 431, .file_fd = -1 };
	if (length == 0)
		return;
	answer->status = http_parse(c->in, length, &request);
	answer->keep_alive = request.keep_alive;
	answer->head_only = request.head_only;
	if (answer->status == 0)
		open_file(&request, answer);
}

/* Sends the answer with snapsend: the head as the request's header, then a range of the file.  Answers without a file
 * are also operations, so that pipelined answers keep their order.  Returns as snapsend_try_send() does.  There is
 * always room, because max_ops allows an operation for each client. */
static int start_answer(struct client *c, const struct answer *answer, struct snapsend_completion *done)
{
	char head[HTTP_ANSWER_MAX];
	bool body = answer->file_fd >= 0;
	uint64_t seconds = SLOWEST_START + (body ? answer->length / SLOWEST_RATE : 0);
	struct iovec header = { .iov_base = head };
	struct snapsend_request request = {
		.socket_fd = c->fd,
		.file_fd = answer->file_fd,
		.offset = answer->offset,
		.length = body ? answer->length : 0,
		.header = &header,
		.header_count = 1,
		.user_data = (uintptr_t)c,
		.timeout_ms = seconds < UINT32_MAX / 1000 ? (uint32_t)seconds * 1000 : UINT32_MAX,
	};

	c->keep_alive = answer->keep_alive && server.stop_at == 0;
	c->file_fd = answer->file_fd;
	header.iov_len =
		http_write_head(head, answer->status, c->keep_alive, answer->offset, answer->length, answer->size);
	/* Sending a small answer takes less time than waking another thread. */
	if (request.length <= INLINE_MAX)
		return snapsend_try_send(server.snapsend, &request, sizeof(request), done);
	return snapsend_submit(server.snapsend, &request, sizeof(request), NULL);
}

/* No operation is in flight: the descriptors may be closed. */
static void close_file(struct client *c)
{
	if (c->file_fd >= 0)
		close(c->file_fd);
	c->file_fd = -1;
}

/* Handles the end of the operation.  Returns false if the client was closed. */
static bool finish(struct client *c, const struct snapsend_completion *done)
{
	server.answers++;
	close_file(c);
	if (c->state == ENDING || done->status < 0) /* after the length was announced, only closing reports an error */
		close_client(c);
	else if (!c->keep_alive || server.stop_at != 0)
		linger(c);
	else
		return true;
	return false;
}

/* Answers the requests in the buffer until one is in flight. */
static void serve(struct client *c)
{
	for (;;) {
		size_t length = http_head_length(c->in, c->in_length);
		struct snapsend_completion done;
		struct answer answer;
		int r;

		move_to(c, READING);
		if (length == 0 && c->in_length < sizeof(c->in)) {
			if (!watch(c, true))
				close_client(c);
			return;
		}
		make_answer(c, length, &answer);
		r = start_answer(c, &answer, &done);
		if (r < 0) { /* the connection is broken, or no memory is available */
			close_file(c);
			close_client(c);
			return;
		}
		c->in_length -= length;
		memmove(c->in, c->in + length, c->in_length);
		if (r == 0)
			move_to(c, SENDING);
		if (r == 0 || !finish(c, &done))
			return;
	}
}

/* Takes completions of operations that were queued by submit or try_send. */
static void take_completions(void)
{
	struct snapsend_completion done[BATCH];
	int n = snapsend_poll(server.snapsend, done, BATCH, 0);

	if (n < 0 && n != -EINTR)
		die("snapsend_poll", n);
	for (int i = 0; i < n; i++) {
		struct client *c = (struct client *)(uintptr_t)done[i].user_data;

		if (finish(c, &done[i]))
			serve(c);
	}
}

/* ---- the loop ------------------------------------------------------------------------------ */

static void add_client(int fd)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c == NULL || !epoll_set(EPOLL_CTL_ADD, fd, EPOLLIN, c)) {
		free(c);
		close(fd);
		return;
	}
	c->fd = fd;
	c->file_fd = -1;
	c->watched = true;
	c->next = server.clients;
	if (c->next != NULL)
		c->next->previous = c;
	server.clients = c;
	server.count++;
	move_to(c, READING);
}

/* Without a free descriptor, no client is accepted until one has closed or some time has passed. */
static void accept_clients(void)
{
	int fd = 0;

	while (server.count < server.most && fd >= 0) {
		fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			add_client(fd);
	}
	if (fd >= 0 || errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		accept_more(false);
}

static void read_input(struct client *c)
{
	ssize_t n;

	if (c->state == LINGERING)
		c->in_length = 0;
	n = read(c->fd, c->in + c->in_length, sizeof(c->in) - c->in_length);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		close_client(c);
		return;
	}
	c->in_length += (size_t)n;
	if (c->state == READING)
		serve(c);
}

static void client_event(struct client *c, uint32_t events)
{
	if (c->state == READING || c->state == LINGERING)
		read_input(c);
	else if (c->state == SENDING && ((events & (EPOLLHUP | EPOLLERR)) != 0 || !watch(c, false)))
		abandon(c);
	/* Otherwise the request is pipelined, and answered after the one in flight. */
}

/* Closes clients whose deadline has passed.  When stopping, it closes clients without an answer at once, and the others
 * at stop_at. */
static void look_at_deadlines(void)
{
	struct client *next;

	server.looked_at = server.now;
	for (struct client *c = server.clients; c != NULL; c = next) {
		next = c->next;
		if (c->state == SENDING && server.stop_at != 0 && server.now >= server.stop_at)
			abandon(c);
		else if (c->state != SENDING && c->state != ENDING &&
			 (server.stop_at != 0 || server.now >= c->deadline))
			close_client(c);
	}
	accept_more(server.stop_at == 0);
}

/* Completions are taken after the events of clients, because they may free a client that has an event. */
static void turn(void)
{
	struct epoll_event events[BATCH];
	int n = epoll_wait(server.epoll, events, BATCH, server.clients != NULL || !server.accepting ? TICK_MS : -1);
	bool completions = false;

	if (n < 0 && errno != EINTR)
		die("epoll_wait", errno);
	server.now = milliseconds();
	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr == &server.listener)
			accept_clients();
		else if (events[i].data.ptr == &server.signals)
			server.stop_at = server.stop_at == 0 ? server.now + GRACE_MS : server.stop_at;
		else if (events[i].data.ptr == &server.snapsend)
			completions = true;
		else
			client_event(events[i].data.ptr, events[i].events);
	}
	if (completions)
		take_completions();
	if (server.stop_at != 0 || server.now - server.looked_at >= TICK_MS)
		look_at_deadlines();
}

/* ---- start and end ------------------------------------------------------------------------- */

/* The number of clients is limited by descriptors: two each. */
static unsigned count_clients(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("getrlimit", errno);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("setrlimit", errno);
	if (limit.rlim_cur >= 2 * CLIENTS_MAX + 64)
		return CLIENTS_MAX;
	return limit.rlim_cur > 100 ? ((unsigned)limit.rlim_cur - 64) / 2 : 16;
}

static void start(const char *root, int port)
{
	struct snapsend_options options = { .max_ops = server.most = count_clients() };
	sigset_t stops;
	int r;

	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	sigprocmask(SIG_BLOCK, &stops, NULL);
	server.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (server.root < 0)
		die(root, errno);
	r = snapsend_create(&options, sizeof(options), &server.snapsend);
	if (r < 0)
		die("snapsend_create", r);
	server.epoll = epoll_create1(EPOLL_CLOEXEC);
	server.signals = signalfd(-1, &stops, SFD_NONBLOCK | SFD_CLOEXEC);
	server.listener = loopback_listener(port);
	server.accepting = true;
	if (!epoll_set(EPOLL_CTL_ADD, server.signals, EPOLLIN | EPOLLET, &server.signals) ||
	    !epoll_set(EPOLL_CTL_ADD, snapsend_event_fd(server.snapsend), EPOLLIN, &server.snapsend) ||
	    !epoll_set(EPOLL_CTL_ADD, server.listener, EPOLLIN, &server.listener))
		die("epoll_ctl", errno);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' },
		{ "port", required_argument, NULL, 'p' },
		{ "idle", required_argument, NULL, 'i' },
		{ NULL, 0, NULL, 0 },
	};
	struct snapsend_stats stats = { 0 };
	const char *root = NULL;
	int option, port = 0;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'r': root = optarg; break;
		case 'p': port = atoi(optarg); break;
		case 'i': server.idle_ms = atol(optarg) * 1000; break;
		default: root = NULL; optind = argc + 1;
		}
	}
	if (root == NULL || optind != argc || server.idle_ms <= 0) {
		fprintf(stderr, "usage: %s --root DIR [--port N] [--idle SECONDS]\n", argv[0]);
		return 2;
	}
	start(root, port);
	while (server.stop_at == 0 || server.clients != NULL)
		turn();
	if (snapsend_get_stats(server.snapsend, &stats, sizeof(stats)) == 0)
		fprintf(stderr, "%" PRIu64 " answers, %" PRIu64 " bytes\n", server.answers, stats.wire_bytes);
	snapsend_destroy(server.snapsend);
	return 0;
}
