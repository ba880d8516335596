/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The part of HTTP/1.0 and 1.1 that a server of static files needs: GET and HEAD, one range, keep-alive.  It works on
 * text only, and does not read, send or allocate.  Unknown fields, such as Host, are ignored.
 *
 *	length = http_head_length(input, input_length);              0: incomplete
 *	status = http_parse(input, length, &request);                0, or the status of the answer
 *	status = http_select(&request, file_size, &offset, &length); 200, 206 or 416
 *	http_write_head(...);
 */
#ifndef HTTP_H
#define HTTP_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HTTP_HEAD_MAX   8192u /* the longest head of a request that a server must accept */
#define HTTP_PATH_MAX   4096u
#define HTTP_ANSWER_MAX 512u /* the longest head of an answer */

enum http_range { HTTP_ALL, HTTP_FROM, HTTP_LAST };

struct http_request {
	bool head_only;
	bool keep_alive; /* false unless status is 0: the next request cannot be found */
	enum http_range range;
	uint64_t first, last;     /* HTTP_FROM: the range, both included.  HTTP_LAST: the number of bytes at the end */
	char path[HTTP_PATH_MAX]; /* decoded, without slashes in front; no part of it is ".." */
};

/* A part of the request; not terminated. */
struct http_text {
	const char *at, *end;
};

/* Returns the length of the first request's head with the empty line that ends it; 0: incomplete. */
static inline size_t http_head_length(const char *input, size_t length)
{
	for (size_t i = 0; length - i >= 4; i++)
		if (memcmp(input + i, "\r\n\r\n", 4) == 0)
			return i + 4;
	return 0;
}

/* A method, or the name of a field. */
static inline bool http_is_token(struct http_text text)
{
	if (text.at == text.end)
		return false;
	for (; text.at < text.end; text.at++)
		if ((unsigned char)*text.at <= ' ' || (unsigned char)*text.at > 126 ||
		    strchr("\"(),/:;<=>?@[\\]{}", *text.at) != NULL)
			return false;
	return true;
}

static inline bool http_is(struct http_text text, const char *word)
{
	size_t length = (size_t)(text.end - text.at);

	return strlen(word) == length && strncasecmp(text.at, word, length) == 0;
}

/* Removes the part before c; false if there is no c. */
static inline bool http_cut(struct http_text *rest, char c, struct http_text *piece)
{
	const char *found = memchr(rest->at, c, (size_t)(rest->end - rest->at));

	if (found == NULL)
		return false;
	*piece = (struct http_text){ rest->at, found };
	rest->at = found + 1;
	return true;
}

static inline struct http_text http_trim(struct http_text text)
{
	while (text.at < text.end && (*text.at == ' ' || *text.at == '\t'))
		text.at++;
	while (text.at < text.end && (text.end[-1] == ' ' || text.end[-1] == '\t'))
		text.end--;
	return text;
}

/* Removes a number.  A number that does not fit counts as the largest.  False: no number. */
static inline bool http_number(struct http_text *text, uint64_t *number)
{
	const char *start = text->at;

	for (*number = 0; text->at < text->end && *text->at >= '0' && *text->at <= '9'; text->at++)
		*number = *number <= (UINT64_MAX - 9) / 10 ? *number * 10 + (uint64_t)(*text->at - '0') : UINT64_MAX;
	return text->at > start;
}

static inline int http_hex_digit(char c)
{
	const char *digits = "0123456789abcdefABCDEF", *found = c != '\0' ? strchr(digits, c) : NULL;

	return found == NULL ? -1 : found - digits < 16 ? (int)(found - digits) : (int)(found - digits) - 6;
}

/* Whether a part of the path is "..". */
static inline bool http_climbs(const char *path)
{
	for (const char *part = path; part != NULL; part = strchr(part, '/')) {
		part += *part == '/';
		if (part[0] == '.' && part[1] == '.' && (part[2] == '/' || part[2] == '\0'))
			return true;
	}
	return false;
}

/* The path of a target such as /a%20b?query or http://host/a. */
static inline int http_take_path(struct http_text target, char path[HTTP_PATH_MAX])
{
	size_t n = 0;

	if (target.end - target.at > 7 && strncasecmp(target.at, "http://", 7) == 0) {
		target.at = memchr(target.at + 7, '/', (size_t)(target.end - target.at) - 7);
		if (target.at == NULL)
			return 400;
	}
	if (target.at == target.end || *target.at != '/')
		return 400;
	for (; target.at < target.end && *target.at != '?'; target.at++) {
		char c = *target.at;

		if (c == '\t')
			return 400;
		if (c == '%') {
			int high = target.end - target.at > 2 ? http_hex_digit(target.at[1]) : -1;
			int low = high >= 0 ? http_hex_digit(target.at[2]) : -1;

			if (low < 0 || (high == 0 && low == 0))
				return 400;
			c = (char)(high << 4 | low);
			target.at += 2;
		}
		if (n == 0 && c == '/')
			continue;
		if (n == HTTP_PATH_MAX - 1)
			return 414;
		path[n++] = c;
	}
	path[n] = '\0';
	return http_climbs(path) ? 403 : 0;
}

/* bytes=FIRST-LAST, bytes=FIRST- or bytes=-COUNT.  The answer to anything else, several ranges included, is the whole
 * file, as the standard allows. */
