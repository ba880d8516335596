/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * http_server: serves static files over HTTP/1.0 and 1.1.  It has one thread and one epoll loop, which also watches
 * snapsend's event descriptor.  GET, HEAD, one Range, keep-alive, pipelining.
 *
 *	http_server --root DIR [--address A] [--port N] [--idle SECONDS] [--zerocopy]
 *
 * The calls of snapsend are in add_client(), end_client(), abandon(), keep_file(), close_file(), start_answer(),
 * take_completions(), start() and main().  Sockets and files are registered while they are open.  The next request of a
 * client is answered at SENT, when all of the answer before it is in the socket.  A client is closed at its last DONE,
 * which with --zerocopy comes later: the socket holds pages of the file until the peer has acknowledged them.  To close
 * it earlier, the server cancels its operations.  http.h implements HTTP.
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
#define FILES         256u        /* kept open */
#define GRACE_MS      2000        /* for answers in flight at the end of the server */
#define TICK_MS       1000        /* how often deadlines are checked */
#define BATCH         256

/* ---- clients ------------------------------------------------------------------------------- */

enum state {
	READING,   /* waits for the rest of a request */
	SENDING,   /* an answer is not yet in the socket as a whole */
	ENDING,    /* waits for the last DONE; then closed */
	LINGERING, /* the last answer is sent; waits until the peer closes, so that none of it is lost */
};

struct client {
	struct client *next, *previous;
	enum state state;
	int fd, handle;
	unsigned in_flight; /* operations whose DONE has not come */
	bool watched;       /* epoll reports input */
	bool keep_alive;    /* after the last answer */
	int64_t deadline;   /* if nothing is in flight */
	size_t in_length;
	char in[HTTP_HEAD_MAX];
};

/* An open file; handle 0: none. */
struct file {
	int fd, handle;
	dev_t device;
	ino_t inode;
	int64_t used; /* when an answer with it was last started */
};

