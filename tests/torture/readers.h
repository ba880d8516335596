/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The receiving ends: what each connection must bring, byte for byte, and threads that read it fast, slowly,
 * with long pauses or through a tiny window.
 */
#ifndef SNAPSEND_TORTURE_READERS_H
#define SNAPSEND_TORTURE_READERS_H

#include "files.h"
#include "network.h"

#define READ_MAX (256 * KIB)

enum pace { FAST, SLOW, STALLING, TINY_WINDOW, PACES };

struct span {
	const unsigned char *data;
	size_t length;
};

struct connection {
	enum path path;
	enum pace pace;
	enum fs fs; /* of its files */
	int sv[2];
	int handle;           /* of the registered socket, 0: it is not registered */
	pthread_mutex_t lock; /* held over submit, too: what is expected stands in the order of submission */
	struct span *expected;
	size_t first, count, capacity; /* a ring */
	size_t into;                   /* bytes of the first span that have come */
	uint64_t expected_bytes, got;
	int64_t next_ms; /* not to be read before */
	bool ended;
};

static _Atomic uint64_t bytes_got[FSES], bytes_wrong[FSES];
static bool wrong_is_fatal;
static atomic_bool hurry; /* no pauses any more */

/* With the lock held. */
static inline void expect(struct connection *c, const unsigned char *data, size_t length)
{
	if (length == 0)
		return;
	if (c->count == c->capacity) {
		size_t capacity = c->capacity * 2 + 64;
		struct span *more = malloc(capacity * sizeof *more);
		CHECK(more != NULL);
		for (size_t i = 0; i < c->count; i++)
			more[i] = c->expected[(c->first + i) % c->capacity];
		free(c->expected);
		c->expected = more, c->first = 0, c->capacity = capacity;
	}
	c->expected[(c->first + c->count++) % c->capacity] = (struct span){ data, length };
	c->expected_bytes += length;
}

static inline void wrong(struct connection *c, const unsigned char *got, const unsigned char *want, size_t n)
{
	size_t different = count_different(got, want, n);
	if (wrong_is_fatal)
		fail("%zu of %zu bytes differ from what the file held: byte %" PRIu64
		     " of a connection over %s, file on %s",
		     different, n, c->got, path_name[c->path], fs_name[c->fs]);
	atomic_fetch_add(&bytes_wrong[c->fs], different);
}

static inline void check_bytes(struct connection *c, const unsigned char *data, size_t length)
{
	while (length > 0) {
		PTHREAD(pthread_mutex_lock(&c->lock));
		if (c->count == 0)
			fail("%zu bytes that nobody has sent, over %s", length, path_name[c->path]);
		struct span s = c->expected[c->first];
		PTHREAD(pthread_mutex_unlock(&c->lock));
		size_t n = s.length - c->into < length ? s.length - c->into : length;
		if (memcmp(data, s.data + c->into, n) != 0)
			wrong(c, data, s.data + c->into, n);
		data += n, length -= n, c->into += n, c->got += n;
		atomic_fetch_add(&bytes_got[c->fs], n);
		if (c->into == s.length) {
			PTHREAD(pthread_mutex_lock(&c->lock));
			c->first = (c->first + 1) % c->capacity, c->count--, c->into = 0;
			PTHREAD(pthread_mutex_unlock(&c->lock));
		}
	}
}

static inline void read_ended(struct connection *c)
{
	if (c->count != 0)
		fail("end of stream after %" PRIu64 " bytes of %" PRIu64 " over %s", c->got, c->expected_bytes,
		     path_name[c->path]);
	c->ended = true;
}

/* One read, and when the next one may be. */
static inline void read_some(struct connection *c, unsigned char block[READ_MAX])
{
	static const size_t steps[PACES] = { READ_MAX, 32 * KIB, READ_MAX, 4 * KIB };
	ssize_t n = recv(c->sv[1], block, hurry ? READ_MAX : steps[c->pace], MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		fail("recv over %s: %s", path_name[c->path], strerror(errno));
	if (n == 0) {
		read_ended(c);
		return;
	}
	check_bytes(c, block, (size_t)n);
	if (hurry)
		return;
	if (c->pace == SLOW)
		c->next_ms = now_ms() + 2;
	else if (c->pace == STALLING && one_in(8))
		c->next_ms = now_ms() + 50 + (int64_t)random_below(400);
}

struct readers {
	struct connection *connections;
	size_t from, to; /* which of them */
	pthread_t thread;
};

/* Those whose time has come, into set; how long the others sleep. */
static inline int collect(struct readers *r, struct pollfd *set, struct connection **of, size_t *count, size_t *open)
{
	int64_t now = now_ms(), wait = 100;
	*count = *open = 0;
	for (size_t i = r->from; i < r->to; i++) {
		struct connection *c = &r->connections[i];
		if (c->ended)
			continue;
		++*open;
		if (c->next_ms > now && !hurry) {
			wait = c->next_ms - now < wait ? c->next_ms - now : wait;
			continue;
		}
		of[*count] = c;
		set[(*count)++] = (struct pollfd){ .fd = c->sv[1], .events = POLLIN };
	}
	return (int)wait;
}

static inline void widen(struct connection *c)
{
	int bytes = 1 << 20;
	if (c->pace == TINY_WINDOW)
		SYS(setsockopt(c->sv[1], SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes));
}

static inline void *readers_main(void *argument)
{
	struct readers *r = argument;
	size_t room = r->to - r->from, count, open;
	struct pollfd *set = calloc(room, sizeof *set);
	struct connection **of = calloc(room, sizeof(struct connection *));
	unsigned char *block = malloc(READ_MAX);
	bool wide = false;
	CHECK(set != NULL && of != NULL && block != NULL);
	random_state = r->from + 77;
	for (;;) {
		int wait = collect(r, set, of, &count, &open);
		if (open == 0)
			break;
		if (hurry && !wide) {
			for (size_t i = r->from; i < r->to; i++)
				widen(&r->connections[i]);
			wide = true;
		}
		SYS(poll(set, count, wait));
		for (size_t i = 0; i < count; i++)
			if (set[i].revents != 0)
				read_some(of[i], block);
	}
	free(set);
	free(of);
	free(block);
	return NULL;
}

#endif
