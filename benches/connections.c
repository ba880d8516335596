/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "connections.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define STALL_BUFFER (64 << 10) /* send buffer of every connection beside stalled peers */

struct connection *accept_all(const struct setup *setup, struct shared *shared, bool blocking)
{
	unsigned count = setup->connections + setup->cold + setup->stalled;
	struct connection *all = calloc(count, sizeof(*all));
	int file = open(setup->path, O_RDONLY | O_CLOEXEC);

	if (all == NULL || file < 0)
		fail(shared, "server: %s: %s", setup->path, strerror(errno));
	for (unsigned i = 0; i < count; i++) {
		struct connection *c = &all[i];
		int one = 1, buffer = STALL_BUFFER;

		c->fd = accept4(setup->listener, NULL, NULL, SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK));
		if (c->fd < 0)
			fail(shared, "server: accept: %s", strerror(errno));
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		/* Loopback's segments make the kernel start with buffers of megabytes, times thousands. */
		if (setup->workload == STALLED)
			setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
		/* Cold reads are guessed ahead by descriptor: streams that share one would spoil it. */
		c->file_fd = setup->cold > 0 ? open(setup->path, O_RDONLY | O_CLOEXEC) : file;
		if (c->file_fd < 0)
			fail(shared, "server: %s: %s", setup->path, strerror(errno));
		c->index = i;
		c->pipe[0] = c->pipe[1] = -1;
	}
	return all;
}

void take_question(const struct setup *setup, struct shared *shared, struct connection *c,
		   const struct question *question)
{
	if (question->length == 0 || question->offset > setup->file_size ||
	    question->length > setup->file_size - question->offset)
		fail(shared, "server: a question out of range");
	atomic_fetch_add_explicit(&shared->questions, 1, memory_order_relaxed);
	c->busy = true;
	c->start = c->offset = question->offset;
	c->left = question->length;
	if (setup->workload != BULK) {
		c->header = (struct header){
			.magic = HEADER_MAGIC,
			.offset = c->offset,
			.length = c->left,
			.sequence = c->operations,
		};
		c->header_left = sizeof(c->header);
	}
	c->operations++;
}

bool take_next(const struct setup *setup, struct shared *shared, struct connection *c)
{
	if (setup->workload != BULK || atomic_load_explicit(&shared->stopping, memory_order_relaxed) ||
	    (setup->operations != 0 && c->operations >= setup->operations))
		return false;
	c->offset = (c->start + c->operations * setup->size) % setup->file_size;
	c->left = setup->size;
	c->operations++;
	c->busy = true;
	return true;
}
