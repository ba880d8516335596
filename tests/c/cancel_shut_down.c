/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An operation that waits for room gets its DONE when it is cancelled in the very moment in which its socket is shut
 * down: that wakes the wait without there being room, and the kernel refuses to take a wait back while it looks. */
#include "data_common.h"

#define OPERATIONS 20

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(300 * KIB, 21);
	for (int round = 0; round < 3000; round++) {
		struct snapsend_completion done[2 * OPERATIONS];
		int sv[2];
		bool is_peer = round % 2;
		if (is_peer)
			tcp_pair(sv);
		else
			pair_of_kind(UNIX, sv, 0);
		struct snapsend_request request = make_request(sv[0], file, 0, 257028);
		for (int i = 0; i < OPERATIONS; i++)
			submit_ok(ctx, &request);
		sleep_ms(round % 3);
		shutdown(is_peer ? sv[1] : sv[0], SHUT_WR);
		snapsend_cancel_socket(ctx, sv[0]);
		for (int ended = 0; ended < OPERATIONS;) {
			int n = snapsend_poll(ctx, done, COUNT_OF(done), 10000);
			if (n <= 0)
				fail("round %d: %d of %d have ended", round, ended, OPERATIONS);
			ended += n;
		}
		close_pair(sv);
	}
	close(file);
	destroy_ctx(ctx);
	return 0;
}
