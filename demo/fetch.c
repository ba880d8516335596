/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fetch: an HTTP client over 127.0.0.1 that compares every byte it gets with the local files.
 *
 *	fetch --port N --root DIR [options] PATH...
 *	    --connections N   at once                                        (8)
 *	    --whole N         each path so many times whole                  (2)
 *	    --ranges N        each path so many times by ranges of all kinds (200)
 *	    --seconds N       instead of --whole and --ranges: random ranges for so long
 *	    --pipeline N      up to so many requests on their way at once    (1)
 *	    --limit N         give up after so many seconds                  (120)
 *	    --seed N          of the random choices                          (1)
 *	fetch --make FILE SIZE      writes a file in which no two places are alike
 *	fetch --receive FILE        listens, says where, and compares what one connection brings
 *
 * Exit status 0 only if every answer was the right one and every byte of it was right.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PIPELINE_MAX  8u
#define HEAD_MAX      2048u
#define RANGE_MAX     (256u << 10) /* longest range but for some; the load's ranges, too */
#define BUFFER_BYTES  (256u << 10)
#define ERRORS_SHOWN  10u
#define DRAIN_SECONDS 30           /* for answers on their way when --seconds are over */

struct file {
	const char *path;
	const unsigned char *content; /* mapped; NULL if empty */
	uint64_t size;
};

enum kind { WHOLE, RANGE, OPEN_ENDED, SUFFIX, BEYOND, HEAD, MISSING, ABANDONED, KINDS };

struct job {
	const struct file *file;
	enum kind kind;
	uint64_t offset, length; /* of the file, what is to come */
	bool last;               /* asks for the connection to be closed afterwards */
};

struct connection {
	int fd;
	bool connected;
	unsigned jobs, at;       /* jobs sent in one go; the one that is being answered */
	struct job job[PIPELINE_MAX];
	char out[PIPELINE_MAX * 512];
	size_t out_length, out_sent;
	char head[HEAD_MAX];
	size_t head_length;
	bool in_body;
	uint64_t body_offset, body_left;
	uint64_t answers;
};

static struct {
	struct sockaddr_in address;
	struct file *files;
	unsigned file_count, connections, open, most_open;
	unsigned whole, ranges, pipeline;
	long seconds, limit;
	uint64_t next_job, job_count; /* --whole and --ranges */
	uint64_t *order;              /* of the jobs, shuffled */
	double start, until;
	uint64_t random;
	uint64_t kinds[KINDS], bytes, reconnects, errors;
	int epoll;
} run = { .connections = 8, .whole = 2, .ranges = 200, .pipeline = 1, .limit = 120, .random = 1 };

static const char *const kind_names[KINDS] = {
	"whole", "range", "open-ended range", "suffix range", "range past the end", "HEAD",
	"missing file", "abandoned half-way",
};

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t mix(uint64_t x) /* splitmix64: a bijection, so that no two inputs give the same */
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* Below bound, which is not 0. */
static uint64_t random_below(uint64_t bound)
{
	return mix(run.random++) % bound;
}

_Noreturn static void die(const char *what)
{
	perror(what);
	exit(2);
}

