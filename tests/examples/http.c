/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * c-examples/http.h: what it makes of requests, right and wrong ones, and that none of them harms it: random bytes, and
 * mutations of real requests.  To be built with -fsanitize=address,undefined.
 *
 *	http [ROUNDS [SEED]]
 */
#include "http.h"

#include <stdlib.h>

static unsigned failures;

#define CHECK(condition, text)                                                   \
	do {                                                                     \
		if (!(condition)) {                                              \
			printf("line %d: %s: %s\n", __LINE__, #condition, text); \
			failures++;                                              \
		}                                                                \
	} while (0)

/* Parses from memory of just that size, so that reading past the end is noticed. */
static int parse(const char *text, size_t length, struct http_request *request)
{
	char *exact = malloc(length > 0 ? length : 1);
	int status = -1;
	size_t head;

	if (exact == NULL)
		abort();
	memcpy(exact, text, length);
	head = http_head_length(exact, length);
	if (head > length)
		abort();
	if (head > 0)
		status = http_parse(exact, head, request);
	free(exact);
	return status;
}

/* ---- the first line ------------------------------------------------------------------------ */

static const struct {
	const char *line;
	int status;
	const char *path; /* NULL: not looked at */
	bool head_only, keep_alive;
} first_lines[] = {
	{ "GET / HTTP/1.1", 0, "", false, true },
	{ "GET / HTTP/1.0", 0, "", false, false },
	{ "HEAD /a HTTP/1.1", 0, "a", true, true },
	{ "GET /a/b.c?d=/e HTTP/1.1", 0, "a/b.c", false, true },
	{ "GET ///a//b HTTP/1.1", 0, "a//b", false, true },
	{ "GET /%41%2fb%20%c3%A4 HTTP/1.1", 0, "A/b \xc3\xa4", false, true },
	{ "GET /%2f%2Fetc/passwd HTTP/1.1", 0, "etc/passwd", false, true },
	{ "GET http://host:80/a HTTP/1.1", 0, "a", false, true },
	{ "GET /..a/b.. HTTP/1.1", 0, "..a/b..", false, true },
	{ "GET /../a HTTP/1.1", 403, NULL, false, true },
	{ "GET /a/%2e%2E HTTP/1.1", 403, NULL, false, true },
	{ "GET /a/..%2fb HTTP/1.1", 403, NULL, false, true },
	{ "GET /a%00 HTTP/1.1", 400, NULL, false, false },
	{ "GET /a% HTTP/1.1", 400, NULL, false, false },
	{ "GET /a%4 HTTP/1.1", 400, NULL, false, false },
	{ "GET /a%4g HTTP/1.1", 400, NULL, false, false },
	{ "GET /a\tb HTTP/1.1", 400, NULL, false, false },
	{ "GET a HTTP/1.1", 400, NULL, false, false },
	{ "GET * HTTP/1.1", 400, NULL, false, false },
	{ "GET http://host HTTP/1.1", 400, NULL, false, false },
	{ "GET  / HTTP/1.1", 400, NULL, false, false },
	{ "GET / HTTP/1.1 ", 400, NULL, false, false },
	{ " GET / HTTP/1.1", 400, NULL, false, false },
	{ "GET / HTTP/2.0", 400, NULL, false, false },
	{ "GET / HTTP/1.x", 400, NULL, false, false },
	{ "GET / http/1.1", 400, NULL, false, false },
	{ "GET /", 400, NULL, false, false },
	{ "GET", 400, NULL, false, false },
	{ "", 400, NULL, false, false },
	{ "G(T / HTTP/1.1", 400, NULL, false, false },
	{ "get / HTTP/1.1", 405, NULL, false, false },
	{ "POST / HTTP/1.1", 405, NULL, false, false },
	{ "GETS / HTTP/1.1", 405, NULL, false, false },
};

static void check_first_lines(void)
{
	for (size_t i = 0; i < sizeof(first_lines) / sizeof(first_lines[0]); i++) {
		struct http_request request;
		char text[256];
		int length = snprintf(text, sizeof(text), "%s\r\nHost: a\r\n\r\n", first_lines[i].line);

		CHECK(parse(text, (size_t)length, &request) == first_lines[i].status, text);
		CHECK(request.keep_alive == first_lines[i].keep_alive, text);
		CHECK(request.head_only == first_lines[i].head_only, text);
		CHECK(first_lines[i].path == NULL || strcmp(request.path, first_lines[i].path) == 0, text);
	}
}

/* ---- fields -------------------------------------------------------------------------------- */

/* Of a file of 1,000 bytes. */
static const struct {
	const char *fields; /* each with its CR and LF */
	int status;
	bool keep_alive;
	uint64_t offset, length;
} fields[] = {
	{ "", 200, true, 0, 1000 },
	{ "Connection: close\r\n", 200, false, 0, 1000 },
	{ "connection:\tCLOSE \r\n", 200, false, 0, 1000 },
	{ "Connection: keep-alive\r\n", 200, true, 0, 1000 },
	{ "Content-Length: 0\r\n", 200, true, 0, 1000 },
	{ "X: \xff\xfe, (anything) \"goes\"\r\n", 200, true, 0, 1000 },
	{ "Empty:\r\n", 200, true, 0, 1000 },
	{ "Range: bytes=0-0\r\n", 206, true, 0, 1 },
	{ "Range: BYTES=10-19\r\n", 206, true, 10, 10 },
	{ "Range: bytes=10-\r\n", 206, true, 10, 990 },
	{ "Range: bytes=990-2000\r\n", 206, true, 990, 10 },
	{ "Range: bytes=-10\r\n", 206, true, 990, 10 },
	{ "Range: bytes=-2000\r\n", 206, true, 0, 1000 },
	{ "Range: bytes=999-99999999999999999999999999\r\n", 206, true, 999, 1 },
	{ "Range: bytes=1000-\r\n", 416, true, 0, 0 },
	{ "Range: bytes=99999999999999999999999999-\r\n", 416, true, 0, 0 },
	{ "Range: bytes=-0\r\n", 416, true, 0, 0 },
	{ "Range: bytes=5-4\r\n", 200, true, 0, 1000 },
	{ "Range: bytes=-\r\n", 200, true, 0, 1000 },
	{ "Range: bytes=\r\n", 200, true, 0, 1000 },
	{ "Range: bytes=1-2,4-5\r\n", 200, true, 0, 1000 },
	{ "Range: bytes=--5\r\n", 200, true, 0, 1000 },
	{ "Range: bytes=1-2x\r\n", 200, true, 0, 1000 },
	{ "Range: lines=1-2\r\n", 200, true, 0, 1000 },
	{ "Range: bytes=1-2\r\nIf-Range: \"a\"\r\n", 200, true, 0, 1000 },
	{ "Content-Length: 1\r\n", 400, false, 0, 0 },
	{ "Content-Length: x\r\n", 400, false, 0, 0 },
	{ "Content-Length: 0 0\r\n", 400, false, 0, 0 },
	{ "Content-Length:\r\n", 400, false, 0, 0 },
	{ "Transfer-Encoding: chunked\r\n", 400, false, 0, 0 },
	{ "No colon\r\n", 400, false, 0, 0 },
	{ "Space : a\r\n", 400, false, 0, 0 },
	{ ": a\r\n", 400, false, 0, 0 },
	{ "A: b\r\n folded\r\n", 400, false, 0, 0 },
	{ "A: b\nC: d\r\n", 400, false, 0, 0 },
	{ "A: b\rC: d\r\n", 400, false, 0, 0 },
	{ "A: \x01\r\n", 400, false, 0, 0 },
	{ "A: \x7f\r\n", 400, false, 0, 0 },
};

static void check_fields(void)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		struct http_request request;
		uint64_t offset = 0, count = 0;
		char text[256];
		int length = snprintf(text, sizeof(text), "GET /a HTTP/1.1\r\nHost: b\r\n%s\r\n", fields[i].fields);
		int status = parse(text, (size_t)length, &request);

		if (status == 0)
			status = http_select(&request, 1000, &offset, &count);
		CHECK(status == fields[i].status, text);
		CHECK(request.keep_alive == fields[i].keep_alive, text);
		CHECK(offset == fields[i].offset && count == fields[i].length, text);
	}
}

