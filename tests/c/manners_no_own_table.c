/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The library's thread needs a descriptor table of its own: where close_range is refused, unshare gives it; where
 * both are, create says so. In neither case is anything left behind or kept open. */
#include "manners_common.h"

static const struct refusal both[2][2] = {
	{ { SYS_close_range, EPERM, ALWAYS, 0, 0 }, { SYS_unshare, EPERM, ALWAYS, 0, 0 } },
	{ { SYS_close_range, ENOSYS, ALWAYS, 0, 0 }, { SYS_unshare, ENOSYS, ALWAYS, 0, 0 } },
};

static void none(const void *argument)
{
	const struct refusal *refusals = argument;
	char got[1000];
	int sv[2];
	unix_pair(sv);
	refuse(refusals, 2);
	refused_cleanly(SNAPSEND_ENGINE_AUTO, refusals[1].error);
	refused_cleanly(SNAPSEND_ENGINE_PORTABLE, refusals[1].error);
	refused_cleanly(SNAPSEND_ENGINE_URING, refusals[1].error);
	must_let_go(sv[0], sv[1]);
	close(sv[1]);

	/* What needs no thread works. */
	int file = temp_file(sizeof got, 84);
	off_t offset = 0;
	unix_pair(sv);
	CHECK_EQ(snapsend_sendfile(sv[0], file, &offset, sizeof got), sizeof got);
	CHECK_UEQ(read_all(sv[1], got, sizeof got), sizeof got);
	CHECK_UEQ(pattern_bad(got, 0, sizeof got, 84), SIZE_MAX);
}

/* Descriptors that are open above the limit, which was lowered since: it is no copy of these either. */
static void above_the_limit(const void *argument)
{
	int sv[2], high;
	struct rlimit limit;
	refuse(argument, 1);
	unix_pair(sv);
	high = (int)SYS(fcntl(sv[0], F_DUPFD_CLOEXEC, 900));
	close(sv[0]);
	SYS(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = 500;
	SYS(setrlimit(RLIMIT_NOFILE, &limit));
	snapsend_t *ctx = create_ctx();
	must_let_go(high, sv[1]);
	close(sv[1]);
	transfers(ctx);
	destroy_ctx(ctx);
}

int main(void)
{
	in_child("EPERM", none, both[0]);
	in_child("ENOSYS", none, both[1]);
	in_child("descriptors above the limit", above_the_limit, both[1]);
	return parts_done();
}
