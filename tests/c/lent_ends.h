/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Operations that have lent pages of the file to sockets whose peers do not read, and the ways in which they end early.
 * Each way has a context of its own, so that all of them wait at the same time.
 */
#ifndef SNAPSEND_TESTS_LENT_ENDS_H
#define SNAPSEND_TESTS_LENT_ENDS_H

#include "lent.h"

#define SHORT   (256 * KIB) /* fits into the socket */
#define LONG    (4 * MIB)   /* does not */
#define QUEUED  3           /* operations on one socket */
#define LINES   8           /* sockets of a context */
#define TIMEOUT 1000        /* ms: all are on their way by then */
#define NUMBERS 1024        /* no descriptor has a higher one */

#define FILE_LENGTH (LONG + MIB)

enum end { CANCEL, CANCEL_SOCKET, TIME_OUT, DEAD, DESTROY, PEER_CLOSE, PEER_RESET, ENDS };
static const char *const end_name[ENDS] = { "cancel",  "cancel_socket", "timeout_ms",   "dead context",
					    "destroy", "close of peer", "reset by peer" };

/* Variants of what is on a socket, to be combined. */
enum { WHOLE = 0, PART = 1, BEHIND = 2, REGISTERED = 4 };

/* The operations on one connection. */
struct line {
	int variant, sv[2];
	uint64_t ids[QUEUED], offsets[QUEUED];
	uint64_t sent; /* bytes in the socket, of all of them */
	size_t count;
	struct snapsend_completion done[QUEUED];
};

/* What ends in one way. */
struct ending {
	enum end how;
	snapsend_t *ctx;
	bool own[NUMBERS]; /* descriptors of the context */
	size_t count;      /* of lines */
	struct line lines[LINES];
};

static struct network net;
static unsigned char *image;
static int file;

static inline void ends_set_up(void)
{
	lending_network(&net);
	file = temp_file(FILE_LENGTH, 91);
	image = image_of(0, FILE_LENGTH, 91);
}

static inline void line_begin(struct ending *e, struct line *line, uint64_t part)
{
	static const uint64_t offsets[QUEUED] = { 0, 4097, 12345 };
	line->count = line->variant & BEHIND ? QUEUED : 1;
	connect_over(&net, PATH_VETH, 16 * KIB, line->sv);
	buffer_of(line->sv[0], line->variant & PART ? part : 512 * KIB);
	struct snapsend_request request = lend_request(line->sv[0], file, 0, 0);
	if (line->variant & REGISTERED)
		request = registered(e->ctx, request);
	for (size_t i = 0; i < line->count; i++) {
		line->offsets[i] = request.offset = offsets[i];
		request.length = line->variant & PART || i == 1 ? LONG : SHORT;
		request.timeout_ms = i == 0 && e->how == TIME_OUT ? TIMEOUT * (uint32_t)slowness() : 0;
		line->ids[i] = submit_ok(e->ctx, &request);
	}
}

static inline void open_numbers(bool numbers[NUMBERS])
{
	for (int fd = 0; fd < NUMBERS; fd++)
		numbers[fd] = fcntl(fd, F_GETFD) >= 0;
}

/* Begins with so many of the variants. Where a part is in the socket, its buffer has that size. */
static inline void ending_begin(struct ending *e, enum end how, const int *variants, size_t count, uint64_t part)
{
	bool before[NUMBERS];
	open_numbers(before);
	e->how = how;
	e->ctx = create_ctx();
	e->count = count;
	open_numbers(e->own);
	for (int fd = 0; fd < NUMBERS; fd++)
		e->own[fd] = e->own[fd] && !before[fd];
	acquaint(e->ctx, file);
	for (size_t i = 0; i < count; i++) {
		e->lines[i].variant = variants[i];
		line_begin(e, &e->lines[i], part);
	}
}

/* Returns whether no socket has taken more since the last look. */
static inline bool are_settled(struct ending *endings, size_t count)
{
	bool settled = true;
	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < endings[i].count; k++) {
			struct line *line = &endings[i].lines[k];
			uint64_t before = line->sent;
			line->sent = in_transit(line->sv);
			settled &= line->sent == before;
		}
	}
	return settled;
}

/* Waits until each socket has all that it takes. */
static inline void settle(struct ending *endings, size_t count)
{
	for (int quiet = 0; quiet < 5; quiet++) {
		sleep_ms(10 * slowness());
		if (!are_settled(endings, count))
			quiet = -1;
	}
	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < endings[i].count; k++) {
			const struct line *line = &endings[i].lines[k];
			CHECK_UGE(line->sent, line->variant & PART ? 64 * KIB : SHORT);
			CHECK_ULE(line->sent, line->variant & (PART | BEHIND) ? LONG - 1 : SHORT);
		}
	}
}

static inline void line_end(struct ending *e, struct line *line)
{
	if (e->how == CANCEL)
		CHECK_EQ(snapsend_cancel(e->ctx, line->ids[0]), 0);
	if (e->how == CANCEL_SOCKET)
		CHECK_EQ(snapsend_cancel_socket(e->ctx, line->sv[0]), (int)line->count);
	if (e->how == PEER_CLOSE)
		close(line->sv[1]);
	if (e->how == PEER_RESET)
		reset_close(line->sv[1]);
}

/* Ends it, unless its time has come anyway. A context that is destroyed is gone. */
static inline void ending_end(struct ending *e)
{
	for (size_t i = 0; i < e->count; i++)
		line_end(e, &e->lines[i]);
	for (int fd = 0; e->how == DEAD && fd < NUMBERS; fd++)
		if (e->own[fd])
			close(fd);
	if (e->how == DESTROY)
		destroy_ctx(e->ctx);
}

/* Every operation has its DONE, except those of a context that is destroyed. */
static inline void ending_take(struct ending *e)
{
	for (size_t i = 0; e->how != DESTROY && i < e->count; i++)
		for (size_t k = 0; k < e->lines[i].count; k++)
			wait_done(e->ctx, e->lines[i].ids[k], &e->lines[i].done[k]);
}

static inline int status_of_end(enum end how)
{
	return how == TIME_OUT ? -ETIMEDOUT : how == DEAD ? -EBADF : -ECANCELED;
}

#endif
