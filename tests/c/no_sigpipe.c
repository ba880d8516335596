/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A peer that is gone: -EPIPE or -ECONNRESET in the completion, never a SIGPIPE (which would kill this
 * test), through submit, send and try_send. */
#include "common.h"

static snapsend_t *ctx;
static int file;

static void gone(int family, bool reset, int way)
{
	int sv[2];
	struct snapsend_completion completion;
	if (!pair_sized(family, sv, 0, 0))
		return;
	if (reset)
		reset_close(sv[1]);
	else
		close(sv[1]);
	/* The first one may still go into the socket of a peer that closed in good order. */
	for (int i = 0; i < 4; i++) {
		struct snapsend_request request = make_request(sv[0], file, 0, i < 2 ? 1000 : 500000);
		if (way == 0)
			wait_done(ctx, submit_ok(ctx, &request), &completion);
		else if (way == 1)
			CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
		else if (snapsend_try_send(ctx, &request, sizeof request, &completion) == 0)
			wait_done(ctx, completion.id, &completion);
		if (completion.status != 0) {
			CHECK(completion.status == -EPIPE || completion.status == -ECONNRESET);
		} else {
			CHECK_UEQ(completion.wire_bytes, request.length);
			CHECK_EQ(i, 0);
			CHECK(!reset && family != AF_UNIX);
		}
		sleep_ms(5); /* the reset arrives */
	}
	CHECK_EQ(completion.status, -EPIPE); /* reported once as a reset, from then on a broken pipe */
	CHECK_UEQ(completion.wire_bytes, 0);
	close(sv[0]);
}

/* The peer goes in the midst of it. */
static void midway(int family, int way)
{
	int sv[2];
	struct snapsend_completion completion;
	if (!pair_sized(family, sv, 0, 0))
		return;
	struct snapsend_request request = make_request(sv[0], file, 0, 12 * MIB);
	request.timeout_ms = way == 1 ? 300 : 0;
	if (way == 0) {
		uint64_t id = submit_ok(ctx, &request);
		uint64_t behind = submit_ok(ctx, &request);
		sleep_ms(50);
		reset_close(sv[1]);
		wait_done(ctx, id, &completion);
		CHECK(completion.status == -EPIPE || completion.status == -ECONNRESET);
		CHECK_UGE(completion.wire_bytes, 1);
		wait_done(ctx, behind, &completion);
		CHECK_EQ(completion.status, -ECANCELED); /* behind one that was cut off */
		CHECK_UEQ(completion.wire_bytes, 0);
	} else {
		CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
		CHECK_EQ(completion.status, -ETIMEDOUT);
		reset_close(sv[1]);
	}
	close(sv[0]);
}

int main(void)
{
	static const int families[] = { AF_INET, AF_INET6, AF_UNIX };
	ctx = create_ctx();
	file = temp_file(12 * MIB, 1);
	for (size_t i = 0; i < COUNT_OF(families); i++) {
		for (int way = 0; way < 3; way++) {
			gone(families[i], true, way);
			gone(families[i], false, way);
		}
		midway(families[i], 0);
		midway(families[i], 1);
	}
	sigset_t pending;
	SYS(sigpending(&pending));
	CHECK_EQ(sigismember(&pending, SIGPIPE), 0);
	expect_nothing(ctx, 20);
	destroy_ctx(ctx);
	return 0;
}
