/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * prefork_server: serves static files over HTTP/1.0 and 1.1 with several processes.  The parent listens and forks.
 * Each worker takes one client at a time and responds with snapsend_send(), which waits.  The parent replaces a
 * worker that dies; SIGTERM and SIGINT end all.  GET, HEAD, one Range, keep-alive.
 *
 *	prefork_server DIRECTORY [PORT [WORKERS]]
 *
 * The calls of snapsend are in worker() and send_answer().  The ring thread of a context does not survive fork().
 * Therefore the parent creates no context, and each worker creates its own; it costs an idle worker well under 1 MiB.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "http.h"
#include "loopback.h"
#include "snapsend.h"

#define WORKERS_MAX 1024
#define IDLE_MS     5000 /* an idle client keeps its worker from others */
#define GRACE_MS    5000 /* for answers in flight at the end of the server */

static int root_fd = -1, listener = -1;
static sigset_t waiting_mask; /* the signals that are blocked while a worker waits: none that ends it */
static volatile sig_atomic_t stopping;

/* ---- a worker ------------------------------------------------------------------------------ */

struct client {
	int fd;
	struct http_input input;
};

/* Waits for input.  A worker waits only here and in snapsend_send(), and receives signals only here. */
static bool input_comes(int fd, int timeout_ms)
{
	struct pollfd entry = { .fd = fd, .events = POLLIN };
	struct timespec time = { .tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000l };

	return !stopping && ppoll(&entry, 1, timeout_ms < 0 ? NULL : &time, &waiting_mask) > 0;
}

/* False: no request follows. */
static bool next_answer(struct client *c, struct http_answer *answer)
{
	struct http_input *input = &c->input;

	while (!http_take(input, root_fd, answer)) {
		ssize_t n;

		if (!input_comes(c->fd, IDLE_MS))
			return false;
		n = recv(c->fd, input->bytes + input->length, sizeof(input->bytes) - input->length, MSG_DONTWAIT);
		/* 0 if the head is too long, too. */
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		input->length += n > 0 ? (size_t)n : 0;
	}
	return true;
}

/* Sends head and file as one operation and waits for it.  When it returns, the file may change, and the
 * data that the client has not read yet cannot.  False: the connection must be closed. */
static bool send_answer(snapsend_t *snapsend, const struct client *c, struct http_answer *answer)
{
	struct iovec header = { .iov_base = answer->head, .iov_len = answer->head_length };
	struct snapsend_request request = {
		.socket_fd = c->fd,
		.file_fd = answer->file_fd,
		.offset = answer->offset,
		.length = answer->length,
		.header = &header,
		.header_count = 1,
		.timeout_ms = http_timeout_ms(answer),
	};
	struct snapsend_completion done;
	int r = snapsend_send(snapsend, &request, sizeof(request), &done);

	if (r < 0) /* no client can cause this: the parent starts another worker */
		die("snapsend_send", r);
	if (done.status < 0 && done.wire_bytes == 0 && answer->file_fd >= 0) {
		/* The file has become shorter or is unreadable.  The stream is untouched, so an error can be sent. */
		struct http_answer sorry = { .file_fd = -1 };

		http_write_head(&sorry, 500);
		return send_answer(snapsend, c, &sorry);
	}
	return done.status == 0 && answer->keep_alive;
}

/* Closing while the client still sends would reset the connection, and lose the end of the answer. */
static void close_gently(struct client *c)
{
	if (shutdown(c->fd, SHUT_WR) == 0)
		while (input_comes(c->fd, IDLE_MS) &&
		       recv(c->fd, c->input.bytes, sizeof(c->input.bytes), MSG_DONTWAIT) > 0)
			;
	close(c->fd);
}

static void serve(snapsend_t *snapsend, int fd)
{
	static struct client c;
	struct http_answer answer;
	bool goes_on = true;

	c.fd = fd;
	c.input.length = 0;
	while (goes_on && next_answer(&c, &answer)) {
		goes_on = send_answer(snapsend, &c, &answer);
		if (answer.file_fd >= 0)
			close(answer.file_fd); /* snapsend has released it */
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
	struct snapsend_options options = { .max_ops = 16 };
	snapsend_t *snapsend;
	int r = snapsend_create(&options, sizeof(options), &snapsend);

	if (r < 0)
		die("snapsend_create", r);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	fprintf(stderr, "worker %d serves\n", (int)getpid());
	while (!stopping) {
		int fd = -1;

		/* The listener is non-blocking: another worker may have accepted the client. */
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
	int64_t started_ms;
};

static void start_worker(struct process *process)
{
	pid_t parent = getpid();

	fflush(NULL);
	process->started_ms = milliseconds();
	process->pid = fork();
	if (process->pid == 0) {
		/* The worker ends with the parent, however that ends. */
		if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
			exit(1);
		worker();
	}
	if (process->pid < 0)
		perror("fork"); /* the parent retries after a second */
}

static struct process *find_worker(struct process *workers, int count, pid_t pid)
{
	for (int i = 0; i < count; i++)
		if (workers[i].pid == pid)
			return &workers[i];
	return NULL;
}

/* Reaps workers that have ended. */
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

/* Starts missing workers.  A worker that has lived for less than a second is not replaced at once, because
 * that would only use processor time. */
static void replace(struct process *workers, int count)
{
	for (int i = 0; i < count; i++)
		if (workers[i].pid < 0 && milliseconds() >= workers[i].started_ms + 1000)
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
	int64_t end;

	for (int i = 0; i < count; i++)
		start_worker(&workers[i]);
	while (signal != SIGTERM && signal != SIGINT) {
		signal = sigtimedwait(signals, NULL, &second);
		bury(workers, count);
		replace(workers, count);
	}
	close(listener);
	signal_all(workers, count, SIGTERM);
	end = milliseconds() + GRACE_MS;
	while (count_alive(workers, count) > 0 && milliseconds() < end) {
		sigtimedwait(signals, NULL, &second);
		bury(workers, count);
	}
	signal_all(workers, count, SIGKILL);
	while (wait(NULL) > 0)
		;
}

int main(int argc, char **argv)
{
	static struct process workers[WORKERS_MAX];
	int count = argc > 3 ? atoi(argv[3]) : 4;
	sigset_t signals;

	if (argc < 2 || argc > 4 || count < 1 || count > WORKERS_MAX) {
		fprintf(stderr, "usage: %s DIRECTORY [PORT [WORKERS]]\n", argv[0]);
		return 2;
	}
	root_fd = open_directory(argv[1]);
	/* Blocked here and in the workers, except where each waits, so that none is missed. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, &waiting_mask);
	listener = tcp_listener("127.0.0.1", argc > 2 ? atoi(argv[2]) : 0);
	supervise(workers, count, &signals);
	return 0;
}
