/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* File systems give short reads (NFS, 9p, FUSE): one is not the end of the file. And files that cannot be
 * mapped are read. */
#include "data_fuse.h"

#define SIZE (MIB + 777)

int main(void)
{
	static const int shorts[] = { 0, 100000, 4096, 3001 };
	const char *path = fuse_mount(SIZE, 70, 4);
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, SIZE, 70);
	int sv[2];
	tcp_pair(sv);
	for (int direct = 0; direct < 2; direct++) {
		int file = fuse_open(path, direct);
		for (size_t i = 0; i < COUNT_OF(shorts); i++) {
			if (!direct && shorts[i] != 0)
				continue; /* with the page cache a short answer is the end of the file */
			atomic_store(&fuse->short_max, shorts[i]);
			every_way(ctx, sv, file, image, SIZE, NULL, NULL, NULL);
			transfer_ok(ctx, sv, make_request(-1, file, 7, SNAPSEND_TO_EOF), image + 7, SIZE - 7);
			struct snapsend_completion done;
			wait_done(ctx, submit_range(ctx, sv[0], file, 1, SIZE), &done);
			CHECK_EQ(done.status, -ENODATA);
			CHECK_UEQ(done.wire_bytes, 0);
		}
		close(file);
	}
	free(image);
	destroy_ctx(ctx);
	return 0;
}
