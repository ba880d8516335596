/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "classic.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/errqueue.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAP_WINDOW MIB
#define SENT_MAX   256u        /* zero-copy sends of a connection that the kernel has not reported */
#define SENT_REAP  8u          /* from here on looked for without being told */
#define PINNED_MAX (256 * MIB) /* buffers held for zero-copy, past which copies are sent */

static struct classic {
	const struct setup *setup;
	struct shared *shared;
	size_t chunk, pipe_size;
	struct buffer *free_buffers;
	uint64_t buffers_size;
	int (*pipes)[2]; /* free ones, as a stack: the last used is the warmest */
	unsigned pipe_count;
} classic;

static int broken(const char *call)
{
	if (errno == EAGAIN)
		return BLOCKED;
	if (!atomic_load(&classic.shared->stopping))
		fail(classic.shared, "server: %s: %s", call, strerror(errno));
	return BROKEN;
}

static void ended_early(const struct connection *c)
{
	fail(classic.shared, "server: the file ended early, at %" PRIu64, c->offset);
}

/* ---- buffers, for pread and zerocopy ------------------------------------------------------- */

struct buffer {
	struct buffer *next;
	unsigned sends; /* zero-copy sends that the kernel has not reported */
	bool finished;  /* nothing of it is left to send */
	char *bytes;
};

/* The last one given back comes first: it is the one still in the processor's cache. */
static struct buffer *get_buffer(void)
{
	struct buffer *b = classic.free_buffers;

	if (b != NULL) {
		classic.free_buffers = b->next;
	} else {
		b = calloc(1, sizeof(*b));
		if (b == NULL || posix_memalign((void **)&b->bytes, PAGE, classic.chunk + PAGE) != 0)
			fail(classic.shared, "server: no memory");
		classic.buffers_size += classic.chunk;
	}
	b->finished = false;
	return b;
}

static void put_buffer(struct buffer *b)
{
	b->next = classic.free_buffers;
	classic.free_buffers = b;
}

/* Header and data share a buffer: then one send does for a small answer.  The data starts on a page. */
static void fill_buffer(struct connection *c)
{
	struct buffer *b = get_buffer();
	size_t length = (size_t)smaller(c->left, classic.chunk);
	ssize_t n;

	c->from = PAGE - c->header_left;
	memcpy(b->bytes + c->from, (char *)&c->header + sizeof(c->header) - c->header_left, c->header_left);
	c->header_left = 0;
	n = pread(c->file_fd, b->bytes + PAGE, length, (off_t)c->offset);
	if (n <= 0)
		ended_early(c);
	c->until = PAGE + (size_t)n;
	c->offset += (uint64_t)n;
	c->left -= (uint64_t)n;
	c->buffer = b;
}

static int more(const struct connection *c)
{
	return MSG_NOSIGNAL | (c->left > 0 && classic.setup->workload != BULK ? MSG_MORE : 0);
}

static int push_pread(struct connection *c)
{
	for (;;) {
		ssize_t n;

		if (c->buffer == NULL) {
			if (c->left == 0)
				return DONE;
			fill_buffer(c);
		}
		n = send(c->fd, c->buffer->bytes + c->from, c->until - c->from, more(c));
		if (n < 0)
			return broken("send");
		c->from += (size_t)n;
		if (c->from == c->until) {
			put_buffer(c->buffer);
			c->buffer = NULL;
		}
	}
}

/* ---- MSG_ZEROCOPY -------------------------------------------------------------------------- */

static void sent_reported(struct connection *c, uint32_t first, uint32_t last)
{
	for (uint32_t id = first; id != last + 1; id++) {
		struct buffer **slot = &c->sent[id % SENT_MAX], *b = *slot;

		*slot = NULL;
		if (b != NULL && --b->sends == 0 && b->finished)
			put_buffer(b);
	}
	while (c->sent_first != c->sent_next && c->sent[c->sent_first % SENT_MAX] == NULL)
		c->sent_first++;
}

