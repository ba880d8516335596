/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * c-examples/http.h: what it makes of requests, right and wrong ones, and that none of them harms it: random bytes, and
 * mutations of real requests.  To be built with -fsanitize=address,undefined.
 *
 *	http [ROUNDS [SEED]]
 */
#define _GNU_SOURCE
#include "http.h"

static unsigned failures;
static char directory[] = "/tmp/snapsend-http.XXXXXX"; /* has a file a of 1,000 bytes, and one that is empty */
static int root;

#define CHECK(condition, text)                                                   \
	do {                                                                     \
		if (!(condition)) {                                              \
			printf("line %d: %s: %s\n", __LINE__, #condition, text); \
			failures++;                                              \
		}                                                                \
	} while (0)

/* The status of the first answer to that input; 0: the request is incomplete. */
static int take(const char *text, size_t length, struct http_answer *answer)
{
	struct http_input *input = calloc(1, sizeof(*input));
	int status = 0;

	if (input == NULL || length > sizeof(input->bytes))
		abort();
	memcpy(input->bytes, text, length);
	input->length = length;
	if (http_take(input, root, answer)) {
		CHECK(input->length < length, "the request is removed");
		CHECK(memcmp(input->bytes, text + length - input->length, input->length) == 0, "the rest stays");
		CHECK(answer->head_length < sizeof(answer->head), "the head");
		CHECK(sscanf(answer->head, "HTTP/1.1 %d ", &status) == 1, answer->head);
		CHECK((answer->file_fd >= 0) == (answer->length > 0), "a body has a file");
		if (answer->file_fd >= 0)
			close(answer->file_fd);
	}
	free(input);
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
	{ "GET /a/b.c?d=/../e HTTP/1.1", 0, "a/b.c", false, true },
	{ "GET ///a//b HTTP/1.1", 0, "a//b", false, true },
	{ "GET /%2e%2e/\xc3\xa4 HTTP/1.1", 0, "%2e%2e/\xc3\xa4", false, true },
	{ "GET /a..b/c.. HTTP/1.1", 0, "a..b/c..", false, true },
	{ "GET /../a HTTP/1.1", 403, NULL, false, true },
	{ "GET /a/.. HTTP/1.1", 403, NULL, false, true },
	{ "GET a HTTP/1.1", 400, NULL, false, false },
	{ "GET * HTTP/1.1", 400, NULL, false, false },
	{ "GET http://host/a HTTP/1.1", 400, NULL, false, false },
	{ "GET  / HTTP/1.1", 400, NULL, false, false },
	{ "GET / HTTP/1.1 ", 400, NULL, false, false },
	{ " GET / HTTP/1.1", 400, NULL, false, false },
	{ "GET / HTTP/2.0", 400, NULL, false, false },
	{ "GET / HTTP/1.x", 400, NULL, false, false },
	{ "GET / http/1.1", 400, NULL, false, false },
	{ "GET /", 400, NULL, false, false },
	{ "GET ", 400, NULL, false, false },
	{ "GET", 400, NULL, false, false },
	{ " ", 400, NULL, false, false },
	{ "", 400, NULL, false, false },
	{ "get / HTTP/1.1", 405, NULL, false, true },
	{ "POST / HTTP/1.1", 405, NULL, false, true },
	{ "GETS / HTTP/1.1", 405, NULL, false, true },
};

static void check_first_lines(void)
{
	for (size_t i = 0; i < sizeof(first_lines) / sizeof(first_lines[0]); i++) {
		struct http_request request = { 0 };
		char *text = strdup(first_lines[i].line); /* so that reading past the end is noticed */

		if (text == NULL)
			abort();
		CHECK(http_parse(text, &request) == first_lines[i].status, first_lines[i].line);
		CHECK(request.keep_alive == first_lines[i].keep_alive, first_lines[i].line);
		CHECK(request.head_only == first_lines[i].head_only, first_lines[i].line);
		CHECK(first_lines[i].path == NULL || strcmp(request.path, first_lines[i].path) == 0,
		      first_lines[i].line);
		free(text);
	}
}

/* ---- fields -------------------------------------------------------------------------------- */

/* Of the file a. */
static const struct {
	const char *fields; /* each with its CR and LF */
	int status;
	bool keep_alive;
	uint64_t offset, length;
} fields[] = {
	{ "", 200, true, 0, 1000 },
	{ "Connection: close\r\n", 200, false, 0, 1000 },
	{ "connection:\tCLOSE \r\n", 200, false, 0, 1000 },
	{ "Connection: close\r\nConnection: keep-alive\r\n", 200, false, 0, 1000 },
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
	{ "A: b\nContent-Length: 1\r\n", 400, false, 0, 0 },
	{ "A: b\rContent-Length: 1\r\n", 400, false, 0, 0 },
};

static void check_fields(void)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		struct http_answer answer;
		char text[256];
		int length = snprintf(text, sizeof(text), "GET /a HTTP/1.1\r\nHost: b\r\n%s\r\n", fields[i].fields);

		CHECK(take(text, (size_t)length, &answer) == fields[i].status, text);
		CHECK(answer.keep_alive == fields[i].keep_alive, text);
		CHECK(answer.offset == fields[i].offset && answer.length == fields[i].length, text);
	}
}

