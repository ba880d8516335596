/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * http_server: static files over HTTP/1.0 and 1.1.  One thread, one epoll loop, with snapsend's event
 * fd in the same loop.  GET, HEAD, Range, conditional requests, keep-alive, pipelining.
 *
 *	http_server --root DIR [--port N] [--bind ADDR] [--engine auto|uring|portable] [--idle SECONDS]
 *
 * What belongs to snapsend is in start_answer(), abandon(), finish() and take_completions().  The rule
 * that shapes the rest: from submit to DONE the socket and the file are the operation's, so a
 * client is never closed in between; it is cancelled, and closed when DONE arrives.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "snapsend.h"

#define REQUEST_MAX     8192u        /* longest head of a request */
#define LISTING_MAX     (512l << 10) /* longest directory listing; a request's trailer may have 1 MiB */
#define INLINE_MAX      (64u << 10)  /* answers up to here are tried on this thread first */
#define SLOWEST_RATE    4096u        /* bytes a second below which a client is given up ... */
#define SLOWEST_START   60u          /* ... after this many seconds */
#define CLIENTS_MAX     16384u
#define RETRY_MS        10           /* after -EAGAIN, when no completion comes sooner */
#define GRACE_MS        5000         /* for answers on their way when asked to stop */
#define BATCH           256

/* ---- clients ------------------------------------------------------------------------------- */

enum state {
	READING,   /* waits for the rest of a request */
	WAITING,   /* has a request that snapsend had no room for */
	SENDING,   /* an operation is in flight */
	ENDING,    /* an operation is in flight and has been cancelled; closed at its DONE */
	LINGERING, /* has got its last answer; waits until the peer closes, so that none of it is lost */
	STATES
};

struct client {
	struct client *next, *previous; /* in the list of its state */
	enum state state;
	int fd;
	int file_fd;        /* of the answer in flight, or -1 */
	int owed;           /* status of an answer to give before the next request is read, or 0 */
	bool watched;       /* epoll reports input */
	bool keep_alive;    /* after the answer in flight */
	bool head_only;     /* the request in hand is a HEAD */
	int64_t deadline;   /* of READING and LINGERING */
	size_t in_length;
	char in[REQUEST_MAX];
};

struct list {
	struct client *first, *last;
};

static struct {
	int epoll, listener, signals, root;
	snapsend_t *snapsend;
	struct list lists[STATES];
	unsigned clients, clients_max;
	bool accepting;
	int64_t now, idle_ms;
	int64_t stop_at;    /* when to cancel what is still on its way; 0: not stopping */
	uint64_t answers;
} server = { .epoll = -1, .listener = -1, .signals = -1, .root = -1, .idle_ms = 30000 };

static int64_t milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void take_out(struct client *c)
{
	struct list *list = &server.lists[c->state];

	*(c->previous != NULL ? &c->previous->next : &list->first) = c->next;
	*(c->next != NULL ? &c->next->previous : &list->last) = c->previous;
}

static void put_in(struct client *c, enum state state)
{
	struct list *list = &server.lists[state];

	c->state = state;
	c->next = NULL;
	c->previous = list->last;
	*(list->last != NULL ? &list->last->next : &list->first) = c;
	list->last = c;
	/* The same for all, so that the first of a list is the first to run out. */
	c->deadline = server.now + server.idle_ms;
}

static void move_to(struct client *c, enum state state)
{
	take_out(c);
	put_in(c, state);
}

static void watch_listener(bool on)
{
	struct epoll_event event = { .events = on ? EPOLLIN : 0, .data.ptr = &server.listener };

	if (server.accepting != on && server.listener >= 0 &&
	    epoll_ctl(server.epoll, EPOLL_CTL_MOD, server.listener, &event) == 0)
		server.accepting = on;
}

static void close_client(struct client *c)
{
	take_out(c);
	if (c->file_fd >= 0)
		close(c->file_fd);
	close(c->fd);
	free(c);
	server.clients--;
	if (server.stop_at == 0)
		watch_listener(true);
}

/* Switches the report of input off and on.  Called only when something is at stake, so that a
 * well-behaved client costs no epoll_ctl at all. */
static bool watch(struct client *c, bool on)
{
	struct epoll_event event = { .events = on ? EPOLLIN : 0, .data.ptr = c };

	if (c->watched == on)
		return true;
	if (epoll_ctl(server.epoll, EPOLL_CTL_MOD, c->fd, &event) < 0)
		return false;
	c->watched = on;
	return true;
}

/* The client is gone, or has to go, in the middle of its answer. */
static void abandon(struct client *c)
{
	int r = snapsend_cancel_socket(server.snapsend, c->fd);

	if (r < 0)
		fprintf(stderr, "snapsend_cancel_socket: %s\n", strerror(-r));
	/* Hang-ups cannot be masked: without this epoll would report it again and again. */
	if (epoll_ctl(server.epoll, EPOLL_CTL_DEL, c->fd, NULL) < 0)
		perror("epoll_ctl");
	move_to(c, ENDING);
}