static void check_edges(void)
{
	struct http_request request;
	static char text[HTTP_HEAD_MAX];
	uint64_t offset, length;
	int n;

	CHECK(http_head_length("", 0) == 0, "");
	CHECK(http_head_length("GET / HTTP/1.1\r\n\r", 17) == 0, "a byte is missing");
	CHECK(http_head_length("a\r\n\r\nb\r\n\r\n", 10) == 5, "the first of two");
	CHECK(parse("GET /\0 HTTP/1.1\r\n\r\n", 19, &request) == 400, "a zero byte");
	CHECK(parse("HEAD / HTTP/1.1\r\nRange: bytes=0-1\r\n\r\n", 37, &request) == 0 && request.range == HTTP_ALL,
	      "HEAD");
	CHECK(parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 42, &request) == 0 && request.keep_alive,
	      "HTTP/1.0");
	CHECK(parse("GET /.. HTTP/1.1\r\nConnection: close\r\n\r\n", 39, &request) == 403 && !request.keep_alive,
	      "403");
	for (int extra = -1; extra <= 1; extra++) {
		n = snprintf(text, sizeof(text), "GET /%0*d HTTP/1.1\r\n\r\n", (int)HTTP_PATH_MAX - 1 + extra, 0);
		CHECK(parse(text, (size_t)n, &request) == (extra > 0 ? 414 : 0), "a long path");
	}
	CHECK(parse("GET / HTTP/1.1\r\nRange: bytes=-5\r\n\r\n", 35, &request) == 0, "a suffix");
	CHECK(http_select(&request, 0, &offset, &length) == 200 && length == 0, "of an empty file");
	CHECK(http_select(&request, 5, &offset, &length) == 206 && offset == 0 && length == 5, "of a whole file");
	CHECK(http_write_head(text, 206, true, UINT64_MAX - 9, 9, UINT64_MAX) < HTTP_ANSWER_MAX, "the longest head");
}

