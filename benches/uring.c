/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "uring.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRIES 4096u
#define CONTROL UINT64_MAX /* user_data of the read that ends the run */

static struct {
	int fd;
	unsigned *sq_head, *sq_tail, *sq_array, sq_mask;
	unsigned *cq_head, *cq_tail, cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	unsigned tail, unsubmitted;
} ring;

static const struct setup *setup;
static struct shared *shared;

static void *map_ring(size_t size, uint64_t offset)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, (off_t)offset);

	if (p == MAP_FAILED)
		fail(shared, "server: mapping the ring: %s", strerror(errno));
	return p;
}

void make_ring(const struct setup *the_setup, struct shared *the_shared)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
		.cq_entries = 4 * ENTRIES,
	};
	char *sq, *cq;

	setup = the_setup;
	shared = the_shared;
	ring.fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &params);
	if (ring.fd < 0 && errno == EINVAL) { /* before Linux 6.1 */
		params = (struct io_uring_params){ .flags = IORING_SETUP_CQSIZE, .cq_entries = 4 * ENTRIES };
		ring.fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &params);
	}
	if (ring.fd < 0)
		skip(shared, "io_uring: %s", strerror(errno));
	sq = map_ring(params.sq_off.array + params.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
	cq = map_ring(params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	ring.sqes = map_ring(params.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	ring.sq_head = (unsigned *)(sq + params.sq_off.head);
	ring.sq_tail = (unsigned *)(sq + params.sq_off.tail);
	ring.sq_array = (unsigned *)(sq + params.sq_off.array);
	ring.sq_mask = params.sq_entries - 1;
	ring.cq_head = (unsigned *)(cq + params.cq_off.head);
	ring.cq_tail = (unsigned *)(cq + params.cq_off.tail);
	ring.cqes = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
	ring.cq_mask = params.cq_entries - 1;
	ring.tail = *ring.sq_tail;
}

static void enter(unsigned wait)
{
	int r;

	__atomic_store_n(ring.sq_tail, ring.tail, __ATOMIC_RELEASE);
	r = (int)syscall(SYS_io_uring_enter, ring.fd, ring.unsubmitted, wait, IORING_ENTER_GETEVENTS, NULL, 0);
	if (r < 0 && errno != EINTR && errno != EAGAIN && errno != EBUSY)
		fail(shared, "server: io_uring_enter: %s", strerror(errno));
	if (r > 0)
		ring.unsubmitted -= (unsigned)r;
}

int ring_descriptor(void)
{
	return ring.fd;
}

void make_room(unsigned count)
{
	while (ring.tail - __atomic_load_n(ring.sq_head, __ATOMIC_ACQUIRE) + count > ring.sq_mask + 1)
		enter(0);
}

struct io_uring_sqe *request(unsigned op, int fd, uint64_t user_data)
{
	unsigned slot = ring.tail++ & ring.sq_mask;
	struct io_uring_sqe *sqe = &ring.sqes[slot];

	memset(sqe, 0, sizeof(*sqe));
	ring.sq_array[slot] = slot;
	ring.unsubmitted++;
	sqe->opcode = (uint8_t)op;
	sqe->fd = fd;
	sqe->user_data = user_data;
	return sqe;
}

void request_question(int fd, struct question *question, uint64_t user_data)
{
	struct io_uring_sqe *sqe;

	make_room(1);
	sqe = request(IORING_OP_RECV, fd, user_data);
	sqe->addr = (uintptr_t)question;
	sqe->len = sizeof(*question);
	sqe->msg_flags = MSG_WAITALL;
}

void check_result(const char *what, int result)
{
	if (result < 0 && !atomic_load(&shared->stopping))
		fail(shared, "server: %s: %s", what, strerror(-result));
}

void count_notification(int result)
{
	shared->zerocopy_notified++;
	shared->zerocopy_copied += ((uint32_t)result & ZC_COPIED) != 0;
}

static void request_control(void)
{
	static uint64_t control;
	struct io_uring_sqe *sqe;

	make_room(1);
	sqe = request(IORING_OP_READ, setup->control, CONTROL);
	sqe->addr = (uintptr_t)&control;
	sqe->len = sizeof(control);
}

void run_ring(void (*take)(const struct io_uring_cqe *cqe))
{
	request_control();
	for (;;) {
		unsigned head = *ring.cq_head, tail;

		enter(1);
		tail = __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE);
		for (; head != tail; head++) {
			const struct io_uring_cqe *cqe = &ring.cqes[head & ring.cq_mask];

			if (cqe->user_data == CONTROL)
				return;
			take(cqe);
		}
		__atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
	}
}