/* Closing while the peer still sends would reset the connection and could destroy the end of the
 * answer at the peer: say that nothing more comes, and wait until it has closed, too. */
static void linger(struct client *c)
{
	if (server.stop_at != 0 || shutdown(c->fd, SHUT_WR) < 0 || !watch(c, true)) {
		close_client(c);
		return;
	}
	c->in_length = 0;
	move_to(c, LINGERING);
}

/* ---- requests ------------------------------------------------------------------------------ */

struct request {
	char *target;
	bool head_only, keep_alive, has_body;
	const char *range, *if_range, *if_none_match, *if_modified_since;
};

/* Length of the request's head with its empty line, 0 if that has not come yet. */
static size_t head_length(const struct client *c)
{
	const char *at = c->in, *end = c->in + c->in_length, *line;

	while ((line = memchr(at, '\n', (size_t)(end - at))) != NULL) {
		size_t length = (size_t)(line - at);

		if (at != c->in && (length == 0 || (length == 1 && at[0] == '\r')))
			return (size_t)(line + 1 - c->in);
		at = line + 1;
	}
	return 0;
}

/* Cuts the next line off. */
static char *take_line(char **text)
{
	char *line = *text, *end = strchr(line, '\n');

	if (end == NULL)
		return NULL;
	*text = end + 1;
	if (end > line && end[-1] == '\r')
		end--;
	*end = '\0';
	return line;
}

/* Is token one of the words of a comma-separated list? */
static bool list_has(const char *list, const char *token)
{
	size_t length = strlen(token);

	for (;;) {
		list += strspn(list, " \t,");
		if (*list == '\0')
			return false;
		if (strncasecmp(list, token, length) == 0 && strchr(" \t,", list[length]) != NULL)
			return true;
		list += strcspn(list, ",");
	}
}

static void take_field(struct request *request, const char *name, const char *value)
{
	if (strcasecmp(name, "Connection") == 0) {
		if (list_has(value, "close"))
			request->keep_alive = false;
		else if (list_has(value, "keep-alive"))
			request->keep_alive = true;
	} else if (strcasecmp(name, "Range") == 0) {
		request->range = value;
	} else if (strcasecmp(name, "If-Range") == 0) {
		request->if_range = value;
	} else if (strcasecmp(name, "If-None-Match") == 0) {
		request->if_none_match = value;
	} else if (strcasecmp(name, "If-Modified-Since") == 0) {
		request->if_modified_since = value;
	} else if (strcasecmp(name, "Transfer-Encoding") == 0 ||
		   (strcasecmp(name, "Content-Length") == 0 && strcmp(value, "0") != 0)) {
		request->has_body = true;
	}
}

/* The method, target and version.  Returns 0 or the status to answer with. */
static int parse_request_line(char *line, struct request *request)
{
	char *method = line, *target = strchr(line, ' '), *version;

	if (target == NULL)
		return 400;
	*target++ = '\0';
	version = strchr(target, ' ');
	if (version == NULL)
		return 400; /* HTTP/0.9 */
	*version++ = '\0';
	if (strncmp(version, "HTTP/", 5) != 0)
		return 400;
	if (strcmp(version, "HTTP/1.0") != 0 && strncmp(version, "HTTP/1.", 7) != 0)
		return 505;
	request->keep_alive = strcmp(version, "HTTP/1.0") != 0;
	request->head_only = strcmp(method, "HEAD") == 0;
	if (!request->head_only && strcmp(method, "GET") != 0)
		return 405;
	if (strncasecmp(target, "http://", 7) == 0) {
		target = strchr(target + 7, '/');
		if (target == NULL)
			return 400;
	}
	request->target = target;
	return target[0] == '/' ? 0 : 400;
}

/* text is the head of a request and is cut up.  Returns 0 or the status to answer with. */
static int parse_request(char *text, size_t length, struct request *request)
{
	char *line, *colon;
	bool host = false;
	int status;

	*request = (struct request){ 0 };
	if (strlen(text) != length)
		return 400;
	do {
		line = take_line(&text);
	} while (line != NULL && line[0] == '\0'); /* empty lines ahead of a request are allowed */
	if (line == NULL)
		return 400;
	status = parse_request_line(line, request);
	bool version_1_1 = request->keep_alive;

	while ((line = take_line(&text)) != NULL && line[0] != '\0') {
		size_t name = strcspn(line, ": \t");

		colon = line + name;
		if (name == 0 || *colon != ':')
			return 400;
		*colon++ = '\0';
		colon += strspn(colon, " \t");
		for (size_t n = strlen(colon); n > 0 && strchr(" \t", colon[n - 1]) != NULL; n--)
			colon[n - 1] = '\0';
		host = host || strcasecmp(line, "Host") == 0;
		take_field(request, line, colon);
	}
	if (status == 0 && version_1_1 && !host)
		status = 400;
	return status;
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef", *at;

	if (c >= 'A' && c <= 'F')
		c = (char)(c - 'A' + 'a');
	at = c != '\0' ? strchr(digits, c) : NULL;
	return at != NULL ? (int)(at - digits) : -1;
}

