/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* 16 sockets with 32 MiB each: they proceed together, none is finished before the slowest has begun, and a
 * stalled one among them holds up nobody. */
#include "data_common.h"

#define SOCKETS 16
#define LENGTH  (32 * MIB)

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(0, 0), sv[SOCKETS + 1][2];
	uint64_t ids[SOCKETS], least = LENGTH;
	struct reader readers[SOCKETS];
	SYS(ftruncate(file, LENGTH));
	tcp_pair(sv[SOCKETS]);
	struct snapsend_request request = make_request(sv[SOCKETS][0], file, 0, LENGTH);
	uint64_t stalled = submit_ok(ctx, &request);
	for (int i = 0; i < SOCKETS; i++) {
		pair_of_kind(i % 2 ? TCP4 : UNIX, sv[i], 0);
		reader_init(&readers[i], sv[i][1], LENGTH);
		reader_go(&readers[i]);
	}
	for (int i = 0; i < SOCKETS; i++) {
		request = make_request(sv[i][0], file, 0, LENGTH);
		ids[i] = submit_ok(ctx, &request);
	}
	struct snapsend_completion done;
	do
		CHECK_EQ(snapsend_poll(ctx, &done, 1, WAIT_MS), 1);
	while (done.event != SNAPSEND_EVENT_DONE);
	CHECK_EQ(done.status, 0);
	CHECK_UNE(done.id, stalled);
	for (int i = 0; i < SOCKETS; i++) {
		uint64_t got = atomic_load(&readers[i].got);
		least = got < least ? got : least;
	}
	CHECK_UGE(least, 1);
	for (int i = 0; i < SOCKETS; i++) {
		uint64_t first = done.id;
		if (ids[i] != first) {
			struct snapsend_completion one;
			wait_done(ctx, ids[i], &one);
			CHECK_EQ(one.status, 0);
		}
		reader_join(&readers[i]);
	}
	CHECK_EQ(snapsend_cancel(ctx, stalled), 0);
	wait_done(ctx, stalled, &done);
	CHECK_EQ(done.status, -ECANCELED);
	destroy_ctx(ctx);
	return 0;
}
