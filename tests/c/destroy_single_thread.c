/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* After destroy, and after a create that failed, the process is one of a single thread again, at once: unshare(2) of
 * the user namespace, which the kernel refuses to others, works. With helper threads and the ring's own workers. */
#include "data_common.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define ROUNDS 150

static int slow_file, cold_file; /* read by helper threads, and by the ring */

static void use(snapsend_t *ctx)
{
	int sv[2];
	struct snapsend_completion done;
	unix_pair(sv);
	struct snapsend_request slow = make_request(sv[0], slow_file, 0, SNAPSEND_TO_EOF);
	uint64_t id = submit_ok(ctx, &slow);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	drop_cache(cold_file);
	id = submit_range(ctx, sv[0], cold_file, 0, 64 * KIB);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	close_pair(sv);
}

/* In a process of its own; 0, or the errno of unshare. */
static int round_of(int i)
{
	struct snapsend_options options = { .engine = 99 };
	snapsend_t *ctx;
	if (i % 3 == 0) {
		destroy_ctx(create_ctx());
	} else if (i % 3 == 1) {
		ctx = create_ctx();
		use(ctx);
		destroy_ctx(ctx);
	} else {
		CHECK_LT(snapsend_create(&options, sizeof options, &ctx), 0);
		struct rlimit none = { .rlim_cur = 3, .rlim_max = 3 }; /* the thread starts, and finds no descriptor */
		SYS(setrlimit(RLIMIT_NOFILE, &none));
		CHECK_LT(snapsend_create(NULL, 0, &ctx), 0);
	}
	return unshare(CLONE_NEWUSER) == 0 ? 0 : errno;
}

int main(void)
{
	int refused = 0;
	slow_file = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);
	if (slow_file < 0)
		slow_file = (int)SYS(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
	cold_file = temp_file(64 * KIB, 3);
	SYS(fdatasync(cold_file));
	for (int i = 0; i < ROUNDS; i++) {
		int status;
		pid_t child = (pid_t)SYS(fork());
		if (child == 0)
			_exit(round_of(i));
		SYS(waitpid(child, &status, 0));
		CHECK(WIFEXITED(status));
		if (WEXITSTATUS(status) == EPERM || WEXITSTATUS(status) == ENOSPC || WEXITSTATUS(status) == EUSERS)
			skip("no user namespaces here");
		if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != EINVAL)
			fail("round %d: status %d", i, WEXITSTATUS(status));
		refused += WEXITSTATUS(status) == EINVAL;
	}
	if (refused > 0)
		fail("refused after %d of %d", refused, ROUNDS);
	return 0;
}