/* Takes the path out of a target: decodes %XX, drops the query and the slashes in front.
 * Returns 0 or the status to answer with.  path has room for REQUEST_MAX. */
static int decode_path(const char *target, char *path)
{
	char *out = path;

	target += strspn(target, "/");
	for (; *target != '\0' && *target != '?' && *target != '#'; target++) {
		int high, low;

		if (*target != '%') {
			*out++ = *target;
			continue;
		}
		high = hex_digit(target[1]);
		low = high >= 0 ? hex_digit(target[2]) : -1;
		if (low < 0 || (high == 0 && low == 0))
			return 400;
		*out++ = (char)(high << 4 | low);
		target += 2;
	}
	*out = '\0';
	for (const char *part = path; part != NULL; part = strchr(part, '/')) {
		part += strspn(part, "/");
		if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
			return 403;
	}
	return path[0] == '/' ? 403 : 0; /* from %2f: absolute, for openat */
}

/* ---- files --------------------------------------------------------------------------------- */

struct answer {
	int status;
	int file_fd;              /* -1: body is the whole of it */
	uint64_t offset, length;  /* the range */
	uint64_t size;            /* of the whole, for Content-Range */
	time_t modified;          /* 0: unknown */
	const char *type;
	char etag[48];
	char location[REQUEST_MAX + 8];
	char *body;               /* from malloc */
	size_t body_length;
};

static int status_of_errno(int error)
{
	switch (error) {
	case ENOENT: case ENOTDIR: case ENAMETOOLONG:
		return 404;
	case EACCES: case EPERM: case ELOOP: case EXDEV: case ENXIO:
		return 403;
	case EMFILE: case ENFILE: case ENOMEM: case EAGAIN:
		return 503;
	default:
		return 500;
	}
}

/* Opens what lies beneath the root, wherever symbolic links lead.  O_NONBLOCK: a FIFO must not
 * hold up the loop. */
static int open_beneath(const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	int fd = (int)syscall(SYS_openat2, server.root, path, &how, sizeof(how));

	/* Before Linux 5.6, and under old seccomp profiles.  Links out of the root are followed then. */
	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		fd = openat(server.root, path, (int)how.flags);
	return fd;
}

static const char *type_of(const char *path)
{
	static const char *const types[][2] = {
		{ ".html", "text/html; charset=utf-8" }, { ".htm", "text/html; charset=utf-8" },
		{ ".txt", "text/plain; charset=utf-8" }, { ".md", "text/plain; charset=utf-8" },
		{ ".c", "text/plain; charset=utf-8" },   { ".h", "text/plain; charset=utf-8" },
		{ ".css", "text/css; charset=utf-8" },   { ".js", "text/javascript; charset=utf-8" },
		{ ".json", "application/json" },         { ".xml", "application/xml" },
		{ ".pdf", "application/pdf" },           { ".wasm", "application/wasm" },
		{ ".svg", "image/svg+xml" },             { ".png", "image/png" },
		{ ".jpg", "image/jpeg" },                { ".jpeg", "image/jpeg" },
		{ ".gif", "image/gif" },                 { ".webp", "image/webp" },
		{ ".ico", "image/x-icon" },              { ".woff2", "font/woff2" },
		{ ".mp3", "audio/mpeg" },                { ".ogg", "audio/ogg" },
		{ ".mp4", "video/mp4" },                 { ".webm", "video/webm" },
		{ ".gz", "application/gzip" },           { ".zip", "application/zip" },
	};
	const char *suffix = strrchr(path, '.');

	for (size_t i = 0; suffix != NULL && i < sizeof(types) / sizeof(types[0]); i++)
		if (strcasecmp(suffix, types[i][0]) == 0)
			return types[i][1];
	return "application/octet-stream";
}

static void put_html(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		switch (*text) {
		case '&': fputs("&amp;", out); break;
		case '<': fputs("&lt;", out); break;
		case '>': fputs("&gt;", out); break;
		case '"': fputs("&quot;", out); break;
		default: fputc(*text, out);
		}
	}
}

static void put_url(FILE *out, const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";

	for (; *text != '\0'; text++) {
		if (strchr(plain, *text) != NULL)
			fputc(*text, out);
		else
			fprintf(out, "%%%02X", (unsigned char)*text);
	}
}

