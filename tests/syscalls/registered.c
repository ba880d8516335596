/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a call costs with registered descriptors, for tests/run-syscalls: each call lies between two marks, the first
 * of which says what is promised of it. Marks are calls that nobody else makes. */
#include "../c/registered.h"

#define LENGTH   MIB
#define BURST    40
#define ATTEMPTS 10

enum promise { TRY_SEND = 1, TO_SLEEPING, TO_WAITING, TO_BUSY, WITHOUT_HANDLES };

static void begin(enum promise promise)
{
	(void)getpgid(-5000 - (int)promise);
}

static void end(void)
{
	(void)getpgid(-4999);
}

/* Read at once, so that the socket has room for all. */
static void try_sends(struct ends *ends)
{
	static const uint64_t lengths[] = { 1, 4096, 65536, 200000, 700000, LENGTH };
	static unsigned char got[LENGTH + 200];
	char wrap[100] = { 0 };
	struct iovec header = { wrap, sizeof wrap };
	struct snapsend_completion done;
	for (size_t i = 0; i < 2 * COUNT_OF(lengths); i++) {
		uint64_t length = lengths[i / 2], wire = length + (i % 2 ? 2 * sizeof wrap : 0);
		struct snapsend_request request = ends_request(ends, BY_HANDLE, 0, length);
		if (i % 2) {
			request.header = request.trailer = &header;
			request.header_count = request.trailer_count = 1;
		}
		begin(TRY_SEND);
		int result = snapsend_try_send(ends->ctx, &request, sizeof request, &done);
		end();
		CHECK_EQ(result, 1);
		CHECK_UEQ(done.wire_bytes, wire);
		CHECK_UEQ(read_all(ends->sv[1], got, wire), wire);
	}
}

static void submit_one(struct ends *ends, enum promise promise, int naming, bool many)
{
	char got[1000];
	uint64_t id;
	struct snapsend_completion done;
	struct snapsend_request request = ends_request(ends, naming, 0, sizeof got);
	sleep_ms(100); /* for as long as it takes until the ring thread has nothing to do */
	begin(promise);
	int result = many ? snapsend_submit_many(ends->ctx, &request, sizeof request, 1, &id) - 1
			  : snapsend_submit(ends->ctx, &request, sizeof request, &id);
	end();
	CHECK_EQ(result, 0);
	wait_done(ends->ctx, id, &done);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(read_all(ends->sv[1], got, sizeof got), sizeof got);
}

/* The first wakes the ring thread, which is busy with it, being watched, for longer than the others take. */
static void burst(struct ends *ends)
{
	uint64_t ids[BURST];
	unsigned char got[100];
	struct snapsend_request request = ends_request(ends, BY_HANDLE, 0, sizeof got);
	for (int i = 0; i < BURST; i++) {
		if (i == 1)
			begin(TO_BUSY);
		ids[i] = submit_ok(ends->ctx, &request);
	}
	end();
	for (int i = 0; i < BURST; i++) {
		wait_done(ends->ctx, ids[i], NULL);
		CHECK_UEQ(read_all(ends->sv[1], got, sizeof got), sizeof got);
	}
}

int main(void)
{
	struct ends ends, stuck;
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 9);
	ends.ctx = ctx, ends.file = file;
	CHECK(pair_of_kind(UNIX, ends.sv, 4 * LENGTH));
	ends_register(&ends);
	struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, 1000);
	CHECK_EQ(call_done(ctx, CALL_TRY_SEND, request).status, 0); /* has its buffer from now on */
	swallow(ends.sv[1], 1000);
	try_sends(&ends);
	struct ends over_tcp = { .ctx = ctx, .file = file };
	CHECK(pair_of_kind(TCP4, over_tcp.sv, 4 * LENGTH));
	ends_register(&over_tcp);
	try_sends(&over_tcp);
	ends_close(&over_tcp);
	submit_one(&ends, WITHOUT_HANDLES, BY_NUMBER, false);
	submit_one(&ends, WITHOUT_HANDLES, BY_NUMBER, true); /* has its lists from now on */
	for (int i = 0; i < ATTEMPTS; i++)
		submit_one(&ends, TO_SLEEPING, BY_HANDLE, i % 2);
	for (int i = 0; i < ATTEMPTS; i++)
		burst(&ends);
	ends_open(&stuck, ctx, TCP4, file);
	for (int i = 0; i < 64; i++) { /* for a peer that does not read */
		request = ends_request(&stuck, BY_HANDLE, 0, LENGTH);
		submit_ok(ctx, &request);
	}
	for (int i = 0; i < ATTEMPTS; i++)
		submit_one(&ends, TO_WAITING, BY_HANDLE, i % 2);
	ends_close(&stuck);
	ends_close(&ends);
	destroy_ctx(ctx);
	return 0;
}
