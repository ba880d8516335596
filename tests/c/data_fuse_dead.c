/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The server of a network file system dies in the middle: each operation ends with an error or whole, and destroy
 * comes back. */
#include "data_fuse.h"

#define SIZE (8 * MIB)
#define OPS  6

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	const char *path = fuse_mount(SIZE, 72, 4);
	snapsend_t *ctx = create_ctx();
	int file = fuse_open(path, false), sv[OPS][2];
	uint64_t ids[OPS];
	struct reader readers[OPS];
	atomic_store(&fuse->delay_ms, 3);
	for (int i = 0; i < OPS; i++) {
		pair_of_kind(i % 2 ? TCP4 : UNIX, sv[i], 0);
		reader_start_check(&readers[i], sv[i][1], UINT64_MAX, 0, 72);
		struct snapsend_request request = make_request(sv[i][0], file, 0, SIZE);
		request.flags = flags[i % 3];
		ids[i] = submit_ok(ctx, &request);
	}
	while (atomic_load(&fuse->reads) < 10)
		sleep_ms(1);
	SYS(kill(fuse_pid, SIGKILL));
	for (int i = 0; i < OPS; i++) {
		struct snapsend_completion done;
		wait_done(ctx, ids[i], &done);
		CHECK_NE(done.status, -ENODATA); /* it is not the end of the file */
		CHECK_EQ(done.status == 0, done.wire_bytes == SIZE);
		SYS(shutdown(sv[i][0], SHUT_WR));
		CHECK_UEQ(reader_join(&readers[i]), done.wire_bytes);
	}
	destroy_ctx(ctx);
	return 0;
}