/* ---- anything at all ----------------------------------------------------------------------- */

static uint64_t state;

static uint64_t random_below(uint64_t bound)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % bound;
}

static const char *const pieces[] = {
	"GET ",
	"HEAD ",
	"POST ",
	"/",
	"/a/b",
	"..",
	"%2e",
	"%00",
	"%",
	"?",
	"http://",
	" HTTP/1.1",
	" HTTP/1.0",
	"\r\n",
	"\r\n\r\n",
	"\r",
	"\n",
	"\t",
	" ",
	":",
	"Range: bytes=",
	"0-",
	"-5",
	"18446744073709551615",
	"18446744073709551616",
	",",
	"Connection: ",
	"close",
	"keep-alive",
	"Content-Length: ",
	"0",
	"Transfer-Encoding: chunked",
	"If-Range: a",
	"Host: a",
};

static size_t append(char *text, size_t length, size_t room, const char *piece)
{
	size_t n = strlen(piece);

	if (n > room - length)
		return length;
	memcpy(text + length, piece, n);
	return length + n;
}

/* A right request most of the time, then some bytes of it changed; or any pieces in any order; or any bytes. */
static size_t make_input(char *text, size_t room)
{
	uint64_t kind = random_below(8);
	size_t length = 0;

	if (kind == 0) {
		for (length = 0; length < 64 + random_below(64); length++)
			text[length] = (char)random_below(256);
	} else if (kind < 4) {
		for (uint64_t n = random_below(24); n > 0; n--)
			length = append(text, length, room, pieces[random_below(sizeof(pieces) / sizeof(pieces[0]))]);
	} else {
		length = append(text, length, room,
				first_lines[random_below(sizeof(first_lines) / sizeof(first_lines[0]))].line);
		length = append(text, length, room, "\r\n");
		for (uint64_t n = random_below(4); n > 0; n--)
			length = append(text, length, room,
					fields[random_below(sizeof(fields) / sizeof(fields[0]))].fields);
	}
	length = append(text, length, room, "\r\n\r\n");
	for (uint64_t n = kind > 4 ? random_below(4) : 0; n > 0; n--)
		text[random_below(length)] = (char)random_below(256);
	return length;
}

static void try_anything(void)
{
	static const int known[] = { -1, 0, 400, 403, 405, 414 };
	struct http_request request;
	char text[1024], head[HTTP_ANSWER_MAX];
	uint64_t size = random_below(4) == 0 ? random_below(3) : state >> random_below(64), offset, length;
	int status = parse(text, make_input(text, sizeof(text)), &request), answer;
	bool is_known = false;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		is_known = is_known || status == known[i];
	CHECK(is_known, "an unknown status");
	if (status > 0)
		CHECK(status == 403 || !request.keep_alive, "the next request cannot be found");
	if (status != 0)
		return;
	CHECK(memchr(request.path, '\0', sizeof(request.path)) != NULL && request.path[0] != '/', request.path);
	CHECK(strcmp(request.path, "..") != 0 && strncmp(request.path, "../", 3) != 0 &&
		      strstr(request.path, "/../") == NULL,
	      request.path);
	answer = http_select(&request, size, &offset, &length);
	CHECK(answer == 200 || answer == 206 || answer == 416, "the status");
	CHECK(offset <= size && length <= size - offset, "inside the file");
	CHECK(http_write_head(head, answer, request.keep_alive, offset, length, size) < sizeof(head), "the head");
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 300000;

	state = argc > 2 ? strtoul(argv[2], NULL, 10) | 1 : 88172645463325252u;
	check_first_lines();
	check_fields();
	check_edges();
	for (unsigned long i = 0; i < rounds && failures == 0; i++)
		try_anything();
	printf("%lu random requests, %u failures\n", rounds, failures);
	return failures == 0 ? 0 : 1;
}
