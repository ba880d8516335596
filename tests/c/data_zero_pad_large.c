/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ZERO_PAD with far more zeros than file: no memory for them, and all of them arrive. */
#include "data_common.h"

#define PAD (1 * GIB)

static void *read_zeros(void *argument)
{
	static unsigned char got[MIB], zeros[MIB];
	uint64_t left = PAD;
	int fd = *(int *)argument;
	CHECK_UEQ(read_all(fd, got, 5000), 5000);
	CHECK_UEQ(pattern_bad(got, 0, 5000, 24), SIZE_MAX);
	while (left > 0) {
		size_t n = left < MIB ? (size_t)left : MIB;
		CHECK_UEQ(read_all(fd, got, n), n);
		CHECK(memcmp(got, zeros, n) == 0);
		left -= n;
	}
	return NULL;
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(5000, 24), sv[2];
	struct snapsend_completion done;
	struct snapsend_stats stats;
	pthread_t thread;
	tcp_pair(sv);
	struct snapsend_request request = make_request(sv[0], file, 0, PAD + 5000);
	request.flags = SNAPSEND_ZERO_PAD;
	PTHREAD(pthread_create(&thread, NULL, read_zeros, &sv[1]));
	wait_done_ms(ctx, submit_ok(ctx, &request), &done, 50000);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.file_bytes, PAD + 5000);
	CHECK_UNE(done.flags & SNAPSEND_WAS_PADDED, 0);
	PTHREAD(pthread_join(thread, NULL));
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	CHECK_ULE(stats.pool_resident, 32 * MIB);
	destroy_ctx(ctx);
	return 0;
}
