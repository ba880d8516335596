/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * prefork_server: static files over HTTP/1.0 and 1.1 from a handful of processes.  The parent listens and forks;
 * each worker takes one client at a time and answers with snapsend_send(), which waits.  A worker that
 * dies is replaced; SIGTERM and SIGINT end all.  GET, HEAD, one Range, keep-alive.
 *
 *	prefork_server --root DIR [--port N] [--workers N] [--engine auto|uring|portable]
 *
 * What belongs to snapsend is in worker() and send_answer().  A context's thread does not survive fork(), so the
 * parent makes none, and each worker makes its own; it costs an idle worker well under 1 MiB.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "loopback.h"
#include "snapsend.h"

#define REQUEST_MAX   8192u /* longest head of a request */
#define WORKERS_MAX   1024
#define IDLE_MS       5000  /* an idle client keeps its worker from others */
#define SLOWEST_START 60u   /* a client is given up after so many seconds ... */
#define SLOWEST_RATE  4096u /* ... and one for each so many bytes of its answer */
#define GRACE_SECONDS 5     /* for answers on their way when asked to stop */

static int root_fd = -1, listener = -1;
static uint32_t engine = SNAPSEND_ENGINE_AUTO;
static sigset_t waiting_mask; /* what is blocked while a worker waits: nothing that ends it */
static volatile sig_atomic_t stopping;

/* ---- a worker ------------------------------------------------------------------------------ */

struct client {
	int fd;
	bool keep_alive, head_only;
	size_t length;
	char in[REQUEST_MAX + 1];
};

struct answer {
	int status;
	int file_fd; /* or -1 */
	uint64_t offset, length, size;
};

/* Waits for input; the only place, besides snapsend_send(), where a worker waits, and the only one where a
 * signal can reach it. */
static bool input_comes(int fd, int timeout_ms)
{
	struct pollfd entry = { .fd = fd, .events = POLLIN };
	struct timespec time = { .tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000l };

	return !stopping && ppoll(&entry, 1, timeout_ms < 0 ? NULL : &time, &waiting_mask) > 0;
}

/* Length of the next request's head, 0 when none comes any more. */
static size_t next_head(struct client *c)
{
	for (;;) {
		char *end;
		ssize_t n;

		c->in[c->length] = '\0';
		end = strstr(c->in, "\r\n\r\n");
		if (end != NULL)
			return (size_t)(end - c->in) + 4;
		if (c->length == REQUEST_MAX || !input_comes(c->fd, IDLE_MS))
			return 0;
		n = recv(c->fd, c->in + c->length, REQUEST_MAX - c->length, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return 0;
		c->length += n > 0 ? (size_t)n : 0;
	}
}

static const char *field(const char *head, const char *name)
{
	size_t length = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, length) == 0 && line[length] == ':')
			return line + length + 1 + strspn(line + length + 1, " \t");
	}
	return NULL;
}

static bool climbs_out(const char *path)
{
	for (const char *part = path; part != NULL; part = strchr(part, '/')) {
		part += *part == '/';
		if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
			return true;
	}
	return false;
}

/* bytes=FIRST-LAST, bytes=FIRST- or bytes=-COUNT; anything else is answered with the whole file. */
static void take_range(const char *text, struct answer *answer)
{
	uint64_t first, last = UINT64_MAX;
	int end = 0;

	if (text == NULL || strncmp(text, "bytes=", 6) != 0)
		return;
	text += 6;
	if (sscanf(text, "-%" SCNu64 "%n", &last, &end) == 1 && end > 0 && text[end] == '\r') {
		first = last < answer->size ? answer->size - last : 0;
		last = UINT64_MAX;
	} else if (text[0] == '-' || (sscanf(text, "%" SCNu64 "-%n", &first, &end) != 1 || end == 0)) {
		return;
	} else if (text[end] != '\r') {
		text += end;
		end = 0;
		if (sscanf(text, "%" SCNu64 "%n", &last, &end) != 1 || text[end] != '\r' || last < first)
			return;
	}
	answer->length = 0;
	answer->status = 416;
	if (first >= answer->size)
		return;
	last = last < answer->size ? last : answer->size - 1;
	answer->status = 206;
	answer->offset = first;
	answer->length = last - first + 1;
}

