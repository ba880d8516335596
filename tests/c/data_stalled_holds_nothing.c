/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What waits for a slow peer holds neither pool nor mapping of the file, whichever way its data goes: to a known
 * end (mapped where warm) or to the file's (read), warm or cold, also after part of it has gone out. */
#include "data_common.h"

#define LENGTH (6 * MIB)
#define EACH   4

int main(void)
{
	static const uint64_t lengths[EACH] = { LENGTH, SNAPSEND_TO_EOF, LENGTH - 4097, 20000 };
	snapsend_t *ctx = create_ctx();
	char path[PATH_MAX];
	int file = temp_file_path(LENGTH, 93, path), sv[EACH * KINDS][2], count = 0;
	struct snapsend_stats stats;
	for (int cold = 0; cold < 2; cold++) {
		if (cold)
			drop_cache(file);
		count = 0;
		for (int i = 0; i < EACH * KINDS; i++) {
			bool is_short = lengths[i / KINDS] == 20000;
			/* A full TCP connection takes so little yet, when the peer packs its buffers on a window probe. */
			if ((is_short && i % KINDS != UNIX) || !pair_of_kind((enum kind)(i % KINDS), sv[count], 0))
				continue;
			if (is_short)
				stuff_socket(sv[count][0]);
			submit_range(ctx, sv[count][0], file, 0, lengths[i / KINDS]);
			count++;
		}
		sleep_ms(400);
		expect_nothing(ctx, 0);
		CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
		CHECK_UEQ(stats.pool_in_use, 0);
		CHECK_EQ(count_mappings(path), 0);
		for (int i = 0; i < count; i++) {
			CHECK_EQ(snapsend_cancel_socket(ctx, sv[i][0]), 1);
			close_pair(sv[i]);
		}
		sleep_ms(50);
		while (snapsend_poll(ctx, &(struct snapsend_completion){ 0 }, 1, 0) == 1)
			;
	}
	destroy_ctx(ctx);
	return 0;
}
