/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Who has the answer of snapsend_send sees, without waiting, the completions of all operations that were ahead of
 * it on the socket. Where the processor is emulated, the file may count as a slow one, and DONE waits for its close. */
#include "data_common.h"

#define AHEAD 3

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int sv[2], file = temp_file(300 * KIB, 11);
	pair_of_kind(UNIX, sv, 0);
	for (int round = 0; round < 1000; round++) {
		struct snapsend_request request = make_request(sv[0], file, 0, 2000);
		struct snapsend_completion completions[AHEAD + 1], answer;
		unsigned char got[2000];
		for (int i = 0; i < AHEAD; i++)
			submit_ok(ctx, &request);
		CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &answer), 0);
		CHECK_EQ(answer.status, 0);
		int taken = snapsend_poll(ctx, completions, AHEAD + 1, 0);
		while (slowness() > 1 && taken < AHEAD) {
			CHECK_EQ(snapsend_poll(ctx, completions + taken, 1, WAIT_MS), 1);
			taken++;
		}
		CHECK_EQ(taken, AHEAD);
		for (int i = 0; i <= AHEAD; i++)
			CHECK_UEQ(read_all(sv[1], got, sizeof got), sizeof got);
	}
	destroy_ctx(ctx);
	close_pair(sv);
	close(file);
	return 0;
}