__attribute__((format(printf, 2, 3)))
static void wrong(const struct job *job, const char *format, ...)
{
	va_list arguments;

	if (run.errors++ >= ERRORS_SHOWN)
		return;
	fprintf(stderr, "WRONG: ");
	if (job != NULL)
		fprintf(stderr, "%s of %s, offset %" PRIu64 ", length %" PRIu64 ": ",
			kind_names[job->kind], job->file->path, job->offset, job->length);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

/* ---- jobs ---------------------------------------------------------------------------------- */

static void random_range(struct job *job)
{
	uint64_t size = job->file->size, most = size < RANGE_MAX ? size : RANGE_MAX;

	if (random_below(64) == 0 && run.seconds == 0)
		most = size; /* now and then a long one */
	job->length = 1 + random_below(most);
	job->offset = random_below(size - job->length + 1);
}

static void choose_range(struct job *job)
{
	static const enum kind kinds[] = {
		RANGE, RANGE, RANGE, RANGE, RANGE, RANGE, RANGE, RANGE, OPEN_ENDED, OPEN_ENDED,
		SUFFIX, SUFFIX, BEYOND, HEAD, MISSING, ABANDONED,
	};

	job->kind = kinds[random_below(sizeof(kinds) / sizeof(kinds[0]))];
	job->offset = 0;
	job->length = job->file->size;
	if (job->length == 0) {
		job->kind = job->kind == SUFFIX || job->kind == ABANDONED ? HEAD :
			    job->kind <= OPEN_ENDED ? BEYOND : job->kind;
		return;
	}
	if (job->kind == RANGE || job->kind == OPEN_ENDED || job->kind == SUFFIX)
		random_range(job);
	if (job->kind != RANGE && job->kind != ABANDONED)
		job->offset = job->file->size - job->length;
}

/* False: there is none left. */
static bool next_job(struct job *job)
{
	uint64_t n;

	*job = (struct job){ .kind = RANGE };
	if (run.seconds > 0) {
		if (seconds_now() >= run.until)
			return false;
		job->file = &run.files[random_below(run.file_count)];
		random_range(job);
		return true;
	}
	if (run.next_job == run.job_count)
		return false;
	n = run.order[run.next_job++];
	job->file = &run.files[n % run.file_count];
	if (n / run.file_count < run.whole) {
		job->kind = WHOLE;
		job->length = job->file->size;
	} else {
		choose_range(job);
	}
	job->last = job->kind == ABANDONED || random_below(16) == 0;
	return true;
}

static void shuffle_jobs(void)
{
	run.job_count = (uint64_t)run.file_count * (run.whole + run.ranges);
	run.order = malloc((run.job_count + 1) * sizeof(run.order[0]));
	if (run.order == NULL)
		die("malloc");
	for (uint64_t i = 0; i < run.job_count; i++) {
		uint64_t other = random_below(i + 1);

		run.order[i] = run.order[other];
		run.order[other] = i;
	}
}

static int range_field(const struct job *job, char *out, size_t size)
{
	switch (job->kind) {
	case RANGE:
		return snprintf(out, size, "Range: bytes=%" PRIu64 "-%" PRIu64 "\r\n", job->offset,
				job->offset + job->length - 1);
	case OPEN_ENDED:
		return snprintf(out, size, "Range: bytes=%" PRIu64 "-\r\n", job->offset);
	case SUFFIX:
		return snprintf(out, size, "Range: bytes=-%" PRIu64 "\r\n", job->length);
	case BEYOND:
		return snprintf(out, size, "Range: bytes=%" PRIu64 "-\r\n",
				job->file->size + random_below(1000));
	default:
		out[0] = '\0';
		return 0;
	}
}

static size_t write_request(const struct job *job, char *out, size_t size)
{
	char range[80];
	bool old = job->last && random_below(2) == 0; /* HTTP/1.0 closes by itself */
	int n;

	range_field(job, range, sizeof(range));
	n = snprintf(out, size, "%s /%.200s%s HTTP/1.%d\r\nHost: localhost\r\n%s%s\r\n",
		     job->kind == HEAD ? "HEAD" : "GET", job->file->path,
		     job->kind == MISSING ? ".missing" : "", old ? 0 : 1, range,
		     job->last && !old ? "Connection: close\r\n" : "");
	return n > 0 && (size_t)n < size ? (size_t)n : 0;
}

/* ---- connections --------------------------------------------------------------------------- */

static void watch(struct connection *c, uint32_t events, int operation)
{
	struct epoll_event event = { .events = events, .data.ptr = c };

	if (epoll_ctl(run.epoll, operation, c->fd, &event) < 0)
		die("epoll_ctl");
}

static void hang_up(struct connection *c)
{
	if (c->fd < 0)
		return;
	close(c->fd);
	c->fd = -1;
	run.open--;
}

/* The last answer on this connection has come or been given up. */
static void forget_jobs(struct connection *c)
{
	c->jobs = c->at = 0;
	c->head_length = 0;
	c->in_body = false;
	c->out_length = c->out_sent = 0;
}

static void connect_again(struct connection *c)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (connect(fd, (struct sockaddr *)&run.address, sizeof(run.address)) < 0 &&
	    errno != EINPROGRESS)
		die("connect");
	c->fd = fd;
	c->connected = false;
	run.open++;
	run.reconnects++;
	watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
}