static void put_entries(FILE *out, DIR *directory)
{
	const struct dirent *entry;

	while ((entry = readdir(directory)) != NULL && ftell(out) < LISTING_MAX) {
		const char *slash = entry->d_type == DT_DIR ? "/" : "";

		if (strcmp(entry->d_name, ".") == 0)
			continue;
		fputs("<li><a href=\"", out);
		put_url(out, entry->d_name);
		fprintf(out, "%s\">", slash);
		put_html(out, entry->d_name);
		fprintf(out, "%s</a>\n", slash);
	}
}

/* Takes the descriptor of a directory.  Returns the status. */
static int list_directory(int fd, const char *path, struct answer *answer)
{
	DIR *directory = fdopendir(fd);
	FILE *out = open_memstream(&answer->body, &answer->body_length);

	if (directory == NULL || out == NULL) {
		if (out != NULL)
			fclose(out);
		if (directory != NULL)
			closedir(directory);
		else
			close(fd);
		return 503;
	}
	fputs("<!DOCTYPE html>\n<title>/", out);
	put_html(out, path);
	fputs("</title>\n<h1>/", out);
	put_html(out, path);
	fputs("</h1>\n<ul>\n", out);
	put_entries(out, directory);
	fputs("</ul>\n", out);
	closedir(directory);
	answer->type = "text/html; charset=utf-8";
	return fclose(out) == 0 ? 200 : 503;
}

/* A directory: its index.html, or a listing.  *fd becomes the file to send, or -1. */
static int enter_directory(int *fd, struct stat *st, char *path, const char *target,
			   struct answer *answer)
{
	size_t length = strlen(path);
	int directory = *fd;

	*fd = -1;
	if (length > 0 && path[length - 1] != '/') {
		close(directory);
		target += strspn(target, "/"); /* two of them would begin with a host */
		snprintf(answer->location, sizeof(answer->location), "/%.*s/",
			 (int)strcspn(target, "?#"), target);
		return 301;
	}
	if (length + sizeof("index.html") <= REQUEST_MAX) {
		strcpy(path + length, "index.html");
		*fd = open_beneath(path);
		path[*fd < 0 ? length : length + strlen("index.html")] = '\0';
	}
	if (*fd < 0)
		return list_directory(directory, path, answer);
	close(directory);
	return fstat(*fd, st) == 0 ? 0 : status_of_errno(errno);
}

/* Opens what the target names.  Returns 0, with a regular file in *fd, or the status to answer
 * with. */
static int open_target(const char *target, struct answer *answer, int *fd, struct stat *st)
{
	char path[REQUEST_MAX];
	int status = decode_path(target, path);

	*fd = -1;
	if (status != 0)
		return status;
	*fd = open_beneath(path[0] != '\0' ? path : ".");
	if (*fd < 0)
		return status_of_errno(errno);
	if (fstat(*fd, st) < 0)
		return status_of_errno(errno);
	if (S_ISDIR(st->st_mode)) {
		status = enter_directory(fd, st, path, target, answer);
		if (status != 0)
			return status;
	}
	if (!S_ISREG(st->st_mode))
		return 403;
	answer->type = type_of(path);
	return 0;
}

/* ---- what is sent -------------------------------------------------------------------------- */

