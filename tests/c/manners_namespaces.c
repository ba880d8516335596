/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a context keeps a process from doing with namespaces, as snapsend(7) has it, and what not. */
#include "data_common.h"

#include <sched.h>

static int enter(const char *namespace, int *error)
{
	int fd = (int)SYS(open(namespace, O_RDONLY | O_CLOEXEC));
	int r = setns(fd, 0);
	*error = errno;
	close(fd);
	return r;
}

int main(void)
{
	int sv[2], error;
	snapsend_t *ctx = create_ctx();
	int file = temp_file(MIB, 38);
	unsigned char *image = image_of(0, MIB, 38);
	tcp_pair(sv);
	CHECK(unshare(CLONE_NEWUSER) == -1 && errno == EINVAL);
	CHECK(enter("/proc/self/ns/user", &error) == -1 && error == EINVAL);
	if (unshare(CLONE_NEWNET) == 0) { /* of this thread; the socket stays where it was made */
		CHECK(enter("/proc/self/ns/mnt", &error) == -1 && error == EINVAL);
		SYS(unshare(CLONE_FS));
		CHECK(enter("/proc/self/ns/mnt", &error) == 0);
		SYS(unshare(CLONE_NEWNS));
	}
	transfer_ok(ctx, sv, make_request(-1, file, 0, MIB), image, MIB);
	close_pair(sv);
	destroy_ctx(ctx);
	CHECK_EQ(wait_threads(1, WAIT_MS), 1);
	if (unshare(CLONE_NEWUSER) != 0) {
		CHECK_NE(errno, EINVAL);
		skip("no user namespaces here");
	}
	free(image);
	return 0;
}