static void flush_requests(struct connection *c)
{
	while (c->out_sent < c->out_length) {
		ssize_t n = send(c->fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			wrong(&c->job[c->at], "send: %s", strerror(errno));
			hang_up(c);
			forget_jobs(c);
			return;
		}
		c->out_sent += (size_t)n;
	}
}

/* Writes the next requests.  Without work left the connection is closed. */
static void begin_jobs(struct connection *c)
{
	unsigned most = 1 + (unsigned)random_below(run.pipeline);

	forget_jobs(c);
	while (c->jobs < most && next_job(&c->job[c->jobs])) {
		size_t n = write_request(&c->job[c->jobs], c->out + c->out_length,
					 sizeof(c->out) - c->out_length);

		if (n == 0)
			wrong(&c->job[c->jobs], "the path is too long");
		c->out_length += n;
		if (c->job[c->jobs++].last)
			break;
	}
	if (c->jobs == 0) {
		hang_up(c);
		return;
	}
	if (c->fd < 0)
		connect_again(c);
	else
		flush_requests(c);
}

/* ---- answers ------------------------------------------------------------------------------- */

static const char *field(const char *head, const char *name)
{
	size_t length = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, length) == 0 && line[length] == ':')
			return line + length + 1 + strspn(line + length + 1, " ");
	}
	return NULL;
}

static int expected_status(const struct job *job)
{
	switch (job->kind) {
	case RANGE: case OPEN_ENDED: case SUFFIX:
		return 206;
	case BEYOND:
		return 416;
	case MISSING:
		return 404;
	default:
		return 200;
	}
}

/* Looks at a whole head.  False: no use to go on with this connection. */
static bool check_head(struct connection *c)
{
	const struct job *job = &c->job[c->at];
	const char *length = field(c->head, "Content-Length"), *range = field(c->head, "Content-Range");
	char expected[80];
	uint64_t announced;
	int status = 0;

	if (sscanf(c->head, "HTTP/1.1 %3d ", &status) != 1 || status != expected_status(job)) {
		wrong(job, "status %d instead of %d", status, expected_status(job));
		return false;
	}
	if (length == NULL) {
		wrong(job, "no Content-Length");
		return false;
	}
	announced = strtoull(length, NULL, 10);
	if (status == 200 || status == 206) {
		snprintf(expected, sizeof(expected), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n",
			 job->offset, job->offset + job->length - 1, job->file->size);
		if (announced != job->length || (status == 206) != (range != NULL) ||
		    (range != NULL && strncmp(range, expected, strlen(expected)) != 0)) {
			wrong(job, "Content-Length %" PRIu64 ", Content-Range %.40s", announced,
			      range != NULL ? range : "none");
			return false;
		}
	}
	c->in_body = true;
	c->body_offset = job->offset;
	c->body_left = job->kind == HEAD ? 0 : announced;
	return true;
}

