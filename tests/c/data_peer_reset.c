/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The peer resets the connection at random moments: DONE with the error, no SIGPIPE, and those queued behind
 * end too, with nothing sent. */
#include "data_common.h"

#define LENGTH (8 * MIB)
#define ROUNDS 100

static void one(snapsend_t *ctx, int file, int round)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	int sv[2];
	uint64_t ids[3];
	struct snapsend_completion done[3];
	if (!pair_of_kind((enum kind)(round % KINDS), sv, 0))
		return;
	if (round < KINDS)
		reset_close(sv[1]); /* before submit */
	for (int i = 0; i < 3; i++) {
		struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
		request.flags = flags[round / KINDS % 3];
		ids[i] = submit_ok(ctx, &request);
	}
	uint64_t taken = 0;
	static unsigned char some[100000];
	if (round >= KINDS) {
		usleep((useconds_t)(rand() % 3000));
		if (round % 2 && unread(sv[1]) > 0)
			taken = (uint64_t)SYS(recv(sv[1], some, sizeof some, 0));
		if (round % 4 < 2)
			reset_close(sv[1]);
		else
			close(sv[1]); /* with unread data: a reset too */
	}
	for (int i = 0; i < 3; i++) {
		wait_done(ctx, ids[i], &done[i]);
		bool ended = done[i].status == -ECONNRESET || done[i].status == -EPIPE;
		if (i > 0 && done[i - 1].status != 0) { /* behind a cut, or behind one that was tried in vain */
			CHECK_UEQ(done[i].wire_bytes, 0);
			CHECK(done[i].status == -ECANCELED || (ended && done[i - 1].wire_bytes == 0));
		} else if (done[i].status != 0) {
			CHECK(ended);
		}
	}
	CHECK(done[2].status != 0); /* 24 MiB do not fit */
	CHECK_UGE(done[0].wire_bytes + done[1].wire_bytes + done[2].wire_bytes, taken);
	close(sv[0]);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 34);
	srand(34);
	for (int round = 0; round < ROUNDS; round++)
		one(ctx, file, round);
	destroy_ctx(ctx);
	return 0;
}