static void http_date(char out[32], time_t t)
{
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(out, 32, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
		out[0] = '\0';
}

static bool unchanged(const struct request *request, const struct answer *answer)
{
	struct tm tm = { 0 };

	if (request->if_none_match != NULL)
		return strcmp(request->if_none_match, "*") == 0 ||
		       strstr(request->if_none_match, answer->etag) != NULL;
	return request->if_modified_since != NULL &&
	       strptime(request->if_modified_since, "%a, %d %b %Y %H:%M:%S GMT", &tm) != NULL &&
	       answer->modified <= timegm(&tm);
}

/* May the range be taken of the file as it is now? */
static bool range_allowed(const struct request *request, const struct answer *answer)
{
	char date[32];

	if (request->range == NULL || request->head_only)
		return false;
	http_date(date, answer->modified);
	return request->if_range == NULL || strcmp(request->if_range, answer->etag) == 0 ||
	       strcmp(request->if_range, date) == 0;
}

/* A number without a sign; one that does not fit is as good as the largest.  False: there is none. */
static bool take_number(const char **text, uint64_t *number)
{
	const char *start = *text;

	for (*number = 0; **text >= '0' && **text <= '9'; (*text)++)
		*number = *number <= (UINT64_MAX - 9) / 10 ? *number * 10 + (uint64_t)(**text - '0')
							     : UINT64_MAX;
	return *text > start;
}

/* Narrows the answer to the range asked for.  What cannot be understood, and several ranges at
 * once, are answered by the whole file, as the standard allows.  Returns the status. */
static int take_range(const char *text, struct answer *answer)
{
	uint64_t first = 0, last = UINT64_MAX, size = answer->size;

	if (strncasecmp(text, "bytes=", 6) != 0)
		return 200;
	text += 6;
	text += strspn(text, " \t");
	if (*text == '-') {
		text++;
		if (!take_number(&text, &last) || *text != '\0')
			return 200;
		if (last == 0)
			return 416;
		if (size == 0)
			return 200; /* the last n bytes of nothing: satisfied, but not to be written as a range */
		first = last < size ? size - last : 0;
		last = size - 1;
	} else {
		if (!take_number(&text, &first) || *text++ != '-')
			return 200;
		if (*text != '\0' && (!take_number(&text, &last) || *text != '\0' || last < first))
			return 200;
		if (first >= size)
			return 416;
		if (last > size - 1)
			last = size - 1;
	}
	answer->offset = first;
	answer->length = last - first + 1;
	return 206;
}

/* Decides what to answer to a request that was understood. */
static int prepare(const struct request *request, struct answer *answer)
{
	struct stat st;
	int fd, status = open_target(request->target, answer, &fd, &st);

	if (status != 0) {
		if (fd >= 0)
			close(fd);
		return status;
	}
	answer->file_fd = fd;
	answer->size = answer->length = (uint64_t)st.st_size;
	answer->modified = st.st_mtime;
	snprintf(answer->etag, sizeof(answer->etag), "\"%" PRIx64 "-%" PRIx64 "-%lx\"",
		 (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec, (unsigned long)st.st_mtim.tv_nsec);
	if (unchanged(request, answer))
		status = 304;
	else
		status = range_allowed(request, answer) ? take_range(request->range, answer) : 200;
	if (status == 304 || status == 416) {
		close(fd);
		answer->file_fd = -1;
		answer->length = 0;
	}
	return status;
}

static const char *reason(int status)
{
	switch (status) {
	case 200: return "OK";
	case 206: return "Partial Content";
	case 301: return "Moved Permanently";
	case 304: return "Not Modified";
	case 400: return "Bad Request";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 413: return "Content Too Large";
	case 416: return "Range Not Satisfiable";
	case 431: return "Request Header Fields Too Large";
	case 503: return "Service Unavailable";
	case 505: return "HTTP Version Not Supported";
	default: return "Internal Server Error";
	}
}

/* An answer that has no body yet gets its status for one. */
static void add_body(struct answer *answer)
{
	int n;

	if (answer->file_fd >= 0 || answer->status == 304 || answer->body != NULL)
		return;
	n = asprintf(&answer->body, "%d %s\n", answer->status, reason(answer->status));
	if (n < 0)
		answer->body = NULL;
	answer->body_length = n < 0 ? 0 : (size_t)n;
	answer->type = "text/plain; charset=utf-8";
}

struct text {
	char bytes[REQUEST_MAX + 1024];
	size_t length;
};

__attribute__((format(printf, 2, 3)))
static void append(struct text *text, const char *format, ...)
{
	size_t room = sizeof(text->bytes) - text->length;
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(text->bytes + text->length, room, format, arguments);
	va_end(arguments);
	if (n > 0)
		text->length += (size_t)n < room ? (size_t)n : room - 1;
}

static void append_head(struct text *text, const struct answer *answer, bool keep_alive)
{
	char date[32];

	http_date(date, time(NULL));
	append(text, "HTTP/1.1 %d %s\r\nDate: %s\r\n", answer->status, reason(answer->status), date);
	if (answer->status != 304)
		append(text, "Content-Type: %s\r\nContent-Length: %" PRIu64 "\r\n", answer->type,
		       answer->file_fd >= 0 ? answer->length : answer->body_length);
	if (answer->status == 206)
		append(text, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n",
		       answer->offset, answer->offset + answer->length - 1, answer->size);
	if (answer->status == 416)
		append(text, "Content-Range: bytes */%" PRIu64 "\r\n", answer->size);
	if (answer->status == 301)
		append(text, "Location: %s\r\n", answer->location);
	if (answer->status == 405)
		append(text, "Allow: GET, HEAD\r\n");
	if (answer->etag[0] != '\0') {
		http_date(date, answer->modified);
		append(text, "Accept-Ranges: bytes\r\nLast-Modified: %s\r\nETag: %s\r\n", date,
		       answer->etag);
	}
	append(text, "Connection: %s\r\n\r\n", keep_alive ? "keep-alive" : "close");
}

/* Hands the answer to snapsend: the head as the request's header, then either a range of the file or,
 * as its trailer, text from memory.  Everything goes this way, so that pipelined answers keep their
 * order.  Returns as snapsend_try_send() does. */
static int start_answer(struct client *c, struct answer *answer, struct snapsend_completion *done)
{
	struct text head = { .length = 0 };
	struct iovec header, trailer;
	struct snapsend_request send = {
		.socket_fd = c->fd, .file_fd = -1, .header = &header, .header_count = 1,
		.user_data = (uintptr_t)c,
	};
	uint64_t seconds;
	int r;

	add_body(answer);
	append_head(&head, answer, c->keep_alive && server.stop_at == 0);
	header = (struct iovec){ .iov_base = head.bytes, .iov_len = head.length };
	trailer = (struct iovec){ .iov_base = answer->body, .iov_len = answer->body_length };
	if (!c->head_only && answer->file_fd >= 0) {
		send.file_fd = answer->file_fd;
		send.offset = answer->offset;
		send.length = answer->length;
	} else if (!c->head_only && answer->body_length > 0) {
		send.trailer = &trailer;
		send.trailer_count = 1;
	}
	seconds = SLOWEST_START + (send.length + answer->body_length) / SLOWEST_RATE;
	send.timeout_ms = seconds < UINT32_MAX / 1000 ? (uint32_t)seconds * 1000 : UINT32_MAX;

	/* The kernel takes a small answer faster than another thread would wake up. */
	if (send.length + answer->body_length <= INLINE_MAX)
		r = snapsend_try_send(server.snapsend, &send, sizeof(send), done);
	else
		r = snapsend_submit(server.snapsend, &send, sizeof(send), NULL);
	free(answer->body);
	answer->body = NULL;
	if (r >= 0)
		c->file_fd = answer->file_fd;
	else if (answer->file_fd >= 0)
		close(answer->file_fd);
	return r;
}

/* The operation has ended: its descriptors are ours again.  Returns false if that was the end of the
 * client, too. */
static bool finish(struct client *c, const struct snapsend_completion *done)
{
	bool had_file = c->file_fd >= 0;

	server.answers++;
	if (had_file)
		close(c->file_fd);
	c->file_fd = -1;
	if (c->state == ENDING || (done->status < 0 && done->wire_bytes > 0)) {
		close_client(c); /* cut off in the middle: closing is the only way to say so */
		return false;
	}
	if (done->status == 0 && (!c->keep_alive || server.stop_at != 0)) {
		linger(c);
		return false;
	}
	if (had_file && (done->status == -ENODATA || done->status == -EIO)) {
		c->owed = 500; /* the file is at fault and the stream untouched: still time to say so */
	} else if (done->status < 0) {
		close_client(c);
		return false;
	}
	move_to(c, READING);
	return true;
}

/* Works out the answer to the request in hand, or to what is owed. */
static void make_answer(struct client *c, size_t length, struct answer *answer)
{
	char text[REQUEST_MAX + 1];
	struct request request;

	*answer = (struct answer){ .file_fd = -1 };
	if (c->owed != 0) {
		answer->status = c->owed;
		return;
	}
	memcpy(text, c->in, length); /* a copy, as it may have to be read again after -EAGAIN */
	text[length] = '\0';
	answer->status = parse_request(text, length, &request);
	c->head_only = request.head_only;
	/* After something that was not understood, or that has a body, the next request cannot be found. */
	c->keep_alive = request.keep_alive && answer->status == 0 && !request.has_body;
	if (answer->status == 0)
		answer->status = request.has_body ? 413 : prepare(&request, answer);
}

static void consume(struct client *c, size_t length)
{
	c->in_length -= length;
	memmove(c->in, c->in + length, c->in_length);
}

/* Answers what is in the buffer, request by request, until one has to be waited for.  False: snapsend
 * has no room now. */
static bool serve(struct client *c)
{
	struct snapsend_completion done;
	struct answer answer;

	for (;;) {
		size_t length = c->owed != 0 ? 0 : head_length(c);
		int r;

		if (c->owed == 0 && length == 0 && c->in_length == sizeof(c->in)) {
			c->owed = 431;
			c->keep_alive = c->head_only = false;
		} else if (c->owed == 0 && length == 0) {
			if (!watch(c, true))
				close_client(c);
			return true;
		}
		make_answer(c, length, &answer);
		r = start_answer(c, &answer, &done);
		if (r == -EAGAIN) {
			if (c->state != WAITING)
				move_to(c, WAITING);
			return false;
		}
		if (r < 0) { /* the connection is gone already, or memory is short */
			close_client(c);
			return true;
		}
		c->owed = 0;
		consume(c, length);
		if (r == 0)
			move_to(c, SENDING);
		if (r == 0 || !finish(c, &done))
			return true;
	}
}

/* ---- the loop ------------------------------------------------------------------------------ */

static void add_client(int fd)
{
	struct client *c = malloc(sizeof(*c));
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };

	if (c == NULL || epoll_ctl(server.epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		free(c);
		close(fd);
		return;
	}
	c->fd = fd;
	c->file_fd = -1;
	c->owed = 0;
	c->watched = true;
	c->keep_alive = c->head_only = false;
	c->in_length = 0;
	put_in(c, READING);
	server.clients++;
}

static void accept_clients(void)
{
	for (unsigned i = 0; i < BATCH; i++) {
		bool full = server.clients >= server.clients_max;
		int fd = full ? -1 : accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			add_client(fd);
		} else if (full || errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			   errno == ENOMEM) {
			watch_listener(false); /* until a client has gone or a second has passed */
			return;
		} else if (errno == EAGAIN) {
			return;
		} /* anything else is the end of that one connection */
	}
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
	if (c->state == READING || c->state == LINGERING) {
		read_input(c);
	} else if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
		if (c->state == SENDING)
			abandon(c);
		else if (c->state == WAITING)
			close_client(c);
	} else if (!watch(c, false)) { /* pipelined: its turn comes after the answer in flight */
		abandon(c);
	}
}