/* Takes what belongs to the head.  Returns how many bytes that was; 0: broken. */
static size_t take_head(struct connection *c, const char *data, size_t length)
{
	size_t room = sizeof(c->head) - 1 - c->head_length, old = c->head_length;
	size_t taken = length < room ? length : room;
	const char *end;

	memcpy(c->head + old, data, taken);
	c->head[old + taken] = '\0';
	end = strstr(c->head + (old > 3 ? old - 3 : 0), "\r\n\r\n");
	if (end == NULL) {
		c->head_length += taken;
		if (c->head_length == sizeof(c->head) - 1) {
			wrong(&c->job[c->at], "the head is too long");
			return 0;
		}
		return taken;
	}
	c->head_length = (size_t)(end - c->head) + 4;
	c->head[c->head_length] = '\0';
	return check_head(c) ? c->head_length - old : 0;
}

/* Compares what belongs to the body.  Returns how many bytes that was. */
static size_t take_body(struct connection *c, const char *data, size_t length)
{
	const struct job *job = &c->job[c->at];
	size_t taken = length < c->body_left ? length : (size_t)c->body_left;

	if (job->kind != BEYOND && job->kind != MISSING && taken > 0) {
		const unsigned char *content = job->file->content + c->body_offset;

		if (memcmp(data, content, taken) != 0) {
			size_t i = 0;

			while ((unsigned char)data[i] == content[i])
				i++;
			wrong(job, "the byte at %" PRIu64 " of the file is another",
			      c->body_offset + i);
		}
		run.bytes += taken;
	}
	c->body_offset += taken;
	c->body_left -= taken;
	return taken;
}

/* An answer is complete.  Returns whether the connection goes on. */
static bool end_answer(struct connection *c)
{
	bool last = c->job[c->at].last;

	run.kinds[c->job[c->at].kind]++;
	c->answers++;
	c->at++;
	c->in_body = false;
	c->head_length = 0;
	return !last;
}

/* What the connection brought.  Returns false when it has no more use. */
static bool take_input(struct connection *c, const char *data, size_t length)
{
	while (length > 0) {
		size_t n;

		if (c->at == c->jobs) {
			wrong(NULL, "%zu bytes came that nobody had asked for", length);
			return false;
		}
		n = c->in_body ? take_body(c, data, length) : take_head(c, data, length);
		if (n == 0 && !c->in_body)
			return false;
		data += n;
		length -= n;
		if (!c->in_body)
			continue;
		if (c->job[c->at].kind == ABANDONED && c->body_left < c->job[c->at].length / 2) {
			end_answer(c);
			return false; /* half of it, and gone */
		}
		if (c->body_left == 0 && !end_answer(c))
			return length == 0 || (wrong(NULL, "more came than was announced"), false);
	}
	return true;
}

static void ended_by_server(struct connection *c, int error)
{
	bool in_time = error == 0 && c->at == c->jobs && c->jobs > 0 && c->job[c->jobs - 1].last;

	if (!in_time)
		wrong(c->at < c->jobs ? &c->job[c->at] : NULL, "the server closed: %s",
		      error != 0 ? strerror(error) : "too early");
	hang_up(c);
	begin_jobs(c);
}

static void readable(struct connection *c)
{
	static char buffer[BUFFER_BYTES];
	ssize_t n = recv(c->fd, buffer, sizeof(buffer), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		ended_by_server(c, n < 0 ? errno : 0);
		return;
	}
	if (!take_input(c, buffer, (size_t)n)) {
		hang_up(c);
		begin_jobs(c);
	} else if (c->at == c->jobs && !c->job[c->jobs - 1].last) {
		begin_jobs(c);
	} /* after the last one the server has to close */
}