static void reap(struct connection *c)
{
	char control[256];

	while (c->sent_first != c->sent_next) {
		struct msghdr message = { .msg_control = control, .msg_controllen = sizeof(control) };
		struct cmsghdr *part;

		if (recvmsg(c->fd, &message, MSG_ERRQUEUE) < 0)
			return;
		for (part = CMSG_FIRSTHDR(&message); part != NULL; part = CMSG_NXTHDR(&message, part)) {
			struct sock_extended_err error;

			memcpy(&error, CMSG_DATA(part), sizeof(error));
			if (error.ee_origin != SO_EE_ORIGIN_ZEROCOPY || error.ee_errno != 0)
				continue;
			sent_reported(c, error.ee_info, error.ee_data);
			classic.shared->zerocopy_notified += error.ee_data - error.ee_info + 1;
			if ((error.ee_code & SO_EE_CODE_ZEROCOPY_COPIED) != 0)
				classic.shared->zerocopy_copied += error.ee_data - error.ee_info + 1;
		}
	}
}

static int push_zerocopy(struct connection *c)
{
	for (;;) {
		bool copy;
		ssize_t n;

		if (c->sent_next - c->sent_first >= SENT_REAP)
			reap(c);
		if (c->buffer == NULL) {
			if (c->left == 0)
				return DONE;
			fill_buffer(c);
		}
		copy = c->sent_next - c->sent_first >= SENT_MAX || classic.buffers_size > PINNED_MAX;
		n = send(c->fd, c->buffer->bytes + c->from, c->until - c->from, more(c) | (copy ? 0 : MSG_ZEROCOPY));
		if (n < 0 && !copy && errno == ENOBUFS) { /* the socket's share of optmem is used up */
			copy = true;
			n = send(c->fd, c->buffer->bytes + c->from, c->until - c->from, more(c));
		}
		if (n < 0)
			return broken("send");
		if (!copy) {
			c->sent[c->sent_next++ % SENT_MAX] = c->buffer;
			c->buffer->sends++;
		}
		c->from += (size_t)n;
		if (c->from == c->until) {
			c->buffer->finished = true;
			if (c->buffer->sends == 0)
				put_buffer(c->buffer);
			c->buffer = NULL;
		}
	}
}

static void start_zerocopy(struct connection *c)
{
	int one = 1;

	if (setsockopt(c->fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) < 0)
		skip(classic.shared, "SO_ZEROCOPY: %s", strerror(errno));
	c->sent = calloc(SENT_MAX, sizeof(*c->sent));
	if (c->sent == NULL)
		fail(classic.shared, "server: no memory");
}

/* ---- sendfile, splice, mmap ---------------------------------------------------------------- */

/* Held back by MSG_MORE until data follows, so that both share a segment. */
static int push_header(struct connection *c)
{
	while (c->header_left > 0) {
		ssize_t n = send(c->fd, (char *)&c->header + sizeof(c->header) - c->header_left, c->header_left,
				 MSG_MORE | MSG_NOSIGNAL);

		if (n < 0)
			return broken("send");
		c->header_left -= (unsigned)n;
	}
	return DONE;
}

static int push_sendfile(struct connection *c)
{
	int r = push_header(c);

	while (r == DONE && c->left > 0) {
		off_t offset = (off_t)c->offset;
		ssize_t n = sendfile(c->fd, c->file_fd, &offset, (size_t)c->left);

		if (n < 0)
			return broken("sendfile");
		if (n == 0)
			ended_early(c);
		c->offset += (uint64_t)n;
		c->left -= (uint64_t)n;
	}
	return r;
}