/* What was given to snapsend with submit, or by try_send because it had to wait. */
static bool take_completions(void)
{
	struct snapsend_completion done[BATCH];
	int n = snapsend_poll(server.snapsend, done, BATCH, 0);

	if (n < 0 && n != -EINTR) {
		fprintf(stderr, "snapsend_poll: %s\n", strerror(-n));
		return false;
	}
	for (int i = 0; i < n; i++) {
		struct client *c = (struct client *)(uintptr_t)done[i].user_data;

		if (finish(c, &done[i]))
			serve(c);
	}
	return true;
}

/* Those for whom snapsend had no room, in the order in which they came. */
static void retry_waiting(void)
{
	while (server.lists[WAITING].first != NULL && serve(server.lists[WAITING].first))
		;
}

static void drop_idle(enum state state)
{
	struct client *c;

	while ((c = server.lists[state].first) != NULL && c->deadline <= server.now)
		close_client(c);
}

/* At the first signal: no new clients, no new requests; what is on its way may arrive. */
static void begin_stop(void)
{
	static const enum state quiet[] = { READING, WAITING, LINGERING };

	close(server.listener);
	server.listener = -1;
	server.stop_at = server.now + GRACE_MS;
	for (size_t i = 0; i < sizeof(quiet) / sizeof(quiet[0]); i++)
		while (server.lists[quiet[i]].first != NULL)
			close_client(server.lists[quiet[i]].first);
}

