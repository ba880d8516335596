/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The two io_uring ways, by raw system calls: one thread, one ring that questions, files and sockets all
 * go through, requests linked where one follows from the other.
 *
 *	uring_splice   SPLICE from the file into a pipe, linked to SPLICE from there to the socket
 *	uring_zc       READ_FIXED into a pool of registered huge pages, linked to SEND_ZC from there
 *	uring_zc_plain the same, but SEND_ZC goes by address, not by registered buffer: see "Registered buffers" in NOTES.md
 */
#include "ring.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "connections.h"
#include "uring.h"

#define CHAIN_MAX 4u /* most requests that are made together */
#define POOL_SIZE (64 * MIB)
#define SLOTS     2u /* buffers of a connection: one is read into while the other is sent */

static const struct setup *setup;
static struct shared *shared;

/* ---- connections --------------------------------------------------------------------------- */

enum { QUESTION, HEADER, TO_PIPE, TO_SOCKET, READ, SEND };

struct slot {
	enum { FREE, READING, READY, SENDING } state;
	bool linked; /* the send has been made together with the read */
	uint32_t buffer;
	size_t want;        /* of the file's data */
	const char *bytes;  /* what is sent ... */
	size_t from, until; /* ... of it, the part that is left */
};

struct peer {
	struct connection *c;
	struct question question;
	unsigned pending; /* completions of the chain that have not come */
	uint64_t in_pipe;
	struct slot slots[SLOTS];
	unsigned next_read, next_send;
	bool waiting; /* for a buffer */
	struct peer *next_waiting;
};

static struct peer *peers;
static size_t pipe_size;

static uint64_t mark(const struct peer *p, unsigned kind, unsigned slot, uint32_t buffer)
{
	return (uint64_t)p->c->index << 32 | (uint64_t)buffer << 16 | slot << 8 | kind;
}

static void wait_for_question(struct peer *p)
{
	request_question(p->c->fd, &p->question, mark(p, QUESTION, 0, 0));
}

/* ---- uring_splice -------------------------------------------------------------------------- */

/* The sockets are blocking: these run on io_uring's threads, which may sleep. */
static void splice_chain(struct peer *p)
{
	struct connection *c = p->c;
	struct io_uring_sqe *sqe;
	uint64_t length = p->in_pipe;

	make_room(CHAIN_MAX);
	p->pending = 0;
	if (c->header_left > 0) {
		sqe = request(IORING_OP_SEND, c->fd, mark(p, HEADER, 0, 0));
		sqe->addr = (uintptr_t)&c->header;
		sqe->len = sizeof(c->header);
		sqe->msg_flags = MSG_MORE | MSG_WAITALL | MSG_NOSIGNAL;
		sqe->flags = IOSQE_IO_LINK;
		c->header_left = 0;
		p->pending++;
	}
	if (length == 0) {
		length = smaller(c->left, pipe_size);
		sqe = request(IORING_OP_SPLICE, c->pipe[1], mark(p, TO_PIPE, 0, 0));
		sqe->splice_fd_in = c->file_fd;
		sqe->splice_off_in = c->offset;
		sqe->off = UINT64_MAX;
		sqe->len = (uint32_t)length;
		sqe->flags = IOSQE_IO_LINK;
		p->pending++;
	}
	sqe = request(IORING_OP_SPLICE, c->fd, mark(p, TO_SOCKET, 0, 0));
	sqe->splice_fd_in = c->pipe[0];
	sqe->splice_off_in = UINT64_MAX;
	sqe->off = UINT64_MAX;
	sqe->len = (uint32_t)length;
	sqe->splice_flags = length < c->left && setup->workload != BULK ? SPLICE_F_MORE : 0;
	p->pending++;
}

static void splice_event(struct peer *p, unsigned kind, int result)
{
	static const char *const calls[] = {
		[HEADER] = "send",
		[TO_PIPE] = "splice to the pipe",
		[TO_SOCKET] = "splice to the socket",
	};
	struct connection *c = p->c;

	p->pending--;
	/* After a short splice into the pipe the other one is cancelled: it is made again below. */
	if (result != -ECANCELED)
		check_result(calls[kind], result);
	if (kind == TO_PIPE && result > 0) {
		p->in_pipe += (uint64_t)result;
		c->offset += (uint64_t)result;
		c->left -= (uint64_t)result;
	} else if (kind == TO_SOCKET && result > 0) {
		p->in_pipe -= (uint64_t)result;
	}
	if (p->pending > 0 || atomic_load(&shared->stopping))
		return;
	if (p->in_pipe > 0 || c->left > 0 || take_next(setup, shared, c))
		splice_chain(p);
	else
		wait_for_question(p);
}

/* ---- uring_zc ------------------------------------------------------------------------------ */

