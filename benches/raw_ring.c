/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Zero-copy from the page cache by io_uring alone: SEND_ZC from a mapping of the file that is made once and kept.  What
 * the library adds to this is seen beside it.
 *
 * An operation is complete with its notification, when no packet can read the file's pages any more.  The next one on the
 * connection does not wait for that, only for the bytes to be in the socket.  Nothing depends on a notification here, since
 * the mapping stays: it is counted.
 */
#include "raw_ring.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connections.h"
#include "uring.h"

#define PIECE MIB /* longest send: larger ones are charged to the socket in one go and wait for the queue to empty */

enum { QUESTION, HEADER, DATA };

struct peer {
	struct connection *c;
	struct question question;
};

static const struct setup *setup;
static struct shared *shared;
static struct peer *peers;
static const char *file; /* the part that is asked for */

static uint64_t mark(const struct peer *p, unsigned kind)
{
	return (uint64_t)p->c->index << 8 | kind;
}

static void map_file(void)
{
	int fd = open(setup->path, O_RDONLY | O_CLOEXEC);
	void *map = mmap(NULL, setup->warm_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);

	if (fd < 0 || map == MAP_FAILED)
		fail(shared, "server: mapping %s: %s", setup->path, strerror(errno));
	close(fd);
	file = map;
}

/* The header is copied and held back until data follows, so that both share a segment. */
static void send_header(struct peer *p)
{
	struct io_uring_sqe *sqe = request(IORING_OP_SEND, p->c->fd, mark(p, HEADER));

	sqe->addr = (uintptr_t)&p->c->header;
	sqe->len = sizeof(p->c->header);
	sqe->msg_flags = MSG_MORE | MSG_WAITALL | MSG_NOSIGNAL;
	sqe->flags = IOSQE_IO_LINK;
	p->c->header_left = 0;
}

static void send_piece(struct peer *p)
{
	struct connection *c = p->c;
	struct io_uring_sqe *sqe;

	make_room(2);
	if (c->header_left > 0)
		send_header(p);
	sqe = request(IORING_OP_SEND_ZC, c->fd, mark(p, DATA));
	sqe->addr = (uintptr_t)(file + c->offset);
	sqe->len = (uint32_t)smaller(c->left, PIECE);
	sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
	sqe->ioprio = ZC_REPORT_USAGE;
}

static void take_sent(struct peer *p, int result)
{
	struct connection *c = p->c;

	if (atomic_load_explicit(&shared->stopping, memory_order_relaxed))
		return;
	if (result == -EINVAL)
		skip(shared, "no SEND_ZC: it needs Linux 6.0");
	check_result("send", result);
	c->offset += (uint64_t)result;
	c->left -= (uint64_t)result;
	if (c->left > 0 || take_next(setup, shared, c))
		send_piece(p);
	else
		request_question(c->fd, &p->question, mark(p, QUESTION));
}

static void take_completion(const struct io_uring_cqe *cqe)
{
	struct peer *p = &peers[cqe->user_data >> 8];
	unsigned kind = cqe->user_data & 255;

	if ((cqe->flags & IORING_CQE_F_NOTIF) != 0) {
		count_notification(cqe->res);
	} else if (kind == DATA) {
		take_sent(p, cqe->res);
	} else if (kind == HEADER) {
		check_result("send", cqe->res);
	} else if (cqe->res == (int)sizeof(p->question)) {
		take_question(setup, shared, p->c, &p->question);
		send_piece(p);
	} else {
		check_result("recv", cqe->res < 0 ? cqe->res : -ECONNRESET);
	}
}

int serve_by_raw_ring(const struct setup *the_setup, struct shared *the_shared)
{
	struct connection *all;

	setup = the_setup;
	shared = the_shared;
	make_ring(setup, shared);
	map_file();
	peers = calloc(setup->connections, sizeof(*peers));
	if (peers == NULL)
		fail(shared, "server: no memory");
	all = accept_all(setup, shared, true);
	for (unsigned i = 0; i < setup->connections; i++) {
		peers[i].c = &all[i];
		request_question(all[i].fd, &peers[i].question, mark(&peers[i], QUESTION));
	}
	atomic_store(&shared->server_ready, 1);
	run_ring(take_completion);
	return 0;
}