static int status_of(const char *text)
{
	struct http_answer answer;

	return take(text, strlen(text), &answer);
}

static void check_edges(void)
{
	struct http_answer answer;

	CHECK(status_of("") == 0, "nothing");
	CHECK(status_of("GET / HTTP/1.1\r\n\r") == 0, "a byte is missing");
	CHECK(status_of("\r\n\r\n") == 400, "an empty request");
	CHECK(status_of("GET /a HTTP/1.1\r\n\r\nPOST") == 200, "the first of two");
	CHECK(status_of("GET /b HTTP/1.1\r\n\r\n") == 404, "no such file");
	CHECK(status_of("GET / HTTP/1.1\r\n\r\n") == 404, "no file");
	CHECK(status_of("GET /. HTTP/1.1\r\n\r\n") == 404, "a folder");
	CHECK(status_of("GET /empty HTTP/1.1\r\nRange: bytes=-5\r\n\r\n") == 200, "a suffix of an empty file");
	CHECK(status_of("GET /empty HTTP/1.1\r\nRange: bytes=0-\r\n\r\n") == 416, "a range of an empty file");
	CHECK(take("GET /a HTTP/1.1\r\n\0Content-Length: 1\r\n\r\n", 39, &answer) == 400, "a zero byte");
	CHECK(take("HEAD /a HTTP/1.1\r\nRange: bytes=0-1\r\n\r\n", 38, &answer) == 200, "HEAD");
	CHECK(answer.file_fd < 0 && strstr(answer.head, "Content-Length: 1000\r\n") != NULL, answer.head);
	answer = (struct http_answer){ .offset = INT64_MAX - 10, .length = 9, .st.st_size = INT64_MAX };
	http_write_head(&answer, 206);
	CHECK(answer.head_length < HTTP_ANSWER_MAX, "the longest head");
	answer.length = UINT64_MAX;
	CHECK(http_timeout_ms(&answer) == UINT32_MAX, "the longest time");
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
	static const int known[] = { 0, 200, 206, 400, 403, 404, 405, 416 };
	struct http_answer answer = { .keep_alive = false };
	char text[1024];
	int status = take(text, make_input(text, sizeof(text)), &answer);
	bool is_known = false;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		is_known = is_known || status == known[i];
	CHECK(is_known, "an unknown status");
	if (status == 400 || status == 403 || status == 405)
		CHECK(!answer.keep_alive, "the next request cannot be found");
	if (status == 200 || status == 206)
		CHECK(answer.offset <= 1000 && answer.length <= 1000 - answer.offset, "inside the file");
}

/* Ranges of files of all sizes. */
static void try_range(void)
{
	static const char *const parts[] = { "bytes=", "Bytes=", "0", "1", "9",
					     "-",      "-",      ",", " ", "99999999999999999999" };
	uint64_t size = random_below(4) == 0 ? random_below(3) : (uint64_t)INT64_MAX >> random_below(63);
	uint64_t offset, length;
	char text[64] = "bytes=", *range;
	size_t end = random_below(16) == 0 ? 0 : 6;
	int status;

	for (uint64_t n = random_below(8); n > 0; n--)
		end = append(text, end, sizeof(text) - 1, parts[random_below(sizeof(parts) / sizeof(parts[0]))]);
	text[end] = '\0';
	range = strdup(text);
	if (range == NULL)
		abort();
	status = http_select(range, size, &offset, &length);
	CHECK(status == 200 || status == 206 || status == 416, text);
	CHECK(offset <= size && length <= size - offset, text);
	CHECK((length == 0) == (status == 416 || size == 0), text);
	CHECK(status != 200 || length == size, text);
	free(range);
}

static void make_files(void)
{
	int fd;

	if (mkdtemp(directory) == NULL)
		abort();
	root = open(directory, O_RDONLY | O_DIRECTORY);
	fd = openat(root, "a", O_WRONLY | O_CREAT, 0600);
	if (root < 0 || fd < 0 || ftruncate(fd, 1000) < 0)
		abort();
	close(fd);
	close(openat(root, "empty", O_WRONLY | O_CREAT, 0600));
}

static void remove_files(void)
{
	unlinkat(root, "a", 0);
	unlinkat(root, "empty", 0);
	rmdir(directory);
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 300000;

	state = argc > 2 ? strtoul(argv[2], NULL, 10) | 1 : 88172645463325252u;
	make_files();
	check_first_lines();
	check_fields();
	check_edges();
	for (unsigned long i = 0; i < rounds && failures == 0; i++) {
		try_anything();
		try_range();
	}
	CHECK(dup(root) == root + 1, "all files are closed");
	remove_files();
	printf("%lu random requests, %u failures\n", rounds, failures);
	return failures == 0 ? 0 : 1;
}