static struct {
	char *memory;
	size_t chunk, stride; /* of data, and of a buffer: a page in front has the header at its end */
	uint32_t count;
	uint32_t *free, free_count;
	uint32_t *notices; /* by buffer: sends that the kernel has not let go of */
	bool *finished;    /* by buffer: nothing of it is left to send */
	bool send_fixed;
	struct peer *first_waiting, **last_waiting;
} pool = { .last_waiting = &pool.first_waiting };

static void map_pool(void)
{
	pool.memory = mmap(NULL, POOL_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (pool.memory == MAP_FAILED) { /* none set aside: transparent ones */
		uintptr_t start;

		pool.memory =
			mmap(NULL, POOL_SIZE + 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (pool.memory == MAP_FAILED)
			fail(shared, "server: no memory");
		start = ((uintptr_t)pool.memory + 2 * MIB - 1) & ~(uintptr_t)(2 * MIB - 1);
		pool.memory = (char *)start;
		madvise(pool.memory, POOL_SIZE, MADV_HUGEPAGE);
	}
}

static void make_pool(void)
{
	struct iovec all;

	pool.chunk = (size_t)smaller(setup->size, MIB);
	if (setup->cold > 0)
		pool.chunk = MIB;
	pool.stride = pool.chunk + PAGE;
	pool.count = (uint32_t)(POOL_SIZE / pool.stride);
	if (pool.count > UINT16_MAX)
		pool.count = UINT16_MAX;
	map_pool();
	memset(pool.memory, 0, POOL_SIZE);
	all = (struct iovec){ pool.memory, POOL_SIZE };
	if (syscall(SYS_io_uring_register, ring_descriptor(), IORING_REGISTER_BUFFERS, &all, 1) < 0)
		skip(shared, "registering buffers: %s", strerror(errno));
	pool.free = calloc(pool.count, sizeof(*pool.free));
	pool.notices = calloc(pool.count, sizeof(*pool.notices));
	pool.finished = calloc(pool.count, sizeof(*pool.finished));
	if (pool.free == NULL || pool.notices == NULL || pool.finished == NULL)
		fail(shared, "server: no memory");
	while (pool.free_count < pool.count) {
		pool.free[pool.free_count] = pool.count - 1 - pool.free_count;
		pool.free_count++;
	}
}

static char *bytes_of(uint32_t buffer)
{
	return pool.memory + buffer * pool.stride;
}

static void request_read(struct peer *p, unsigned index)
{
	struct slot *s = &p->slots[index];
	struct io_uring_sqe *sqe = request(IORING_OP_READ_FIXED, p->c->file_fd, mark(p, READ, index, s->buffer));

	sqe->addr = (uintptr_t)(bytes_of(s->buffer) + PAGE);
	sqe->len = (uint32_t)s->want;
	sqe->off = p->c->offset;
	sqe->flags = s->linked ? IOSQE_IO_LINK : 0;
}

static void request_send(struct peer *p, unsigned index, bool zerocopy)
{
	struct slot *s = &p->slots[index];
	struct io_uring_sqe *sqe =
		request(zerocopy ? IORING_OP_SEND_ZC : IORING_OP_SEND, p->c->fd, mark(p, SEND, index, s->buffer));

	sqe->addr = (uintptr_t)(s->bytes + s->from);
	sqe->len = (uint32_t)(s->until - s->from);
	sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
	if (zerocopy) {
		sqe->ioprio = ZC_REPORT_USAGE | (pool.send_fixed ? IORING_RECVSEND_FIXED_BUF : 0);
		sqe->buf_index = 0;
	}
}

static void advance(struct peer *p);

static void let_go(uint32_t buffer)
{
	struct peer *p = pool.first_waiting;

	if (!pool.finished[buffer] || pool.notices[buffer] > 0)
		return;
	pool.finished[buffer] = false;
	pool.free[pool.free_count++] = buffer;
	if (p == NULL)
		return;
	pool.first_waiting = p->next_waiting;
	if (pool.first_waiting == NULL)
		pool.last_waiting = &pool.first_waiting;
	p->waiting = false;
	advance(p);
}

static void wait_for_buffer(struct peer *p)
{
	if (p->waiting)
		return;
	p->waiting = true;
	p->next_waiting = NULL;
	*pool.last_waiting = p;
	pool.last_waiting = &p->next_waiting;
}

/* Asks for the next piece of the file in a slot's buffer, behind what is left of the header. */
static void fill_by_read(struct peer *p, unsigned index)
{
	struct connection *c = p->c;
	struct slot *s = &p->slots[index];
	char *bytes = bytes_of(s->buffer);

	s->state = READING;
	s->bytes = bytes;
	s->from = PAGE - c->header_left;
	s->until = PAGE + s->want;
	memcpy(bytes + s->from, &c->header, c->header_left);
	c->header_left = 0;
	make_room(CHAIN_MAX);
	request_read(p, index);
	if (s->linked)
		request_send(p, index, true);
}

/* Fills the next slot if it is free and something is left to send. */
static bool fill_slot(struct peer *p)
{
	struct connection *c = p->c;
	struct slot *s = &p->slots[p->next_read];

	if (s->state != FREE || (c->left == 0 && !take_next(setup, shared, c)))
		return false;
	if (pool.free_count == 0) {
		wait_for_buffer(p);
		return false;
	}
	s->linked = true;
	for (unsigned i = 0; i < SLOTS; i++)
		s->linked = s->linked && p->slots[i].state == FREE;
	s->buffer = pool.free[--pool.free_count];
	s->want = (size_t)smaller(c->left, pool.chunk);
	fill_by_read(p, p->next_read);
	c->offset += s->want;
	c->left -= s->want;
	p->next_read = (p->next_read + 1) % SLOTS;
	return true;
}

static void advance(struct peer *p)
{
	struct slot *s = &p->slots[p->next_send];

	while (fill_slot(p))
		;
	if (s->state == READY) {
		s->state = SENDING;
		make_room(1);
		request_send(p, p->next_send, true);
	}
}

static void read_event(struct peer *p, unsigned index, int result)
{
	struct slot *s = &p->slots[index];

	if (atomic_load(&shared->stopping))
		return;
	/* io_uring goes on by itself after a short read of a regular file, and the range lies inside it. */
	if (result != (int)s->want)
		fail(shared, "server: a read of %zu bytes gave %d", s->want, result);
	s->state = s->linked ? SENDING : READY;
	advance(p);
}

static void send_event(struct peer *p, unsigned index, uint32_t buffer, int result, uint32_t flags)
{
	struct slot *s = &p->slots[index];
	struct connection *c = p->c;

	if ((flags & IORING_CQE_F_NOTIF) != 0) {
		pool.notices[buffer]--;
		count_notification(result);
		let_go(buffer);
		return;
	}
	if ((flags & IORING_CQE_F_MORE) != 0)
		pool.notices[buffer]++;
	if (atomic_load(&shared->stopping))
		return;
	if (result == -ENOMEM || result == -ENOBUFS) { /* limits of pinned or socket memory: copy */
		make_room(1);
		request_send(p, index, false);
		return;
	}
	check_result("send", result);
	s->from += (size_t)result;
	if (s->from < s->until) {
		make_room(1);
		request_send(p, index, true);
		return;
	}
	s->state = FREE;
	pool.finished[buffer] = true;
	p->next_send = (p->next_send + 1) % SLOTS;
	let_go(buffer);
	if (c->left == 0 && setup->workload != BULK && p->slots[0].state == FREE && p->slots[1].state == FREE)
		wait_for_question(p);
	else
		advance(p);
}

/* ---- the loop ------------------------------------------------------------------------------ */

static void begin(struct peer *p, bool zerocopy, int result)
{
	if (result != (int)sizeof(p->question)) {
		check_result("recv", result == 0 ? -ECONNRESET : result < 0 ? result : -EPROTO);
		return;
	}
	take_question(setup, shared, p->c, &p->question);
	if (zerocopy)
		advance(p);
	else
		splice_chain(p);
}

static void make_pipe(struct connection *c)
{
	if (pipe2(c->pipe, O_CLOEXEC) < 0)
		skip(shared, "no descriptors for a pipe for each peer: %s", strerror(errno));
	if (fcntl(c->pipe[0], F_SETPIPE_SZ, (int)pipe_size) < 0)
		skip(shared, "F_SETPIPE_SZ: %s", strerror(errno));
}

static void make_peers(bool zerocopy)
{
	struct connection *all = accept_all(setup, shared, true);
	unsigned total = setup->connections + setup->cold;

	peers = calloc(total, sizeof(*peers));
	if (peers == NULL)
		fail(shared, "server: no memory");
	for (unsigned i = 0; i < total; i++) {
		peers[i].c = &all[i];
		if (!zerocopy)
			make_pipe(&all[i]);
		wait_for_question(&peers[i]);
	}
}

static void take_completion(const struct io_uring_cqe *cqe)
{
	unsigned kind = cqe->user_data & 255, slot = cqe->user_data >> 8 & 255;
	struct peer *p = &peers[cqe->user_data >> 32];

	if (kind == QUESTION)
		begin(p, setup->way->variant != RING_SPLICE, cqe->res);
	else if (kind == READ)
		read_event(p, slot, cqe->res);
	else if (kind == SEND)
		send_event(p, slot, cqe->user_data >> 16 & 65535, cqe->res, cqe->flags);
	else
		splice_event(p, kind, cqe->res);
}

int serve_by_ring(const struct setup *the_setup, struct shared *the_shared)
{
	bool zerocopy = the_setup->way->variant != RING_SPLICE;

	setup = the_setup;
	shared = the_shared;
	make_ring(setup, shared);
	pool.send_fixed = setup->way->variant == RING_ZEROCOPY;
	if (zerocopy)
		make_pool();
	pipe_size = setup->size > 64 * KIB || setup->cold > 0 ? MIB : 64 * KIB;
	make_peers(zerocopy);
	atomic_store(&shared->server_ready, 1);
	run_ring(take_completion);
	return 0;
}
