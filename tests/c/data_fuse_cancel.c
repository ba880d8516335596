/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Operations whose read hangs: cancel and timeout are accepted, the DONE comes at the latest when the read comes
 * back, nothing was sent, and others on the same file go on. */
#include "data_fuse.h"

#define SIZE (2 * MIB)

static void one(const char *path, bool direct, uint32_t flags, bool by_timeout)
{
	snapsend_t *ctx = create_ctx();
	int file = fuse_open(path, direct), sv[2];
	struct snapsend_completion done;
	posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	tcp_pair(sv);
	atomic_store(&fuse->hold, true);
	int before = atomic_load(&fuse->reads);
	struct snapsend_request request = make_request(sv[0], file, 0, SIZE);
	request.flags = flags;
	request.timeout_ms = by_timeout ? 50 : 0;
	uint64_t id = submit_ok(ctx, &request);
	for (int i = 0; i < 2000 && atomic_load(&fuse->reads) == before; i++)
		sleep_ms(1);
	CHECK_NE(atomic_load(&fuse->reads), before);
	if (!by_timeout)
		CHECK_EQ(snapsend_cancel(ctx, id), 0);
	bool at_once = wait_event(ctx, id, SNAPSEND_EVENT_DONE, &done, 300);
	atomic_store(&fuse->hold, false);
	if (!at_once)
		wait_done(ctx, id, &done);
	CHECK_EQ(done.status, by_timeout ? -ETIMEDOUT : -ECANCELED);
	CHECK_UEQ(done.wire_bytes, 0);
	expect_silence(sv[1]);
	unsigned char *image = image_of(0, SIZE, 75);
	transfer_ok(ctx, sv, make_request(-1, file, 0, SIZE), image, SIZE);
	free(image);
	close_pair(sv);
	close(file);
	destroy_ctx(ctx);
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	const char *path = fuse_mount(SIZE, 75, 8);
	for (int i = 0; i < 12; i++) {
		doing(i & 1 ? "direct" : "with the page cache");
		one(path, i & 1, flags[i / 4], i & 2);
	}
	return 0;
}
