/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Single kernel features missing or refused: each costs speed only. */
#include "manners_common.h"

#define NOWAIT_READ(error)                                    \
	{                                                     \
		SYS_preadv2, error, IF_ANY_BIT, 5, UINT32_MAX \
	}
#define CACHESTAT 451
#define STATMOUNT 457
#define REGISTER(opcode, error)                                   \
	{                                                         \
		SYS_io_uring_register, error, IF_EQUAL, 1, opcode \
	}

struct part {
	const char *name;
	uint64_t without; /* features that must not be claimed */
	struct refusal refusals[REFUSALS_MAX];
};

static const struct part parts[] = {
	{ "nothing missing", 0, { { 0 } } },
	{ "no cachestat, ENOSYS", 0, { { CACHESTAT, ENOSYS, ALWAYS, 0, 0 } } },
	{ "no cachestat, EPERM", 0, { { CACHESTAT, EPERM, ALWAYS, 0, 0 } } },
	{ "no RWF_NOWAIT", 0, { NOWAIT_READ(EOPNOTSUPP) } },
	{ "no preadv2", 0, { { SYS_preadv2, ENOSYS, ALWAYS, 0, 0 } } },
	{ "preadv2 refused", 0, { { SYS_preadv2, EPERM, ALWAYS, 0, 0 } } },
	{ "no statmount, ENOSYS", 0, { { STATMOUNT, ENOSYS, ALWAYS, 0, 0 } } },
	{ "no statmount, EPERM", 0, { { STATMOUNT, EPERM, ALWAYS, 0, 0 } } },
	{ "no kcmp, ENOSYS", 0, { { SYS_kcmp, ENOSYS, ALWAYS, 0, 0 } } },
	{ "no kcmp, EPERM", 0, { { SYS_kcmp, EPERM, ALWAYS, 0, 0 } } },
	{ "no statx, ENOSYS", 0, { { SYS_statx, ENOSYS, ALWAYS, 0, 0 } } },
	{ "no statx, EPERM", 0, { { SYS_statx, EPERM, ALWAYS, 0, 0 } } },
	{ "no close_range, ENOSYS", 0, { { SYS_close_range, ENOSYS, ALWAYS, 0, 0 } } },
	{ "no close_range, EPERM", 0, { { SYS_close_range, EPERM, ALWAYS, 0, 0 } } },
	{ "no unshare", 0, { { SYS_unshare, EPERM, ALWAYS, 0, 0 } } },
	{ "no huge pages", 0, { { SYS_madvise, EINVAL, IF_EQUAL, 2, MADV_HUGEPAGE } } },
	{ "no registered buffers, ENOMEM", SNAPSEND_KERNEL_REGISTERED_BUFFERS, { REGISTER(15, ENOMEM) } },
	{ "no registered buffers, EINVAL", SNAPSEND_KERNEL_REGISTERED_BUFFERS, { REGISTER(15, EINVAL) } },
	{ "buffers cannot be updated", 0, { REGISTER(16, ENOMEM) } },
	{ "all of that",
	  SNAPSEND_KERNEL_REGISTERED_BUFFERS,
	  { { CACHESTAT, ENOSYS, ALWAYS, 0, 0 },
	    NOWAIT_READ(EOPNOTSUPP),
	    { SYS_kcmp, EPERM, ALWAYS, 0, 0 },
	    { SYS_statx, EPERM, ALWAYS, 0, 0 },
	    { SYS_close_range, ENOSYS, ALWAYS, 0, 0 },
	    { SYS_madvise, EINVAL, IF_EQUAL, 2, MADV_HUGEPAGE },
	    REGISTER(15, ENOMEM),
	    REGISTER(16, ENOMEM) } },
};

/* So many descriptors of one file, all in flight, that it is worth asking whether they are the same. */
static void many_of_a_file(snapsend_t *ctx)
{
	enum { SOCKETS = 160 };
	static int sv[SOCKETS][2];
	static uint64_t ids[SOCKETS];
	const uint64_t length = 300 * KIB;
	int files[3];
	files[0] = temp_file(SOCKETS * 100 + length, 82);
	files[1] = (int)SYS(dup(files[0]));
	files[2] = temp_file(SOCKETS * 100 + length, 83);
	for (int i = 0; i < SOCKETS; i++) {
		unix_pair(sv[i]);
		struct snapsend_request request = make_request(sv[i][0], files[i % 3], 100 * (uint64_t)i, length);
		ids[i] = submit_ok(ctx, &request);
	}
	for (int i = 0; i < SOCKETS; i++) {
		struct reader reader;
		struct snapsend_completion done;
		reader_start_check(&reader, sv[i][1], length, 100 * (uint64_t)i, i % 3 == 2 ? 83 : 82);
		wait_done(ctx, ids[i], &done);
		CHECK_EQ(done.status, 0);
		reader_join(&reader);
		close_pair(sv[i]);
	}
	for (int i = 0; i < 3; i++)
		close(files[i]);
}

static void without(const void *argument)
{
	const struct part *part = argument;
	size_t count = 0;
	while (count < REFUSALS_MAX && part->refusals[count].error != 0)
		count++;
	if (count > 0)
		refuse(part->refusals, count);
	int sv[2], fds = count_fds();
	unix_pair(sv);
	snapsend_t *ctx = create_ctx();
	must_let_go(sv[0], sv[1]);
	close(sv[1]);
	struct snapsend_info info = info_of(ctx);
	CHECK_UEQ(info.kernel_features & part->without, 0);
	CHECK_UEQ(info.engine, strcmp(engine_name(), "portable") == 0 ? SNAPSEND_ENGINE_PORTABLE : info.engine);
	transfers(ctx);
	many_of_a_file(ctx);
	destroy_ctx(ctx);
	CHECK_EQ(count_fds(), fds);
}

int main(void)
{
	for (size_t i = 0; i < COUNT_OF(parts); i++)
		in_child(parts[i].name, without, &parts[i]);
	return parts_done();
}