static struct {
	int epoll, listener, signals, root;
	snapsend_t *snapsend;
	uint32_t flags; /* of requests with a file */
	struct client *clients;
	struct file files[FILES];
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

/* Enables or disables the report of input.  Called only when necessary, so that a well-behaved client needs no
 * epoll_ctl. */
static bool watch(struct client *c, bool on)
{
	if (c->watched != on && !epoll_set(EPOLL_CTL_MOD, c->fd, on ? EPOLLIN : 0, c))
		return false;
	c->watched = on;
	return true;
}

/* Closes a client, as soon as it has no operation in flight. */
static void end_client(struct client *c)
{
	/* Hang-ups cannot be masked.  Closing does not suffice: the library's copy keeps the connection open for a
	 * moment. */
	epoll_set(EPOLL_CTL_DEL, c->fd, 0, NULL);
	if (c->in_flight == 0) {
		*(c->previous != NULL ? &c->previous->next : &server.clients) = c->next;
		if (c->next != NULL)
			c->next->previous = c->previous;
		snapsend_unregister_socket(server.snapsend, c->handle);
		close(c->fd);
		free(c);
	} else {
		move_to(c, ENDING);
	}
}

/* Called when the client has disconnected, or must be disconnected, while its answers are in flight. */
static void abandon(struct client *c)
{
	int r = snapsend_cancel_socket(server.snapsend, c->fd);

	if (r < 0)
		fprintf(stderr, "snapsend_cancel_socket: %s\n", strerror(-r));
	end_client(c);
}

/* Closing while the peer still sends would reset the connection, and the peer could lose the end of the answer.
 * Therefore this ends the stream and waits until the peer has closed. */
static void linger(struct client *c)
{
	c->in_length = 0;
	move_to(c, LINGERING);
	if (shutdown(c->fd, SHUT_WR) < 0 || !watch(c, true))
		end_client(c);
}

/* ---- files --------------------------------------------------------------------------------- */

/* Operations in flight continue: the library has a copy. */
static void close_file(struct file *file)
{
	if (file->handle == 0)
		return;
	snapsend_unregister_file(server.snapsend, file->handle);
	close(file->fd);
	file->handle = 0;
}

/* Registers an open file, unless it is registered already; takes fd over.  Returns the handle, or -errno. */
static int keep_file(int fd, const struct stat *st)
{
	struct file *file = &server.files[(st->st_dev ^ st->st_ino) % FILES];

	if (file->handle != 0 && file->device == st->st_dev && file->inode == st->st_ino) {
		close(fd);
	} else {
		int handle = snapsend_register_file(server.snapsend, fd, 0);

		if (handle < 0) {
			close(fd);
			return handle;
		}
		close_file(file);
		*file = (struct file){ .fd = fd, .handle = handle, .device = st->st_dev, .inode = st->st_ino };
	}
	file->used = server.now;
	return file->handle;
}

/* ---- answers ------------------------------------------------------------------------------- */

struct answer {
	int status;
	int file;                      /* a handle; 0: none */
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
	if (answer->length > 0 && !answer->head_only) {
		answer->file = keep_file(fd, &st);
		if (answer->file < 0)
			*answer = (struct answer){ .status = 500 };
	} else if (fd >= 0) {
		close(fd);
	}
}

/* Determines the answer to the request at the start of the buffer.  Length 0: the request is too long for it. */
static void make_answer(const struct client *c, size_t length, struct answer *answer)
{
	struct http_request request;

	*answer = (struct answer){ .status = 431 };
	if (length == 0)
		return;
	answer->status = http_parse(c->in, length, &request);
	answer->keep_alive = request.keep_alive;
	answer->head_only = request.head_only;
	if (answer->status == 0)
		open_file(&request, answer);
}

/* Sends the answer with snapsend: the head as the request's header, then a range of the file.  Answers without a file
 * are also operations, so that pipelined answers keep their order.  Returns as snapsend_try_send() does. */
static int start_answer(struct client *c, const struct answer *answer, struct snapsend_completion *done)
{
	char head[HTTP_ANSWER_MAX];
	bool body = answer->file != 0;
	uint64_t seconds = SLOWEST_START + (body ? answer->length / SLOWEST_RATE : 0);
	struct iovec header = { .iov_base = head };
	struct snapsend_request request = {
		.socket_fd = c->handle,
		.file_fd = body ? answer->file : -1,
		.offset = answer->offset,
		.length = body ? answer->length : 0,
		.header = &header,
		.header_count = 1,
		.flags = SNAPSEND_REGISTERED_SOCKET | SNAPSEND_NOTIFY_SENT | (body ? server.flags : 0),
		.user_data = (uintptr_t)c,
		.timeout_ms = seconds < UINT32_MAX / 1000 ? (uint32_t)seconds * 1000 : UINT32_MAX,
	};

	c->keep_alive = answer->keep_alive && server.stop_at == 0;
	header.iov_len =
		http_write_head(head, answer->status, c->keep_alive, answer->offset, answer->length, answer->size);
	/* Sending a small answer takes less time than waking another thread. */
	if (request.length <= INLINE_MAX)
		return snapsend_try_send(server.snapsend, &request, sizeof(request), done);
	return snapsend_submit(server.snapsend, &request, sizeof(request), NULL);
}

/* Answers the requests in the buffer until an answer has to wait for the socket. */
static void serve(struct client *c)
{
	for (;;) {
		size_t length = http_head_length(c->in, c->in_length);
		struct snapsend_completion done = { 0 };
		struct answer answer;
		int r;

		move_to(c, READING);
		if (length == 0 && c->in_length < sizeof(c->in)) {
			if (!watch(c, true))
				end_client(c);
			return;
		}
		make_answer(c, length, &answer);
		r = start_answer(c, &answer, &done);
		if (r < 0 || done.status < 0) { /* the connection is broken, or there is no room or memory */
			end_client(c);
			return;
		}
		c->in_length -= length;
		memmove(c->in, c->in + length, c->in_length);
		if (r == 0) {
			c->in_flight++;
			move_to(c, SENDING);
			return;
		}
		server.answers++;
		if (!c->keep_alive) {
			linger(c);
			return;
		}
	}
}

/* Takes completions of operations that were queued by submit or try_send. */
static void take_completions(void)
{
	struct snapsend_completion batch[BATCH];
	int n = snapsend_poll(server.snapsend, batch, BATCH, 0);

	if (n < 0 && n != -EINTR)
		die("snapsend_poll", n);
	for (int i = 0; i < n; i++) {
		struct client *c = (struct client *)(uintptr_t)batch[i].user_data;

		if (batch[i].event == SNAPSEND_EVENT_DONE) {
			c->in_flight--;
			server.answers++;
			move_to(c, c->state);
			/* After the length was announced, only closing reports an error. */
			if (c->state == ENDING || batch[i].status < 0)
				end_client(c);
		} else if (c->state == SENDING && c->keep_alive) {
			serve(c);
		} else if (c->state == SENDING) {
			linger(c);
		}
	}
}

/* ---- the loop ------------------------------------------------------------------------------ */

static void add_client(int fd)
{
	struct client *c = calloc(1, sizeof(*c));
	int handle = c != NULL ? snapsend_register_socket(server.snapsend, fd, 0) : -ENOMEM;

	if (handle < 0 || !epoll_set(EPOLL_CTL_ADD, fd, EPOLLIN, c)) {
		if (handle > 0)
			snapsend_unregister_socket(server.snapsend, handle);
		free(c);
		close(fd);
		return;
	}
	c->fd = fd;
	c->handle = handle;
	c->watched = true;
	c->next = server.clients;
	if (c->next != NULL)
		c->next->previous = c;
	server.clients = c;
	move_to(c, READING);
}

/* The listener is edge-triggered.  Clients that found no free descriptor are accepted when deadlines are checked. */
static void accept_clients(void)
{
	int fd;

	while (server.stop_at == 0 && (fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		add_client(fd);
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
		end_client(c);
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

/* Closes what has been idle for too long.  When stopping, it closes clients without an answer at once, and the others
 * at stop_at.  Before that, only timeout_ms limits an answer. */
static void look_at_deadlines(void)
{
	struct client *next;

	server.looked_at = server.now;
	for (struct client *c = server.clients; c != NULL; c = next) {
		next = c->next;
		if (c->in_flight == 0 && (server.stop_at != 0 || server.now >= c->deadline))
			end_client(c);
		else if (c->in_flight > 0 && server.stop_at != 0 && server.now >= server.stop_at)
			abandon(c);
	}
	for (unsigned i = 0; i < FILES; i++)
		if (server.now - server.files[i].used >= server.idle_ms)
			close_file(&server.files[i]);
	accept_clients();
}

/* Completions are taken after the events of clients, because they may free a client that has an event. */
static void turn(void)
{
	struct epoll_event events[BATCH];
	int n = epoll_wait(server.epoll, events, BATCH, TICK_MS);
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

static void start(const char *root, const char *address, int port)
{
	struct rlimit limit;
	sigset_t stops;
	int r;

	/* Each client and each file has one descriptor here, and the library's copy in a table of its own. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	sigprocmask(SIG_BLOCK, &stops, NULL);
	server.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (server.root < 0)
		die(root, errno);
	r = snapsend_create(NULL, 0, &server.snapsend);
	if (r < 0)
		die("snapsend_create", r);
	server.epoll = epoll_create1(EPOLL_CLOEXEC);
	server.signals = signalfd(-1, &stops, SFD_NONBLOCK | SFD_CLOEXEC);
	server.listener = tcp_listener(address, port);
	if (!epoll_set(EPOLL_CTL_ADD, server.signals, EPOLLIN | EPOLLET, &server.signals) ||
	    !epoll_set(EPOLL_CTL_ADD, snapsend_event_fd(server.snapsend), EPOLLIN, &server.snapsend) ||
	    !epoll_set(EPOLL_CTL_ADD, server.listener, EPOLLIN | EPOLLET, &server.listener))
		die("epoll_ctl", errno);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' }, { "address", required_argument, NULL, 'a' },
		{ "port", required_argument, NULL, 'p' }, { "idle", required_argument, NULL, 'i' },
		{ "zerocopy", no_argument, NULL, 'z' },   { NULL, 0, NULL, 0 },
	};
	struct snapsend_stats stats = { 0 };
	const char *root = NULL, *address = "127.0.0.1";
	int option, port = 0;

	server.flags = SNAPSEND_REGISTERED_FILE;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'r': root = optarg; break;
		case 'a': address = optarg; break;
		case 'p': port = atoi(optarg); break;
		case 'i': server.idle_ms = atol(optarg) * 1000; break;
		case 'z': server.flags |= SNAPSEND_ZEROCOPY; break;
		default: root = NULL; optind = argc + 1;
		}
	}
	if (root == NULL || optind != argc || server.idle_ms <= 0) {
		fprintf(stderr, "usage: %s --root DIR [--address A] [--port N] [--idle SECONDS] [--zerocopy]\n",
			argv[0]);
		return 2;
	}
	start(root, address, port);
	while (server.stop_at == 0 || server.clients != NULL)
		turn();
	if (snapsend_get_stats(server.snapsend, &stats, sizeof(stats)) == 0)
		fprintf(stderr, "%" PRIu64 " answers, %" PRIu64 " bytes, %" PRIu64 " of them from the page cache\n",
			server.answers, stats.wire_bytes, stats.bytes_page_cache);
	snapsend_destroy(server.snapsend);
	return 0;
}
