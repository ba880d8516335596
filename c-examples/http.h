/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The part of HTTP/1.0 and 1.1 that a server of static files needs: GET and HEAD, one range, keep-alive, pipelining.
 * It does not read or send.  The server appends what it reads to struct http_input, calls http_take() until that returns
 * false, and sends each answer: the head, then the range of the file.
 *
 * Not supported: percent-encoded paths, requests with a body, conditions.  Unknown fields are ignored.
 */
#ifndef HTTP_H
#define HTTP_H

#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define HTTP_HEAD_MAX   8192u /* the longest head of a request that is accepted */
#define HTTP_ANSWER_MAX 512u

/* The requests that are not answered yet.  If it is full although http_take() returns false, the head is too long. */
struct http_input {
	size_t length;
	char bytes[HTTP_HEAD_MAX];
};

struct http_answer {
	bool keep_alive;         /* false: the connection ends after this answer */
	int file_fd;             /* an open file, which the caller closes; -1: no body */
	uint64_t offset, length; /* the range */
	struct stat st;          /* the file's */
	size_t head_length;
	char head[HTTP_ANSWER_MAX];
};

struct http_request {
	bool head_only, keep_alive;
	bool whole;       /* the range is to be ignored */
	const char *path; /* without slashes in front; no part of it begins with ".." */
	char *range;      /* the value of the field; NULL: none */
};

/* The method, the target and the version.  Returns 0 or the status of the answer. */
static inline int http_parse_first_line(char *line, struct http_request *request)
{
	char *method = strsep(&line, " "), *target = strsep(&line, " ");

	if (line == NULL || *target != '/' || (strcmp(line, "HTTP/1.1") != 0 && strcmp(line, "HTTP/1.0") != 0))
		return 400;
	request->keep_alive = line[7] == '1';
	request->head_only = request->whole = strcmp(method, "HEAD") == 0;
	if (!request->head_only && strcmp(method, "GET") != 0)
		return 405;
	target[strcspn(target, "?")] = '\0';
	request->path = target + strspn(target, "/");
	return strstr(target, "/..") == NULL ? 0 : 403;
}

static inline int http_parse_field(char *line, struct http_request *request)
{
	char *name = strsep(&line, ":"), *value = line;

	if (value == NULL || *name == '\0' || strpbrk(name, " \t") != NULL)
		return 400;
	value += strspn(value, " \t");
	if (strcasecmp(name, "Connection") == 0 && strncasecmp(value, "close", 5) == 0)
		request->keep_alive = false;
	else if (strcasecmp(name, "Range") == 0)
		request->range = value;
	else if (strcasecmp(name, "If-Range") == 0) /* answers have no validator: it cannot match */
		request->whole = true;
	else if (strcasecmp(name, "Transfer-Encoding") == 0 ||
		 (strcasecmp(name, "Content-Length") == 0 && strcmp(value, "0") != 0))
		return 400;
	return 0;
}

/* Parses the lines of a request, in place.  Returns 0 or the status of the answer. */
static inline int http_parse(char *head, struct http_request *request)
{
	char *rest, *line = strtok_r(head, "\r\n", &rest);
	int status = line != NULL ? http_parse_first_line(line, request) : 400;

	while (status == 0 && (line = strtok_r(NULL, "\r\n", &rest)) != NULL)
		status = http_parse_field(line, request);
	return status;
}

/* Selects a part of a file by bytes=FIRST-LAST, bytes=FIRST- or bytes=-COUNT.  Anything else, several ranges included,
 * selects the whole file, as the standard allows.  Returns the status. */
static inline int http_select(char *range, uint64_t size, uint64_t *offset, uint64_t *length)
{
	uint64_t first = 0, last = UINT64_MAX;
	bool from, to;

	*offset = 0;
	*length = size;
	if (range == NULL || strncasecmp(range, "bytes=", 6) != 0)
		return 200;
	range += 6;
	from = isdigit((unsigned char)*range);
	if (from)
		first = strtoull(range, &range, 10); /* the largest number if it does not fit */
	if (*range++ != '-')
		return 200;
	to = isdigit((unsigned char)*range);
	if (to)
		last = strtoull(range, &range, 10);
	if (*range != '\0' || (from ? last < first : !to || size == 0))
		return 200;
	if (!from) {
		first = last < size ? size - last : 0; /* size if last is 0: an empty range */
		last = UINT64_MAX;
	}
	if (first >= size) {
		*length = 0;
		return 416;
	}
	*offset = first;
	*length = (last < size ? last : size - 1) - first + 1;
	return 206;
}

/* Symbolic links are followed: a user who may create one below the root may publish with it.  O_NONBLOCK: a FIFO must
 * not block the server. */
static inline int http_open(int root_fd, const struct http_request *request, struct http_answer *answer)
{
	answer->file_fd = openat(root_fd, request->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (answer->file_fd < 0 || fstat(answer->file_fd, &answer->st) < 0 || !S_ISREG(answer->st.st_mode))
		return 404;
	return http_select(request->whole ? NULL : request->range, (uint64_t)answer->st.st_size, &answer->offset,
			   &answer->length);
}

/* Clients ignore the reason phrase, so it is empty. */
static inline void http_write_head(struct http_answer *answer, int status)
{
	uint64_t size = (uint64_t)answer->st.st_size;
	char field[96] = "";

	if (status == 206)
		snprintf(field, sizeof(field), "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n",
			 answer->offset, answer->offset + answer->length - 1, size);
	else if (status == 416)
		snprintf(field, sizeof(field), "Content-Range: bytes */%" PRIu64 "\r\n", size);
	answer->head_length = (size_t)snprintf(answer->head, sizeof(answer->head),
					       "HTTP/1.1 %d \r\nContent-Length: %" PRIu64 "\r\n%s%s%s\r\n", status,
					       answer->length, field, status == 405 ? "Allow: GET, HEAD\r\n" : "",
					       answer->keep_alive ? "" : "Connection: close\r\n");
}

/* Removes the next request and determines its answer.  False: the request is incomplete. */
static inline bool http_take(struct http_input *input, int root_fd, struct http_answer *answer)
{
	char *end = memmem(input->bytes, input->length, "\r\n\r\n", 4);
	struct http_request request = { 0 };
	int status = 400;

	if (end == NULL)
		return false;
	*answer = (struct http_answer){ .file_fd = -1 };
	*end = '\0';
	if (strlen(input->bytes) == (size_t)(end - input->bytes))
		status = http_parse(input->bytes, &request);
	if (status == 0) { /* after an error, the start of the next request is uncertain */
		answer->keep_alive = request.keep_alive;
		status = http_open(root_fd, &request, answer);
	}
	http_write_head(answer, status);
	if (request.head_only)
		answer->length = 0;
	if (answer->length == 0 && answer->file_fd >= 0) {
		close(answer->file_fd);
		answer->file_fd = -1;
	}
	end += 4;
	input->length -= (size_t)(end - input->bytes);
	memmove(input->bytes, end, input->length);
	return true;
}

/* A client that has not taken its answer after this time is too slow, and is disconnected. */
static inline uint32_t http_timeout_ms(const struct http_answer *answer)
{
	uint64_t seconds = 60 + answer->length / 4096;

	return seconds < UINT32_MAX / 1000 ? (uint32_t)seconds * 1000 : UINT32_MAX;
}

#endif
