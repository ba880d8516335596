/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* 100,000 operations while a second thread closes the socket's number and gives it to another connection, or to
 * something that is none, all the time. Each goes to the one or to the other, whole, or ends with -EBADF; and those
 * that are submitted by the connections' own numbers, which nobody touches, all go well and where they belong. Here
 * by snapsend_submit alone. */
#include "manners_common.h"

#ifndef INLINE_TOO
#define INLINE_TOO false /* see manners_reuse_socket_inline.c */
#endif

#define OPS         100000
#define WINDOW      48
#define NUMBER      900
#define FILE_LENGTH 400000

enum target { FIRST, SECOND, EITHER };

struct mark {
	uint32_t magic, number, target, length;
};

static int ends[2][2], things[2];
static atomic_bool stop;
static atomic_uint changes;
static unsigned char *image;
static atomic_uchar seen[OPS];
static struct {
	uint64_t wire;
	int status;
	bool ended;
	uint32_t length;
	enum target target;
} ops[OPS];

static void *change(void *argument)
{
	unsigned seed = 1;
	(void)argument;
	for (int i = 0; !atomic_load(&stop); i++) {
		unsigned dice = (unsigned)rand_r(&seed) % 32;
		int result = dice == 0 ? close(NUMBER) : dup2(dice < 6 ? things[dice % 2] : ends[i % 2][0], NUMBER);
		CHECK(result >= 0 || dice == 0);
		atomic_fetch_add(&changes, 1);
		for (unsigned spin = dice % 4 == 1 ? 2000 : (unsigned)rand_r(&seed) % 300; spin > 0; spin--)
			atomic_signal_fence(memory_order_seq_cst);
	}
	return NULL;
}

/* One connection's peer: whole operations, that belong there, in their order. */
static void *peer(void *argument)
{
	enum target self = (enum target)(intptr_t)argument;
	unsigned char *got = malloc(FILE_LENGTH);
	struct mark mark;
	int64_t last = -1;
	CHECK(got != NULL);
	for (size_t n; (n = read_all(ends[self][1], &mark, sizeof mark)) > 0;) {
		if (n != sizeof mark || mark.magic != 0x6b72616d || mark.number >= OPS)
			fail("connection %d: bytes that no operation begins with, after operation %d", (int)self,
			     (int)last);
		if (mark.target != EITHER && mark.target != self)
			fail("connection %d got operation %u, which was submitted for the other one", (int)self,
			     mark.number);
		CHECK_ULE(mark.length, FILE_LENGTH);
		CHECK_UEQ(read_all(ends[self][1], got, mark.length), mark.length);
		if (memcmp(got, image + mark.number % 1000, mark.length) != 0)
			fail("connection %d: operation %u is not whole", (int)self, mark.number);
		CHECK_EQ(atomic_fetch_add(&seen[mark.number], 1), 0);
		if (INLINE_TOO && mark.target == EITHER)
			continue;
		CHECK_GT(mark.number, last);
		last = mark.number;
	}
	free(got);
	return NULL;
}

static void note(uint64_t number, const struct snapsend_completion *done)
{
	CHECK_ULE(number, OPS - 1);
	CHECK(!ops[number].ended);
	ops[number].ended = true;
	ops[number].status = done->status;
	ops[number].wire = done->wire_bytes;
	if (done->status == 0) {
		CHECK_UEQ(done->wire_bytes, sizeof(struct mark) + ops[number].length);
	} else if (ops[number].target != EITHER || done->wire_bytes > 0 ||
		   (done->status != -EBADF && !(INLINE_TOO && (done->status == -EPIPE || done->status == -ENOTSOCK)))) {
		fail("operation %d for %d of %u bytes: status %d (%s), %" PRIu64 " sent", (int)number,
		     (int)ops[number].target, ops[number].length, done->status, strerror(-done->status),
		     done->wire_bytes);
	}
}

/* 1: in flight, 0: done, -1: refused. */
static int start(snapsend_t *ctx, int file, unsigned number)
{
	struct snapsend_completion done = { 0 };
	enum target target = number % 4 == 1 ? FIRST : number % 4 == 3 ? SECOND : EITHER;
	uint32_t length = number % 40 == 0 ? 100000 + (uint32_t)rand() % 150000 : (uint32_t)rand() % 3000;
	struct mark mark = { 0x6b72616d, number, target, length };
	struct iovec header = { &mark, sizeof mark };
	int socket_fd = target == EITHER ? NUMBER : ends[target][0];
	struct snapsend_request request = make_request(socket_fd, file, number % 1000, length);
	request.header = &header, request.header_count = 1;
	request.user_data = number;
	request.flags = number % 11 == 3 ? SNAPSEND_EAGER : number % 11 == 4 ? SNAPSEND_EXACT : 0;
	ops[number].length = length;
	ops[number].target = target;
	int result = !INLINE_TOO || number % 6 != 0 ? snapsend_submit(ctx, &request, sizeof request, NULL)
						    : snapsend_try_send(ctx, &request, sizeof request, &done);
	if (result == 1) {
		note(number, &done);
		return 0;
	}
	if (result == 0)
		return 1;
	if (target != EITHER || (result != -EBADF && result != -ENOTSOCK && result != -ENOTCONN))
		fail("submit: %d (%s)", result, strerror(-result));
	return -1;
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	pthread_t thread, peers[2];
	struct snapsend_completion batch[WINDOW];
	int file = temp_file(FILE_LENGTH, 92), in_flight = 0, refused = 0, bad = 0;
	struct sockaddr_storage address;
	socklen_t length;
	time_limit(110);
	srand(92);
	image = image_of(0, FILE_LENGTH, 92);
	for (int i = 0; i < 2; i++) {
		pair_of_kind(i ? TCP4 : UNIX, ends[i], INLINE_TOO ? 1 << 23 : 0);
		PTHREAD(pthread_create(&peers[i], NULL, peer, (void *)(intptr_t)i));
	}
	things[0] = file;
	things[1] = tcp_listener(AF_INET, 0, &address, &length);
	SYS(dup2(ends[0][0], NUMBER));
	PTHREAD(pthread_create(&thread, NULL, change, NULL));
	for (unsigned number = 0; number < OPS || in_flight > 0 || atomic_load(&changes) < OPS;) {
		while (number < OPS && in_flight < WINDOW) {
			int result = start(ctx, file, number);
			in_flight += result > 0;
			refused += result < 0; /* again: the other thread may have lost its processor at a bad moment */
			number += result >= 0;
		}
		int n = snapsend_poll(ctx, batch, WINDOW, number < OPS ? 0 : 100);
		CHECK_GE(n, 0);
		for (int i = 0; i < n; i++)
			note(batch[i].user_data, &batch[i]);
		in_flight -= n;
	}
	atomic_store(&stop, true);
	PTHREAD(pthread_join(thread, NULL));
	expect_nothing(ctx, 20);
	for (int i = 0; i < 2; i++) {
		SYS(shutdown(ends[i][0], SHUT_WR));
		PTHREAD(pthread_join(peers[i], NULL));
	}
	for (unsigned i = 0; i < OPS; i++) {
		CHECK_EQ(atomic_load(&seen[i]), ops[i].ended && ops[i].status == 0);
		bad += ops[i].ended && ops[i].status != 0;
	}
	printf("%u changes, %d operations ended with an error, %d refused\n", atomic_load(&changes), bad, refused);
	destroy_ctx(ctx);
	return 0;
}
