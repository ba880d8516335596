/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An empty range: header and trailer alone, or nothing at all; one DONE with status 0. */
#include "common.h"

static snapsend_t *ctx;
static int sv[2];

static void one(struct snapsend_request *request, int way, uint64_t wire)
{
	struct snapsend_completion completion;
	char got[16];
	if (way == 0)
		wait_done(ctx, submit_ok(ctx, request), &completion);
	else if (way == 1)
		CHECK_EQ(snapsend_send(ctx, request, sizeof *request, &completion), 0);
	else if (snapsend_try_send(ctx, request, sizeof *request, &completion) == 0)
		wait_done(ctx, completion.id, &completion);
	CHECK_EQ(completion.status, 0);
	CHECK_UEQ(completion.file_bytes, 0);
	CHECK_UEQ(completion.wire_bytes, wire);
	CHECK_EQ(read_all(sv[1], got, wire), wire);
	CHECK(memcmp(got, "heatail", wire) == 0);
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_ZERO_PAD };
	struct iovec head[2] = { { "h", 1 }, { "ea", 2 } }, tail = { "tail", 4 };
	ctx = create_ctx();
	tcp_pair(sv);
	int file = temp_file(100, 1);

	for (size_t f = 0; f < COUNT_OF(flags); f++) {
		for (int way = 0; way < 3; way++) {
			struct snapsend_request request = make_request(sv[0], file, 50, 0);
			request.flags = flags[f];
			one(&request, way, 0);
			request.header = head;
			request.header_count = 2;
			one(&request, way, 3);
			request.trailer = &tail;
			request.trailer_count = 1;
			one(&request, way, 7);
			request.file_fd = -1; /* memory alone */
			request.offset = 0;
			one(&request, way, 7);
			request.trailer_count = 0;
			one(&request, way, 3);
			request.header_count = 0;
			one(&request, way, 0);
		}
	}

	/* With NOTIFY_SNAPSHOT: at most one such event, and never after DONE. */
	struct snapsend_request request = make_request(sv[0], file, 0, 0);
	request.flags = SNAPSEND_NOTIFY_SNAPSHOT;
	uint64_t id = submit_ok(ctx, &request);
	struct snapsend_completion completion;
	int snapshots = 0;
	do {
		CHECK_EQ(snapsend_poll(ctx, &completion, 1, WAIT_MS), 1);
		CHECK_UEQ(completion.id, id);
		snapshots += completion.event == SNAPSEND_EVENT_SNAPSHOT;
	} while (completion.event != SNAPSEND_EVENT_DONE);
	CHECK_LE(snapshots, 1);
	CHECK_EQ(completion.status, 0);
	expect_nothing(ctx, 20);
	CHECK_UEQ(drain(sv[1], 20), 0);
	destroy_ctx(ctx);
	return 0;
}
