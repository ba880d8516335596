/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A block device as the file: its size is not in st_size, TO_EOF goes to its end, past it is -ENODATA, and it
 * may be overwritten when DONE comes. */
#include "data_common.h"

#define SIZE (6 * MIB + 512)

static void past_the_end(snapsend_t *ctx, int device)
{
	int sv[2];
	struct snapsend_completion done;
	struct iovec head = { (char[]){ "header" }, 6 };
	tcp_pair(sv);
	struct snapsend_request request = make_request(sv[0], device, SIZE - 10, 11);
	request.header = &head, request.header_count = 1;
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK_EQ(done.status, -ENODATA);
	CHECK_UEQ(done.wire_bytes, 0);
	expect_silence(sv[1]);
	close_pair(sv);
}

static void overwritten(snapsend_t *ctx, int device, const unsigned char *image)
{
	int sv[2];
	static unsigned char got[300000];
	for (int i = 0; i < 2; i++) {
		pair_of_kind(UNIX, sv, SHOT_SNDBUF);
		struct snapsend_request request = make_request(sv[0], device, 5, sizeof got);
		CHECK_EQ(call_done(ctx, CALL_SUBMIT, request).status, 0);
		file_spoil(device, 5, image + 5, sizeof got);
		CHECK_UEQ(read_all(sv[1], got, sizeof got), sizeof got);
		CHECK(memcmp(got, image + 5, sizeof got) == 0);
		file_put(device, 5, image + 5, sizeof got);
		drop_cache(device);
		close_pair(sv);
	}
}

int main(void)
{
	char path[64];
	root_or_skip();
	int backing = temp_file(SIZE, 42), sv[2];
	int device = loop_attach(backing, path);
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, SIZE, 42);
	tcp_pair(sv);
	every_way(ctx, sv, device, image, SIZE, NULL, NULL, NULL);
	transfer_ok(ctx, sv, make_request(-1, device, 4097, 100001), image + 4097, 100001);
	transfer_ok(ctx, sv, make_request(-1, device, 0, SNAPSEND_TO_EOF), image, SIZE);
	transfer_ok(ctx, sv, make_request(-1, device, SIZE - 700, SNAPSEND_TO_EOF), image + SIZE - 700, 700);
	transfer_ok(ctx, sv, make_request(-1, device, SIZE, SNAPSEND_TO_EOF), NULL, 0);
	past_the_end(ctx, device);
	overwritten(ctx, device, image);
	destroy_ctx(ctx);
	close(device);
	free(image);
	return 0;
}
