/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* EXACT by try_send into a socket with too little room: when the first byte is there, the whole range has been
 * snapshotted. The file is changed then; what comes after must be as it was. Without EXACT it may be changed, and
 * is, which shows that this test can fail. */
#include "data_common.h"

#define LENGTH (100 * KIB)

static size_t changed_after_first_byte(snapsend_t *ctx, int file, const unsigned char *image, uint32_t flags)
{
	static unsigned char got[LENGTH];
	struct snapsend_completion done;
	int sv[2];
	CHECK(pair_sized(AF_UNIX, sv, 16 * KIB, 0));
	file_put(file, 0, image, LENGTH);
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = flags;
	int result = snapsend_try_send(ctx, &request, sizeof request, &done);
	CHECK_EQ(result, 0);
	for (int i = 0; i < WAIT_MS && unread(sv[1]) == 0; i++)
		sleep_ms(1);
	CHECK_GT(unread(sv[1]), 0);
	sleep_ms(100); /* what was read and could not be sent is given up by now, unless it must be kept */
	file_spoil(file, 0, image, LENGTH);
	CHECK_UEQ(read_all(sv[1], got, LENGTH), LENGTH);
	wait_done(ctx, done.id, &done);
	CHECK_EQ(done.status, 0);
	close_pair(sv);
	return count_different(got, image, LENGTH);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, LENGTH, 9);
	int file = temp_file(LENGTH, 9);
	for (int i = 0; i < 20; i++) {
		CHECK_UEQ(changed_after_first_byte(ctx, file, image, SNAPSEND_EXACT), 0);
		CHECK_UGE(changed_after_first_byte(ctx, file, image, 0), 1);
	}
	free(image);
	close(file);
	destroy_ctx(ctx);
	return 0;
}