static void connection_event(struct connection *c, uint32_t events)
{
	if (!c->connected && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
		int error = 0;
		socklen_t length = sizeof(error);

		if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
			die("getsockopt");
		if (error != 0) {
			wrong(NULL, "connect: %s", strerror(error));
			hang_up(c);
			return; /* no more of this one: the loop must have an end */
		}
		c->connected = true;
		watch(c, EPOLLIN, EPOLL_CTL_MOD); /* requests are short: they fit, or come at once */
		if (run.open > run.most_open)
			run.most_open = run.open;
		flush_requests(c);
		return;
	}
	if (c->out_sent < c->out_length)
		flush_requests(c);
	if (c->fd >= 0 && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
		readable(c);
}

/* ---- the run ------------------------------------------------------------------------------- */

static void loop(struct connection *all)
{
	struct epoll_event events[256];
	double deadline;

	run.start = seconds_now();
	run.until = run.start + (double)run.seconds;
	deadline = run.seconds > 0 ? run.until + DRAIN_SECONDS : run.start + (double)run.limit;
	for (unsigned i = 0; i < run.connections; i++)
		begin_jobs(&all[i]);
	while (run.open > 0) {
		int n = epoll_wait(run.epoll, events, 256, 1000);

		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++)
			connection_event(events[i].data.ptr, events[i].events);
		if (seconds_now() > deadline) {
			wrong(NULL, "time is up and %u connections still wait for an answer", run.open);
			return;
		}
		if (run.errors > 1000)
			return;
	}
}

static void report(const struct connection *all)
{
	double seconds = seconds_now() - run.start;
	uint64_t answers = 0, least = UINT64_MAX, most = 0;

	for (int kind = 0; kind < KINDS; kind++)
		answers += run.kinds[kind];
	for (unsigned i = 0; i < run.connections; i++) {
		least = all[i].answers < least ? all[i].answers : least;
		most = all[i].answers > most ? all[i].answers : most;
	}
	printf("%" PRIu64 " answers, %" PRIu64 " bytes compared, %" PRIu64 " wrong; %.1f s, %.0f answers/s,"
	       " %.2f GB/s\n", answers, run.bytes, run.errors, seconds, (double)answers / seconds,
	       (double)run.bytes / seconds / 1e9);
	printf("  %u connections at once (%" PRIu64 " made in all), each had %" PRIu64 " to %" PRIu64
	       " answers\n ", run.most_open, run.reconnects, least, most);
	for (int kind = 0; kind < KINDS; kind++)
		if (run.kinds[kind] > 0)
			printf(" %s: %" PRIu64 ";", kind_names[kind], run.kinds[kind]);
	printf("\n");
	if (run.seconds > 0 && (least == 0 || run.most_open < run.connections))
		wrong(NULL, "not all connections were served");
	if (run.seconds == 0 && answers != run.job_count)
		wrong(NULL, "%" PRIu64 " answers were expected", run.job_count);
}

static void map_file(struct file *file, const char *root, const char *path)
{
	char name[4096];
	struct stat st;
	int fd;

	snprintf(name, sizeof(name), "%s/%s", root, path);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		die(name);
	file->path = path;
	file->size = (uint64_t)st.st_size;
	file->content = NULL;
	if (file->size > 0) {
		file->content = mmap(NULL, (size_t)file->size, PROT_READ, MAP_SHARED, fd, 0);
		if (file->content == MAP_FAILED)
			die(name);
	}
	close(fd);
}

static int fetch(const char *root, char **paths)
{
	struct connection *all = calloc(run.connections, sizeof(*all));
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit); /* if it is too few, socket() will say so */
	}
	run.files = calloc(run.file_count, sizeof(*run.files));
	run.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (all == NULL || run.files == NULL || run.epoll < 0)
		die("start");
	for (unsigned i = 0; i < run.file_count; i++) {
		map_file(&run.files[i], root, paths[i]);
		if (run.seconds > 0 && run.files[i].size == 0) {
			fprintf(stderr, "%s is empty\n", paths[i]);
			return 2;
		}
	}
	for (unsigned i = 0; i < run.connections; i++)
		all[i].fd = -1;
	shuffle_jobs();
	loop(all);
	report(all);
	for (unsigned i = 0; i < run.file_count; i++)
		if (run.files[i].content != NULL)
			munmap((void *)(uintptr_t)run.files[i].content, (size_t)run.files[i].size);
	for (unsigned i = 0; i < run.connections; i++)
		hang_up(&all[i]);
	close(run.epoll);
	free(run.order);
	free(run.files);
	free(all);
	return run.errors == 0 ? 0 : 1;
}

