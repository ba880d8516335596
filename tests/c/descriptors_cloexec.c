/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Every descriptor that the library opens is closed on exec: programs that the host starts inherit none. */
#include "common.h"

int main(void)
{
	int sv[2], ours = 0;
	bool known[4096] = { false };
	snapsend_t *ctx;
	struct reader reader;
	unix_pair(sv);
	int file = temp_file(4 * MIB, 1);
	for (int fd = 0; fd < 4096; fd++)
		known[fd] = fcntl(fd, F_GETFD) >= 0;
	ctx = create_ctx();
	reader_init(&reader, sv[1], 4 * 4 * MIB);
	reader_go(&reader);
	for (uint32_t flags = 0; flags < 3; flags++) {
		struct snapsend_request request = make_request(sv[0], file, 0, 4 * MIB);
		request.flags = flags;
		wait_done(ctx, submit_ok(ctx, &request), NULL);
	}
	off_t offset = 0;
	CHECK_EQ(snapsend_sendfile(sv[0], file, &offset, 4 * MIB), 4 * MIB);
	reader_join(&reader);
	for (int fd = 0; fd < 4096; fd++) {
		int flags = known[fd] ? -1 : fcntl(fd, F_GETFD);
		if (flags < 0)
			continue;
		ours++;
		if (!(flags & FD_CLOEXEC)) {
			char path[64], target[256] = "";
			snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
			if (readlink(path, target, sizeof target - 1) < 0)
				target[0] = 0;
			fail("descriptor %d (%s) is inherited", fd, target);
		}
	}
	CHECK_GE(ours, 1); /* the event descriptor at least */
	destroy_ctx(ctx);
	return 0;
}
