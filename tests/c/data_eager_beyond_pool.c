/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* EAGER ranges that together are longer than the pool, on stalled peers: memory stays within the pool, and
 * all arrive whole once the peers read. */
#include "data_common.h"

#define POOL   (4 * MIB)
#define LENGTH (6 * MIB)
#define OPS    4

int main(void)
{
	snapsend_t *ctx = create_ctx_with(0, POOL, 0);
	int file = temp_file(LENGTH, 19), sv[OPS][2];
	uint64_t ids[OPS], before[OPS];
	struct snapsend_stats stats;
	struct snapsend_completion done;
	for (int i = 0; i < OPS; i++) {
		pair_of_kind(i % 2 ? TCP4 : UNIX, sv[i], 0);
		before[i] = stuff_socket(sv[i][0]);
		struct snapsend_request request = make_request(sv[i][0], file, 0, LENGTH);
		request.flags = SNAPSEND_EAGER;
		ids[i] = submit_ok(ctx, &request);
	}
	for (int i = 0; i < 30; i++) {
		CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
		CHECK_ULE(stats.pool_in_use, POOL);
		CHECK_ULE(stats.pool_resident, POOL);
		sleep_ms(5);
	}
	for (int i = OPS - 1; i >= 0; i--) { /* not in the order in which they got the pool */
		struct reader reader;
		swallow(sv[i][1], before[i]);
		reader_start_check(&reader, sv[i][1], LENGTH, 0, 19);
		wait_done(ctx, ids[i], &done);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.wire_bytes, LENGTH);
		reader_join(&reader);
	}
	destroy_ctx(ctx);
	return 0;
}
