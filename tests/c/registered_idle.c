/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Registered descriptors that are not used for seconds, in which the library gives memory back, work as before; what
 * the peer does to an idle connection is reported by the next operation, and others are not affected; cancel and
 * cancel_socket, by the socket's number, find operations that were submitted by handle. */
#include "registered.h"

#define LENGTH (4 * MIB)

static void works(const struct ends *ends, uint64_t length)
{
	for (int call = 0; call < CALLS; call++) {
		struct reader reader;
		struct snapsend_request request = ends_request(ends, BY_HANDLE, 0, length);
		reader_start_check(&reader, ends->sv[1], length, 0, 40);
		CHECK_EQ(call_done(ends->ctx, (enum call)call, request).status, 0);
		reader_join(&reader);
	}
}

static void idle(snapsend_t *ctx, int file)
{
	struct ends ends[KINDS * 4];
	for (size_t i = 0; i < COUNT_OF(ends); i++)
		ends_open(&ends[i], ctx, i % 2 ? TCP4 : UNIX, file);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < COUNT_OF(ends); i += (size_t)round + 1)
			works(&ends[i], i % 3 ? 1000 : LENGTH);
		sleep_ms(round < 2 ? 1500 : 10);
	}
	for (size_t i = 0; i < COUNT_OF(ends); i++)
		ends_close(&ends[i]);
}

/* What the peer has done is found out by each call, and again by each later one. */
static void broken(snapsend_t *ctx, int file, bool by_reset)
{
	for (int call = 0; call < CALLS; call++) {
		struct ends ends;
		ends_open(&ends, ctx, by_reset ? TCP4 : UNIX, file);
		works(&ends, 1000);
		if (by_reset)
			reset_close(ends.sv[1]);
		else
			close(ends.sv[1]);
		sleep_ms(20);
		for (int i = 0; i < 3; i++) {
			struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, 1000);
			struct snapsend_completion done = call_done(ctx, (enum call)call, request);
			CHECK(done.status == -EPIPE || done.status == -ECONNRESET);
			CHECK_UEQ(done.wire_bytes, 0);
		}
		unregister_socket_ok(ctx, ends.socket_handle);
		unregister_file_ok(ctx, ends.file_handle);
		close(ends.sv[0]);
	}
}

/* The caller's own side is shut down: its operations fail, and the peer sees the end although it is registered. */
static void shut_down(snapsend_t *ctx, int file)
{
	struct ends ends;
	ends_open(&ends, ctx, TCP4, file);
	works(&ends, 1000);
	SYS(shutdown(ends.sv[0], SHUT_WR));
	expect_eof(ends.sv[1], WAIT_MS);
	struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, 1000);
	CHECK_EQ(call_done(ctx, CALL_SUBMIT, request).status, -EPIPE);
	ends_close(&ends);
}

/* The peer leaves while operations wait for it: each ends, and the handle stays valid until it is unregistered. */
static void left_in_flight(snapsend_t *ctx, int file)
{
	struct ends ends;
	struct snapsend_completion done;
	uint64_t ids[4];
	ends_open(&ends, ctx, TCP4, file);
	struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, LENGTH);
	for (int i = 0; i < 4; i++)
		ids[i] = submit_ok(ctx, &request);
	sleep_ms(20);
	reset_close(ends.sv[1]);
	for (int i = 0; i < 4; i++) {
		wait_done(ctx, ids[i], &done);
		CHECK_LT(done.status, 0);
		CHECK_EQ(i > 0 && done.wire_bytes > 0, 0);
	}
	request = ends_request(&ends, BY_HANDLE, 0, 1000);
	CHECK_LT(call_done(ctx, CALL_SUBMIT, request).status, 0);
	unregister_socket_ok(ctx, ends.socket_handle);
	unregister_file_ok(ctx, ends.file_handle);
	close(ends.sv[0]);
}

static void cancelled(snapsend_t *ctx, int file)
{
	struct ends ends;
	struct snapsend_completion done;
	uint64_t ids[6];
	for (int by_socket = 0; by_socket < 2; by_socket++) {
		ends_open(&ends, ctx, by_socket ? TCP4 : UNIX, file);
		for (int i = 0; i < 6; i++) {
			struct snapsend_request request = ends_request(&ends, i % 4, 0, 16 * LENGTH);
			request.flags |= SNAPSEND_ZERO_PAD;
			ids[i] = submit_ok(ctx, &request);
		}
		if (by_socket)
			CHECK_EQ(snapsend_cancel_socket(ctx, ends.sv[0]), 6);
		for (int i = 5; i >= 0 && !by_socket; i--)
			CHECK_EQ(snapsend_cancel(ctx, ids[i]), 0);
		for (int i = 0; i < 6; i++) {
			wait_done(ctx, ids[i], &done);
			CHECK_EQ(done.status, -ECANCELED);
			CHECK_EQ(i > 0 && done.wire_bytes > 0, 0);
		}
		CHECK_ERR(snapsend_cancel(ctx, ids[0]), ENOENT);
		CHECK_EQ(snapsend_cancel_socket(ctx, ends.sv[0]), 0);
		/* The stream is the caller's to end, but the handle is valid. */
		drain(ends.sv[1], 50);
		works(&ends, 1000);
		ends_close(&ends);
	}
}

int main(void)
{
	allow_few_descriptors();
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 40), room = room_for_registrations(ctx, file);
	doing("cancelled");
	cancelled(ctx, file);
	doing("closed by the peer");
	broken(ctx, file, false);
	doing("reset by the peer");
	broken(ctx, file, true);
	doing("shut down");
	shut_down(ctx, file);
	doing("left in flight");
	left_in_flight(ctx, file);
	doing("idle");
	idle(ctx, file);
	expect_nothing(ctx, 20);
	CHECK_EQ(room_for_registrations(ctx, file), room);
	destroy_soon(ctx);
	return 0;
}
