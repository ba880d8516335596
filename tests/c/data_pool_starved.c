/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stalled EAGER operations hold the whole pool: an ordinary operation on another socket, cold or warm,
 * goes on nevertheless. */
#include "data_common.h"

#define POOL (4 * MIB)
#define OPS  8

int main(void)
{
	snapsend_t *ctx = create_ctx_with(0, POOL, 0);
	int file = temp_file(2 * MIB, 20), sv[OPS][2], healthy[2];
	unsigned char *image = image_of(0, 2 * MIB, 20);
	for (int i = 0; i < OPS; i++) {
		pair_of_kind(i % 2 ? TCP4 : UNIX, sv[i], 0);
		stuff_socket(sv[i][0]);
		struct snapsend_request request = make_request(sv[i][0], file, 0, 2 * MIB);
		request.flags = SNAPSEND_EAGER;
		submit_ok(ctx, &request);
	}
	sleep_ms(50);
	tcp_pair(healthy);
	for (int i = 0; i < 20; i++) {
		if (i % 2)
			drop_cache(file);
		int64_t start = now_ms();
		transfer_ok(ctx, healthy, make_request(-1, file, 1, 2 * MIB - 1), image + 1, 2 * MIB - 1);
		CHECK_LT(now_ms() - start, 5000);
	}
	for (int i = 0; i < OPS; i++)
		CHECK_EQ(snapsend_cancel_socket(ctx, sv[i][0]), 1);
	free(image);
	destroy_ctx(ctx);
	return 0;
}
