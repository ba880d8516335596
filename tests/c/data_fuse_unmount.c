/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A file system with a server, too, can be unmounted as soon as DONE has been taken and the caller has closed the
 * file: where the server answers, the library's copy is closed before DONE is reported. An emulated server may not answer
 * within the 50 ms that DONE waits for it. */
#include "data_fuse.h"

#define SIZE (MIB + 9)

static void one(enum call call, uint32_t flags, bool direct)
{
	char dir[PATH_MAX];
	int sv[2];
	struct reader reader;
	const char *path = fuse_mount(SIZE, 94, 4);
	snprintf(dir, sizeof dir, "%s", path);
	*strrchr(dir, '/') = 0;
	snapsend_t *ctx = create_ctx();
	int file = fuse_open(path, direct);
	tcp_pair(sv);
	reader_start_check(&reader, sv[1], SIZE, 0, 94);
	struct snapsend_request request = make_request(sv[0], file, 0, SIZE);
	request.flags = flags;
	CHECK_EQ(call_done(ctx, call, request).status, 0);
	close(file);
	int result = umount2(dir, 0);
	for (int64_t end = now_ms() + 1000 * slowness(); slowness() > 1 && result != 0 && now_ms() < end; sleep_ms(1))
		result = umount2(dir, 0);
	if (result != 0)
		fail("unmount after DONE (call %d, flags %u): %s", call, flags, strerror(errno));
	reader_join(&reader);
	close_pair(sv);
	destroy_ctx(ctx);
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	for (int i = 0; i < 2 * (int)COUNT_OF(flags) * CALLS; i++) {
		int status;
		pid_t pid = (pid_t)SYS(fork());
		if (pid == 0) {
			one((enum call)(i / 2 % CALLS), flags[i / 2 / CALLS], i % 2);
			return 0;
		}
		SYS(waitpid(pid, &status, 0));
		if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
			test_leave(WEXITSTATUS(status));
		CHECK(WIFEXITED(status));
	}
	return 0;
}
