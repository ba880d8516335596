/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* However many peers are stalled, a small warm answer to another goes out on the calling thread at once. */
#include "data_common.h"

#define STALLED 1500
#define LIVELY  64
#define SIZE    4096

int main(void)
{
	static int stalled[STALLED][2];
	snapsend_t *ctx = create_ctx();
	int file = temp_file(SIZE * LIVELY, 61);
	unsigned queued = 0;
	raise_fd_limit(STALLED * 2 + 200);
	for (int i = 0; i < STALLED; i++) {
		unix_pair(stalled[i]);
		while (send(stalled[i][0], &stalled, sizeof stalled, MSG_DONTWAIT) > 0)
			;
		submit_range(ctx, stalled[i][0], file, 0, SIZE);
	}
	for (int i = 0; i < LIVELY; i++) {
		struct snapsend_completion done;
		unsigned char got[SIZE];
		int sv[2], r;
		unix_pair(sv);
		struct snapsend_request request = make_request(sv[0], file, (uint64_t)i * SIZE, SIZE);
		r = snapsend_try_send(ctx, &request, sizeof request, &done);
		CHECK(r == 0 || r == 1);
		if (r == 0) {
			queued++;
			CHECK_EQ(snapsend_poll(ctx, &done, 1, 10000), 1);
		}
		CHECK_EQ(done.status, 0);
		CHECK_EQ(read_all(sv[1], got, SIZE), SIZE);
		CHECK_UEQ(pattern_bad(got, (uint64_t)i * SIZE, SIZE, 61), SIZE_MAX);
		close_pair(sv);
	}
	printf("%u of %d were queued\n", queued, LIVELY);
	CHECK_UEQ(queued, 0);
	for (int i = 0; i < STALLED; i++)
		close_pair(stalled[i]);
	destroy_ctx(ctx);
	return 0;
}
