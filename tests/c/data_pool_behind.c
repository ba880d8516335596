/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is queued behind an operation on its socket never takes from it the room in the pool that it needs to get
 * out of the way: neither could ever end. */
#include "data_common.h"

#define PIECES 3

int main(void)
{
	snapsend_t *ctx = create_ctx_with(0, 4 * MIB, 0);
	struct snapsend_info info;
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	uint64_t piece = info.exact_max / PIECES / 4096 * 4096, all = piece * PIECES;
	int file = temp_file(8 * MIB, 92), full[PIECES][2], sv[2];
	uint64_t holders[PIECES], ids[2 + PIECES];
	for (int i = 0; i < PIECES; i++) { /* others have all the room */
		unix_pair(full[i]);
		stuff_socket(full[i][0]);
		struct snapsend_request request = make_request(full[i][0], file, 0, piece);
		request.flags = SNAPSEND_EAGER;
		holders[i] = submit_ok(ctx, &request);
	}
	sleep_ms(200);
	unix_pair(sv);
	uint64_t before = stuff_socket(sv[0]);
	ids[0] = submit_range(ctx, sv[0], file, 0, 1000);
	struct snapsend_request request = make_request(sv[0], file, 0, all);
	request.flags = SNAPSEND_EXACT;
	ids[1] = submit_ok(ctx, &request);
	for (int i = 0; i < PIECES; i++) {
		request = make_request(sv[0], file, 0, piece);
		request.flags = SNAPSEND_EAGER | SNAPSEND_EXACT;
		ids[2 + i] = submit_ok(ctx, &request);
	}
	sleep_ms(50);
	for (int i = 0; i < PIECES; i++) { /* room comes back in pieces: enough for those behind, not for the first */
		CHECK_EQ(snapsend_cancel(ctx, holders[i]), 0);
		wait_done(ctx, holders[i], NULL);
		sleep_ms(50);
	}
	swallow(sv[1], before);
	unsigned char *image = image_of(0, all, 92), *got = malloc(all);
	CHECK(got != NULL);
	CHECK_UEQ(read_all(sv[1], got, 1000), 1000);
	CHECK_UEQ(read_all(sv[1], got, all), all);
	CHECK(memcmp(got, image, all) == 0);
	for (int i = 0; i < PIECES; i++) {
		CHECK_UEQ(read_all(sv[1], got, piece), piece);
		CHECK(memcmp(got, image, piece) == 0);
	}
	for (int i = 0; i < 2 + PIECES; i++) {
		struct snapsend_completion done;
		wait_done(ctx, ids[i], &done);
		CHECK_EQ(done.status, 0);
	}
	free(image);
	free(got);
	destroy_ctx(ctx);
	return 0;
}
