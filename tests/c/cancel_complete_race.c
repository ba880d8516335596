/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* 10,000 times cancel against complete: one DONE each, which agrees with what cancel said and with what
 * the peer got. */
#include "common.h"
#include <sched.h>

#define ROUNDS 10000

static snapsend_t *ctx;
static _Atomic uint64_t target; /* the id to be cancelled, 0: none */
static _Atomic int answer;      /* of cancel; 1: not yet */
static atomic_bool over;

static void *canceller(void *unused)
{
	(void)unused;
	unsigned random = 1;
	while (!atomic_load(&over)) {
		uint64_t id = atomic_exchange(&target, 0);
		if (id == 0) {
			sched_yield();
			continue;
		}
		random = random * 1664525u + 1013904223u;
		for (volatile unsigned spin = random >> 20; spin > 0; spin--) /* at any moment of its life */
			;
		atomic_store(&answer, snapsend_cancel(ctx, id));
	}
	return NULL;
}

struct connection {
	int sv[2];
	struct reader reader;
	uint64_t wire;
};

static void open_connection(struct connection *c, int round)
{
	if (round & 1)
		tcp_pair(c->sv);
	else
		unix_pair(c->sv);
	c->wire = 0;
	reader_init(&c->reader, c->sv[1], UINT64_MAX);
	reader_go(&c->reader);
}

static void close_connection(struct connection *c)
{
	close(c->sv[0]);
	CHECK_UEQ(reader_join(&c->reader), c->wire);
	close(c->sv[1]);
}

int main(void)
{
	static const uint64_t lengths[] = { 1, 1000, 4096, 70000, 600000 };
	struct connection connection;
	pthread_t thread;
	uint64_t cancelled = 0, done = 0, partial = 0;
	ctx = create_ctx();
	int file = temp_file(MIB, 1);
	open_connection(&connection, 0);
	PTHREAD(pthread_create(&thread, NULL, canceller, NULL));
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t length = lengths[(unsigned)round % (round % 8 ? 3 : 5)];
		struct snapsend_request request = make_request(connection.sv[0], file, 0, length);
		struct snapsend_completion completion;
		request.flags = round % 3 == 1 ? SNAPSEND_EAGER : round % 3 == 2 ? SNAPSEND_EXACT : 0;
		request.user_data = (uint64_t)round;
		atomic_store(&answer, 1);
		uint64_t id = submit_ok(ctx, &request);
		atomic_store(&target, id);
		CHECK_EQ(snapsend_poll(ctx, &completion, 1, WAIT_MS), 1);
		CHECK_UEQ(completion.id, id);
		CHECK_UEQ(completion.user_data, round);
		while (atomic_load(&answer) == 1)
			sched_yield();
		int said = atomic_load(&answer);
		CHECK(said == 0 || said == -ENOENT);
		connection.wire += completion.wire_bytes;
		if (completion.status == 0) {
			done++;
			CHECK_UEQ(completion.wire_bytes, length);
		} else {
			cancelled++;
			CHECK_EQ(completion.status, -ECANCELED);
			CHECK_EQ(said, 0);
			CHECK_ULE(completion.wire_bytes, length);
		}
		if (completion.wire_bytes != length && completion.wire_bytes != 0) {
			partial++;
			close_connection(&connection);
			open_connection(&connection, round);
		}
	}
	expect_nothing(ctx, 50);
	atomic_store(&over, true);
	PTHREAD(pthread_join(thread, NULL));
	close_connection(&connection);
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	CHECK_UEQ(stats.in_flight, 0);
	CHECK_UEQ(stats.done_ok, done);
	CHECK_UEQ(stats.cancelled, cancelled);
	destroy_ctx(ctx);
	printf("%" PRIu64 " done, %" PRIu64 " cancelled, %" PRIu64 " of them part-way\n", done, cancelled, partial);
	return 0;
}