static inline void http_take_range(struct http_text text, struct http_request *request)
{
	struct http_text unit;
	uint64_t first = 0, last = UINT64_MAX;
	bool from;

	request->range = HTTP_ALL;
	if (!http_cut(&text, '=', &unit) || !http_is(unit, "bytes"))
		return;
	from = http_number(&text, &first);
	if (text.at == text.end || *text.at++ != '-')
		return;
	if (text.at == text.end ? !from : !http_number(&text, &last) || text.at != text.end)
		return;
	if (from && last < first)
		return;
	request->range = from ? HTTP_FROM : HTTP_LAST;
	request->first = first;
	request->last = last;
}

/* False: the request has a body, which is not supported. */
static inline bool http_take_field(struct http_text name, struct http_text value, struct http_request *request)
{
	uint64_t length;

	if (http_is(name, "Connection"))
		request->keep_alive = !http_is(value, "close") && (request->keep_alive || http_is(value, "keep-alive"));
	else if (http_is(name, "Range") && !request->head_only)
		http_take_range(value, request);
	else if (http_is(name, "Content-Length"))
		return http_number(&value, &length) && length == 0 && value.at == value.end;
	return !http_is(name, "Transfer-Encoding");
}

/* The method, the target and the version. */
static inline int http_take_first_line(struct http_text line, struct http_request *request)
{
	struct http_text method, target;

	if (!http_cut(&line, ' ', &method) || !http_cut(&line, ' ', &target) || !http_is_token(method))
		return 400;
	if (line.end - line.at != 8 || memcmp(line.at, "HTTP/1.", 7) != 0 || line.at[7] < '0' || line.at[7] > '9')
		return 400;
	request->keep_alive = line.at[7] != '0';
	request->head_only = method.end - method.at == 4 && memcmp(method.at, "HEAD", 4) == 0;
	if (!request->head_only && memcmp(method.at, "GET ", 4) != 0)
		return 405;
	return http_take_path(target, request->path);
}

/* Removes the next line.  False: no line, or it has invalid characters. */
static inline bool http_cut_line(struct http_text *rest, struct http_text *line)
{
	if (!http_cut(rest, '\r', line) || rest->at == rest->end || *rest->at++ != '\n')
		return false;
	for (const char *c = line->at; c < line->end; c++)
		if (((unsigned char)*c < ' ' && *c != '\t') || *c == 127)
			return false;
	return true;
}

static inline int http_take_lines(struct http_text head, struct http_request *request)
{
	struct http_text line, name;
	bool if_range = false;
	int status;

	if (!http_cut_line(&head, &line))
		return 400;
	status = http_take_first_line(line, request);
	if (status != 0 && status != 403)
		return status;
	for (;;) {
		if (!http_cut_line(&head, &line))
			return 400;
		if (line.at == line.end)
			break;
		if (!http_cut(&line, ':', &name) || !http_is_token(name) ||
		    !http_take_field(name, http_trim(line), request))
			return 400;
		if_range = if_range || http_is(name, "If-Range");
	}
	/* Answers have no validator, so that no condition can match. */
	if (if_range)
		request->range = HTTP_ALL;
	return status;
}

/* input is a request's head, with the length of http_head_length().  Returns 0 or the status of the answer. */
static inline int http_parse(const char *input, size_t length, struct http_request *request)
{
	int status;

	request->head_only = request->keep_alive = false;
	request->range = HTTP_ALL;
	status = http_take_lines((struct http_text){ input, input + length }, request);
	if (status != 0 && status != 403)
		request->keep_alive = false;
	return status;
}

/* Selects the part of a file of that size for the answer.  Returns the status. */
static inline int http_select(const struct http_request *request, uint64_t size, uint64_t *offset, uint64_t *length)
{
	uint64_t first = request->first, last = request->last;
	bool suffix = request->range == HTTP_LAST;

	*offset = 0;
	*length = size;
	/* The last bytes of an empty file are none, which cannot be written as a range. */
	if (request->range == HTTP_ALL || (suffix && last > 0 && size == 0))
		return 200;
	if (suffix) {
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

static inline const char *http_reason(int status)
{
	switch (status) {
	case 200: return "OK";
	case 206: return "Partial Content";
	case 400: return "Bad Request";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 414: return "URI Too Long";
	case 416: return "Range Not Satisfiable";
	case 431: return "Request Header Fields Too Large";
	default: return "Internal Server Error";
	}
}

/* Writes the head of an answer with a range of a file, or without a body.  Returns its length. */
static inline size_t http_write_head(char out[HTTP_ANSWER_MAX], int status, bool keep_alive, uint64_t offset,
				     uint64_t length, uint64_t size)
{
	char range[96] = "";

	if (status == 206)
		snprintf(range, sizeof(range), "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n", offset,
			 offset + length - 1, size);
	else if (status == 416)
		snprintf(range, sizeof(range), "Content-Range: bytes */%" PRIu64 "\r\n", size);
	return (size_t)snprintf(out, HTTP_ANSWER_MAX,
				"HTTP/1.1 %d %s\r\nContent-Type: application/octet-stream\r\n"
				"Content-Length: %" PRIu64 "\r\n%s%sConnection: %s\r\n\r\n",
				status, http_reason(status), length, range, status == 405 ? "Allow: GET, HEAD\r\n" : "",
				keep_alive ? "keep-alive" : "close");
}

#endif