static void take_signal(void)
{
	struct signalfd_siginfo info;

	if (read(server.signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (server.stop_at == 0)
		begin_stop();
	else
		server.stop_at = server.now; /* the second one: now */
}

static void cancel_sending(void)
{
	while (server.lists[SENDING].first != NULL)
		abandon(server.lists[SENDING].first);
}

static int sleep_ms(void)
{
	int64_t until = INT64_MAX, wait;

	if (server.lists[WAITING].first != NULL)
		return RETRY_MS;
	if (!server.accepting && server.stop_at == 0)
		until = server.now + 1000;
	if (server.stop_at != 0 && server.lists[SENDING].first != NULL)
		until = server.stop_at;
	if (server.lists[READING].first != NULL && server.lists[READING].first->deadline < until)
		until = server.lists[READING].first->deadline;
	if (server.lists[LINGERING].first != NULL && server.lists[LINGERING].first->deadline < until)
		until = server.lists[LINGERING].first->deadline;
	if (until == INT64_MAX)
		return -1;
	wait = until - server.now;
	return wait < 0 ? 0 : wait > 60000 ? 60000 : (int)wait;
}

/* Completions are taken after the events of clients: they may free a client that has an event. */
static bool turn(void)
{
	struct epoll_event events[BATCH];
	int n = epoll_wait(server.epoll, events, BATCH, sleep_ms());
	bool completions = false, signals = false;

	if (n < 0 && errno != EINTR) {
		perror("epoll_wait");
		return false;
	}
	server.now = milliseconds();
	if (n == 0 && server.stop_at == 0)
		watch_listener(true);
	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr == &server.listener)
			accept_clients();
		else if (events[i].data.ptr == &server.signals)
			signals = true;
		else if (events[i].data.ptr == &server.snapsend)
			completions = true;
		else
			client_event(events[i].data.ptr, events[i].events);
	}
	if (signals)
		take_signal();
	if (completions && !take_completions())
		return false;
	retry_waiting();
	drop_idle(READING);
	drop_idle(LINGERING);
	if (server.stop_at != 0 && server.now >= server.stop_at)
		cancel_sending();
	return true;
}

/* ---- start and end ------------------------------------------------------------------------- */