/* ---- the other modes ----------------------------------------------------------------------- */

/* Each eight bytes are a function of where they are, so that bytes from a wrong place, another file's
 * (they differ by size) included, are noticed. */
static int make_file(const char *path, const char *size_text)
{
	static uint64_t words[1 << 16];
	uint64_t size = strtoull(size_text, NULL, 10), at = 0;
	FILE *out = fopen(path, "we");

	if (out == NULL)
		die(path);
	while (at < size) {
		size_t n = size - at < sizeof(words) ? (size_t)(size - at) : sizeof(words);

		for (size_t i = 0; i < (n + 7) / 8; i++)
			words[i] = mix(mix(size) + at / 8 + i);
		if (fwrite(words, 1, n, out) != n)
			die(path);
		at += n;
	}
	if (fclose(out) != 0)
		die(path);
	return 0;
}

static int receive(const char *path)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	const struct timeval patience = { .tv_sec = 60 };
	static char buffer[BUFFER_BYTES];
	struct file file;
	uint64_t at = 0;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	ssize_t n;

	map_file(&file, path[0] == '/' ? "" : ".", path);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 1) < 0 ||
	    setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) < 0)
		die("listen");
	printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
	fflush(stdout);
	fd = accept(listener, NULL, NULL);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		die("accept");
	while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0) {
		if ((uint64_t)n > file.size - at || memcmp(buffer, file.content + at, (size_t)n) != 0) {
			printf("WRONG: the bytes from %" PRIu64 " on\n", at);
			return 1;
		}
		at += (uint64_t)n;
	}
	if (n < 0)
		die("recv");
	close(fd);
	close(listener);
	printf("%" PRIu64 " bytes received, %s\n", at, at == file.size ? "all right" : "TOO FEW");
	return at == file.size ? 0 : 1;
}

static int usage(const char *name)
{
	fprintf(stderr, "usage: %s --port N --root DIR [--connections N] [--whole N] [--ranges N]\n"
		"       [--seconds N] [--pipeline N] [--limit N] [--seed N] PATH...\n"
		"       %s --make FILE SIZE | --receive FILE\n", name, name);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "port", 1, NULL, 'p' }, { "root", 1, NULL, 'r' }, { "connections", 1, NULL, 'c' },
		{ "whole", 1, NULL, 'w' }, { "ranges", 1, NULL, 'n' }, { "seconds", 1, NULL, 's' },
		{ "pipeline", 1, NULL, 'q' }, { "limit", 1, NULL, 'l' }, { "seed", 1, NULL, 'x' },
		{ NULL, 0, NULL, 0 },
	};
	const char *root = NULL;
	unsigned long port = 0;
	int option;

	if (argc == 4 && strcmp(argv[1], "--make") == 0)
		return make_file(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "--receive") == 0)
		return receive(argv[2]);
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		unsigned long number = optarg != NULL ? strtoul(optarg, NULL, 10) : 0;

		switch (option) {
		case 'p': port = number; break;
		case 'r': root = optarg; break;
		case 'c': run.connections = (unsigned)number; break;
		case 'w': run.whole = (unsigned)number; break;
		case 'n': run.ranges = (unsigned)number; break;
		case 's': run.seconds = (long)number; break;
		case 'q': run.pipeline = (unsigned)number; break;
		case 'l': run.limit = (long)number; break;
		case 'x': run.random = mix(number); break;
		default: return usage(argv[0]);
		}
	}
	if (root == NULL || port == 0 || port > 65535 || optind == argc || run.connections == 0 ||
	    run.pipeline == 0 || run.pipeline > PIPELINE_MAX)
		return usage(argv[0]);
	run.address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	run.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	run.file_count = (unsigned)(argc - optind);
	return fetch(root, argv + optind);
}
