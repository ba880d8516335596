/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Cancel all operations on a socket whose first one has gone out in part: its end takes those behind along, and
 * the context is as good as before. */
#include "data_common.h"

#define BEHIND 5

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(0, 1);
	SYS(ftruncate(file, 256 * MIB)); /* more than sockets take */
	for (int round = 0; round < 20; round++) {
		int sv[2];
		uint64_t ids[1 + BEHIND], wire = 0;
		struct snapsend_completion done;
		CHECK(pair_of_kind(round % 2 ? TCP4 : UNIX, sv, 0));
		for (int i = 0; i <= BEHIND; i++) {
			struct snapsend_request request = make_request(sv[0], file, 0, i == 0 ? 256 * MIB : 1000);
			request.flags = round / 2 % 2 ? SNAPSEND_EAGER : 0;
			ids[i] = submit_ok(ctx, &request);
		}
		while (unread(sv[1]) == 0)
			sleep_ms(1);
		CHECK_EQ(snapsend_cancel_socket(ctx, sv[0]), 1 + BEHIND);
		for (int i = 0; i <= BEHIND; i++) {
			wait_done_ms(ctx, ids[i], &done, 5000);
			CHECK_EQ(done.status, -ECANCELED);
			CHECK(i == 0 ? done.wire_bytes > 0 : done.wire_bytes == 0);
			wire += done.wire_bytes;
		}
		SYS(shutdown(sv[0], SHUT_WR));
		CHECK_UEQ(drain(sv[1], 5000), wire);
		close_pair(sv);
	}
	destroy_ctx(ctx);
	return 0;
}