/* A connection has a pipe only while it has something in hand. */
static void get_pipe(struct connection *c)
{
	if (classic.pipe_count > 0) {
		memcpy(c->pipe, classic.pipes[--classic.pipe_count], sizeof(c->pipe));
		return;
	}
	if (pipe2(c->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
		skip(classic.shared, "no descriptors for a pipe for each peer: %s", strerror(errno));
	if (fcntl(c->pipe[0], F_SETPIPE_SZ, (int)classic.pipe_size) < 0)
		skip(classic.shared, "F_SETPIPE_SZ: %s", strerror(errno));
}

static void put_pipe(struct connection *c)
{
	memcpy(classic.pipes[classic.pipe_count++], c->pipe, sizeof(c->pipe));
	c->pipe[0] = c->pipe[1] = -1;
}

static int push_splice(struct connection *c)
{
	int r = push_header(c);

	if (r != DONE)
		return r;
	if (c->pipe[0] < 0)
		get_pipe(c);
	while (c->left > 0 || c->in_pipe > 0) {
		ssize_t n;

		if (c->in_pipe == 0) {
			off_t offset = (off_t)c->offset;

			n = splice(c->file_fd, &offset, c->pipe[1], NULL, (size_t)smaller(c->left, classic.pipe_size),
				   SPLICE_F_NONBLOCK);
			if (n < 0)
				fail(classic.shared, "server: splice from the file: %s", strerror(errno));
			if (n == 0)
				ended_early(c);
			c->in_pipe = (size_t)n;
			c->offset += (uint64_t)n;
			c->left -= (uint64_t)n;
		}
		n = splice(c->pipe[0], NULL, c->fd, NULL, c->in_pipe,
			   SPLICE_F_NONBLOCK | ((more(c) & MSG_MORE) != 0 ? SPLICE_F_MORE : 0));
		if (n < 0)
			return broken("splice to the socket");
		c->in_pipe -= (size_t)n;
	}
	put_pipe(c);
	return DONE;
}

/* Maps the next window: from and until are the part of it that is still to be sent. */
static void map_window(struct connection *c)
{
	uint64_t base = c->offset / PAGE * PAGE;
	size_t length = (size_t)smaller(c->left, MAP_WINDOW);

	c->from = (size_t)(c->offset - base);
	c->until = c->map_length = c->from + length;
	/* Populated: one call instead of a fault for each 64 KiB. */
	c->map = mmap(NULL, c->map_length, PROT_READ, MAP_SHARED | MAP_POPULATE, c->file_fd, (off_t)base);
	if (c->map == MAP_FAILED)
		fail(classic.shared, "server: mmap: %s", strerror(errno));
	c->offset += length;
	c->left -= length;
}

static int push_mmap(struct connection *c)
{
	for (;;) {
		struct iovec parts[2];
		struct msghdr message = { .msg_iov = parts };
		ssize_t n;

		if (c->map == NULL) {
			if (c->left == 0)
				return DONE;
			map_window(c);
		}
		if (c->header_left > 0)
			parts[message.msg_iovlen++] =
				(struct iovec){ (char *)&c->header + sizeof(c->header) - c->header_left,
						c->header_left };
		parts[message.msg_iovlen++] = (struct iovec){ c->map + c->from, c->until - c->from };
		n = sendmsg(c->fd, &message, more(c));
		if (n < 0)
			return broken("sendmsg");
		if (c->header_left > 0) {
			unsigned head = (unsigned)smaller(c->header_left, (uint64_t)n);

			c->header_left -= head;
			n -= head;
		}
		c->from += (size_t)n;
		if (c->from == c->until) {
			munmap(c->map, c->map_length);
			c->map = NULL;
		}
	}
}

push_function prepare_classic(const struct setup *setup, struct shared *shared)
{
	static const push_function functions[] = {
		[SENDFILE] = push_sendfile, [SPLICE_64K] = push_splice, [SPLICE_1M] = push_splice,
		[PREAD] = push_pread,       [MMAP] = push_mmap,         [ZEROCOPY] = push_zerocopy,
	};

	classic = (struct classic){ .setup = setup, .shared = shared };
	/* In bulk larger pieces cost less; in an answer they would only leave the cache. */
	classic.chunk = (size_t)smaller(setup->size, setup->workload == BULK ? MIB : 256 * KIB);
	if (setup->cold > 0)
		classic.chunk = 256 * KIB;
	if (setup->stalled > 0) /* each stalled peer keeps one */
		classic.chunk = 64 * KIB;
	classic.pipe_size = setup->way->variant == SPLICE_1M ? MIB : 64 * KIB;
	classic.pipes = calloc(setup->connections + setup->cold + setup->stalled, sizeof(*classic.pipes));
	if (classic.pipes == NULL)
		fail(shared, "server: no memory");
	return functions[setup->way->variant];
}

void start_classic(struct connection *c)
{
	if (classic.setup->way->variant == ZEROCOPY)
		start_zerocopy(c);
}

void take_reports(struct connection *c)
{
	if (c->sent != NULL)
		reap(c);
}