static bool add_to_epoll(int fd, void *tag)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = tag };

	return fd >= 0 && epoll_ctl(server.epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool listen_on(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICHOST };
	struct addrinfo *a;
	int error = getaddrinfo(host, port, &hints, &a), on = 1;
	bool done;

	if (error != 0) {
		fprintf(stderr, "%s port %s: %s\n", host, port, gai_strerror(error));
		return false;
	}
	server.listener = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* TCP_NODELAY is inherited by what is accepted.  Each answer is one operation, so nothing small
	 * is ever left over for Nagle's algorithm to gather. */
	done = server.listener >= 0 &&
	       setsockopt(server.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	       setsockopt(server.listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
	       bind(server.listener, a->ai_addr, a->ai_addrlen) == 0 &&
	       listen(server.listener, SOMAXCONN) == 0;
	if (!done)
		fprintf(stderr, "%s port %s: %s\n", host, port, strerror(errno));
	freeaddrinfo(a);
	return done;
}

static bool announce(void)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char host[64], port[8];
	bool v6;

	if (getsockname(server.listener, (struct sockaddr *)&address, &length) < 0 ||
	    getnameinfo((struct sockaddr *)&address, length, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
		fprintf(stderr, "the listening socket has no address\n");
		return false;
	}
	v6 = address.ss_family == AF_INET6;
	printf("listening on %s%s%s:%s\n", v6 ? "[" : "", host, v6 ? "]" : "", port);
	return fflush(stdout) == 0;
}

/* As many clients as there are descriptors for: two each. */
static void count_descriptors(void)
{
	struct rlimit limit;

	server.clients_max = 400;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0 && getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	server.clients_max = CLIENTS_MAX;
	if (limit.rlim_cur < 2 * CLIENTS_MAX + 64)
		server.clients_max = limit.rlim_cur > 100 ? ((unsigned)limit.rlim_cur - 64) / 2 : 16;
}

static bool start_snapsend(uint32_t engine)
{
	struct snapsend_options options = { .engine = engine, .max_ops = server.clients_max };
	int r = snapsend_create(&options, sizeof(options), &server.snapsend);

	if (r < 0)
		fprintf(stderr, "snapsend_create: %s\n", strerror(-r));
	return r == 0;
}

static bool start(const char *root, const char *host, const char *port, uint32_t engine)
{
	sigset_t stops;

	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &stops, NULL) < 0) {
		perror("sigprocmask");
		return false;
	}
	server.now = milliseconds();
	server.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (server.root < 0) {
		perror(root);
		return false;
	}
	count_descriptors();
	if (!listen_on(host, port) || !start_snapsend(engine))
		return false;
	server.epoll = epoll_create1(EPOLL_CLOEXEC);
	server.signals = signalfd(-1, &stops, SFD_NONBLOCK | SFD_CLOEXEC);
	if (server.epoll < 0 || !add_to_epoll(server.signals, &server.signals) ||
	    !add_to_epoll(snapsend_event_fd(server.snapsend), &server.snapsend) ||
	    !add_to_epoll(server.listener, &server.listener)) {
		perror("epoll");
		return false;
	}
	server.accepting = true;
	return announce();
}

/* Everything is given back, so that a leak checker has nothing to say. */
static void stop(void)
{
	struct snapsend_stats stats = { 0 };

	if (server.snapsend != NULL) {
		if (snapsend_get_stats(server.snapsend, &stats, sizeof(stats)) == 0)
			fprintf(stderr, "%" PRIu64 " answers, %" PRIu64 " bytes\n", server.answers,
				stats.wire_bytes);
		/* After this nothing can be in flight, even if the loop ended in an error. */
		snapsend_destroy(server.snapsend);
	}
	for (int state = 0; state < STATES; state++)
		while (server.lists[state].first != NULL)
			close_client(server.lists[state].first);
	for (size_t i = 0; i < 4; i++) {
		int fd = (int[]){ server.epoll, server.signals, server.listener, server.root }[i];

		if (fd >= 0)
			close(fd);
	}
}

static int usage(const char *name)
{
	fprintf(stderr, "usage: %s --root DIR [--port N] [--bind ADDR] [--idle SECONDS] "
		"[--engine auto|uring|portable]\n", name);
	return 2;
}

static bool parse_engine(const char *name, uint32_t *engine)
{
	static const char *const names[] = { "auto", "uring", "portable" };

	for (*engine = 0; *engine < 3; (*engine)++)
		if (strcmp(name, names[*engine]) == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' }, { "port", required_argument, NULL, 'p' },
		{ "bind", required_argument, NULL, 'b' }, { "engine", required_argument, NULL, 'e' },
		{ "idle", required_argument, NULL, 'i' }, { NULL, 0, NULL, 0 },
	};
	const char *root = NULL, *port = "0", *host = "127.0.0.1";
	uint32_t engine = SNAPSEND_ENGINE_AUTO;
	bool good = true, started;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'r': root = optarg; break;
		case 'p': port = optarg; break;
		case 'b': host = optarg; break;
		case 'e': good = good && parse_engine(optarg, &engine); break;
		case 'i':
			server.idle_ms = atol(optarg) * 1000;
			good = good && server.idle_ms > 0;
			break;
		default: good = false;
		}
	}
	if (!good || root == NULL || optind != argc)
		return usage(argv[0]);

	good = started = start(root, host, port, engine);
	while (good && (server.stop_at == 0 || server.clients > 0))
		good = turn();
	stop();
	return started && good ? 0 : 1;
}