/* Names are taken as they are, without %XX. */
static void open_file(const char *path, struct answer *answer)
{
	struct stat st;

	path += strspn(path, "/");
	answer->status = climbs_out(path) ? 403 : 404;
	if (answer->status == 403)
		return;
	answer->file_fd = openat(root_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (answer->file_fd < 0 || fstat(answer->file_fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	answer->status = 200;
	answer->length = answer->size = (uint64_t)st.st_size;
}

static void make_answer(struct client *c, const char *head, struct answer *answer)
{
	const char *connection = field(head, "Connection");
	char method[8], target[2048];
	int minor;

	*answer = (struct answer){ .status = 400, .file_fd = -1 };
	c->keep_alive = c->head_only = false;
	if (sscanf(head, "%7[A-Z] %2047s HTTP/1.%1d", method, target, &minor) != 3 || target[0] != '/')
		return;
	c->head_only = strcmp(method, "HEAD") == 0;
	answer->status = 405;
	if (!c->head_only && strcmp(method, "GET") != 0)
		return;
	c->keep_alive = connection != NULL ? strncasecmp(connection, "keep-alive", 10) == 0 : minor > 0;
	target[strcspn(target, "?#")] = '\0';
	open_file(target, answer);
	if (answer->status == 200)
		take_range(c->head_only ? NULL : field(head, "Range"), answer);
}

static const char *reason(int status)
{
	switch (status) {
	case 200: return "OK";
	case 206: return "Partial Content";
	case 400: return "Bad Request";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 416: return "Range Not Satisfiable";
	default: return "Internal Server Error";
	}
}

static size_t write_head(const struct client *c, const struct answer *answer, char *out, size_t size)
{
	char range[80] = "";

	if (answer->status == 206)
		snprintf(range, sizeof(range), "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n",
			 answer->offset, answer->offset + answer->length - 1, answer->size);
	else if (answer->status == 416)
		snprintf(range, sizeof(range), "Content-Range: bytes */%" PRIu64 "\r\n", answer->size);
	return (size_t)snprintf(out, size,
				"HTTP/1.1 %d %s\r\nContent-Type: application/octet-stream\r\n"
				"Content-Length: %" PRIu64 "\r\n%s%sConnection: %s\r\n\r\n",
				answer->status, reason(answer->status), answer->length, range,
				answer->status == 405 ? "Allow: GET, HEAD\r\n" : "",
				c->keep_alive ? "keep-alive" : "close");
}

/* Head and file as one operation, which this waits for.  When it returns, the file may change: what
 * the client has not read yet cannot.  False: the connection has come to its end. */
static bool send_answer(snapsend_t *snapsend, const struct client *c, const struct answer *answer)
{
	bool body = !c->head_only && answer->length > 0;
	uint64_t seconds = SLOWEST_START + (body ? answer->length / SLOWEST_RATE : 0);
	char head[512];
	struct iovec header = { .iov_base = head, .iov_len = write_head(c, answer, head, sizeof(head)) };
	struct snapsend_request request = {
		.socket_fd = c->fd, .file_fd = body ? answer->file_fd : -1,
		.offset = body ? answer->offset : 0, .length = body ? answer->length : 0,
		.header = &header, .header_count = 1,
		.timeout_ms = seconds < UINT32_MAX / 1000 ? (uint32_t)seconds * 1000 : UINT32_MAX,
	};
	struct snapsend_completion done;
	int r = snapsend_send(snapsend, &request, sizeof(request), &done);

	if (r < 0) /* nothing that a client could have caused: the parent starts another worker */
		die("snapsend_send", r);
	if (done.status < 0 && done.wire_bytes == 0 && answer->file_fd >= 0) {
		/* The file is shorter by now, or unreadable, and the stream untouched: still time to say so. */
		struct answer sorry = { .status = 500, .file_fd = -1 };

		return send_answer(snapsend, c, &sorry);
	}
	return done.status == 0 && c->keep_alive;
}

/* Closing while the client still sends would reset the connection, and the end of the answer with it. */
static void close_gently(struct client *c)
{
	if (shutdown(c->fd, SHUT_WR) == 0)
		while (input_comes(c->fd, IDLE_MS) && recv(c->fd, c->in, REQUEST_MAX, MSG_DONTWAIT) > 0)
			;
	close(c->fd);
}

static void serve(snapsend_t *snapsend, int fd)
{
	static struct client c;
	bool goes_on = true;
	size_t length;

	c.fd = fd;
	c.length = 0;
	while (goes_on && (length = next_head(&c)) > 0) {
		struct answer answer;
		char kept = c.in[length];

		c.in[length] = '\0';
		make_answer(&c, c.in, &answer);
		c.in[length] = kept;
		goes_on = send_answer(snapsend, &c, &answer);
		if (answer.file_fd >= 0)
			close(answer.file_fd); /* snapsend has let go of it */
		c.length -= length;
		memmove(c.in, c.in + length, c.length);
	}
	close_gently(&c);
}

static void on_stop(int signal)
{
	(void)signal;
	stopping = 1;
}

_Noreturn static void worker(void)
{
	struct sigaction action = { .sa_handler = on_stop };
	struct snapsend_options options = { .engine = engine, .max_ops = 16 };
	snapsend_t *snapsend;
	int r = snapsend_create(&options, sizeof(options), &snapsend);

	if (r < 0)
		die("snapsend_create", r);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	fprintf(stderr, "worker %d serves\n", (int)getpid());
	while (!stopping) {
		int fd = -1;

		/* The listener does not block: another worker may have been faster. */
		if (input_comes(listener, -1))
			fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			serve(snapsend, fd);
	}
	snapsend_destroy(snapsend);
	exit(0);
}

/* ---- the parent ---------------------------------------------------------------------------- */

struct process {
	pid_t pid;
	time_t started;
};

static time_t seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static void start_worker(struct process *process)
{
	pid_t parent = getpid();

	fflush(NULL);
	process->started = seconds_now();
	process->pid = fork();
	if (process->pid == 0) {
		/* Not to outlive the parent, however that ends. */
		if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
			exit(1);
		worker();
	}
	if (process->pid < 0)
		perror("fork"); /* tried again after a second */
}

static struct process *find_worker(struct process *workers, int count, pid_t pid)
{
	for (int i = 0; i < count; i++)
		if (workers[i].pid == pid)
			return &workers[i];
	return NULL;
}

/* Takes note of those that have ended. */
static void bury(struct process *workers, int count)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct process *dead = find_worker(workers, count, pid);

		if (dead == NULL)
			continue;
		dead->pid = -1;
		if (WIFSIGNALED(status))
			fprintf(stderr, "worker %d: %s\n", (int)pid, strsignal(WTERMSIG(status)));
		else if (WEXITSTATUS(status) != 0)
			fprintf(stderr, "worker %d: exit status %d\n", (int)pid, WEXITSTATUS(status));
	}
}

/* Starts who is missing, but no worker again that has lived for less than a second: that would only
 * burn the processor. */
static void replace(struct process *workers, int count)
{
	for (int i = 0; i < count; i++)
		if (workers[i].pid < 0 && seconds_now() > workers[i].started)
			start_worker(&workers[i]);
}

static int count_alive(const struct process *workers, int count)
{
	int alive = 0;

	for (int i = 0; i < count; i++)
		alive += workers[i].pid > 0;
	return alive;
}

static void signal_all(const struct process *workers, int count, int signal)
{
	for (int i = 0; i < count; i++)
		if (workers[i].pid > 0)
			kill(workers[i].pid, signal);
}

static void supervise(struct process *workers, int count, const sigset_t *signals)
{
	const struct timespec second = { .tv_sec = 1 };
	int signal = 0;
	time_t end;

	for (int i = 0; i < count; i++)
		start_worker(&workers[i]);
	while (signal != SIGTERM && signal != SIGINT) {
		signal = sigtimedwait(signals, NULL, &second);
		bury(workers, count);
		replace(workers, count);
	}
	close(listener);
	signal_all(workers, count, SIGTERM);
	end = seconds_now() + GRACE_SECONDS;
	while (count_alive(workers, count) > 0 && seconds_now() < end) {
		sigtimedwait(signals, NULL, &second);
		bury(workers, count);
	}
	signal_all(workers, count, SIGKILL);
	while (wait(NULL) > 0)
		;
}

static void listen_on(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	socklen_t length = sizeof(address);
	int on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
	    bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, SOMAXCONN) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) < 0)
		die("listen", errno);
	printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
	fflush(stdout);
}

static bool parse_engine(const char *name)
{
	static const char *const names[] = { "auto", "uring", "portable" };

	for (engine = 0; engine < 3; engine++)
		if (strcmp(name, names[engine]) == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' },    { "port", required_argument, NULL, 'p' },
		{ "workers", required_argument, NULL, 'w' }, { "engine", required_argument, NULL, 'e' },
		{ NULL, 0, NULL, 0 },
	};
	static struct process workers[WORKERS_MAX];
	int port = 0, count = 4, option;
	const char *root = NULL;
	sigset_t signals;
	bool good = true;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'r': root = optarg; break;
		case 'p': port = atoi(optarg); break;
		case 'w': count = atoi(optarg); break;
		case 'e': good = good && parse_engine(optarg); break;
		default: good = false;
		}
	}
	if (!good || root == NULL || optind != argc || count < 1 || count > WORKERS_MAX) {
		fprintf(stderr, "usage: %s --root DIR [--port N] [--workers N] "
			"[--engine auto|uring|portable]\n", argv[0]);
		return 2;
	}
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		die(root, errno);
	/* Blocked here and in the workers, but for where each waits: none is missed. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, &waiting_mask);
	listen_on(port);
	supervise(workers, count, &signals);
	return 0;
}
