/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* engine: one */
/* io_uring refused by a seccomp filter, all its calls or one of them: AUTO takes the portable engine, says why and
 * works; who asks for io_uring gets the errno, and nothing is left behind. */
#include "manners_common.h"

struct variant {
	const char *name;
	int error;
	int calls[3]; /* 0: allowed */
};

static const struct variant variants[] = {
	{ "all three, EPERM", EPERM, { SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register } },
	{ "all three, ENOSYS", ENOSYS, { SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register } },
	{ "setup only, EPERM", EPERM, { SYS_io_uring_setup, 0, 0 } },
	{ "register only, EPERM", EPERM, { 0, 0, SYS_io_uring_register } },
	{ "register only, ENOSYS", ENOSYS, { 0, 0, SYS_io_uring_register } },
	{ "enter only, EPERM", EPERM, { 0, SYS_io_uring_enter, 0 } },
	{ "enter only, ENOSYS", ENOSYS, { 0, SYS_io_uring_enter, 0 } },
};

static void refused(const void *argument)
{
	const struct variant *variant = argument;
	struct refusal refusals[3];
	size_t count = 0;
	for (size_t i = 0; i < 3; i++)
		if (variant->calls[i] != 0)
			refusals[count++] = (struct refusal){ .call = variant->calls[i], .error = variant->error };
	refuse(refusals, count);
	engine_left_to_library();
	refused_cleanly(SNAPSEND_ENGINE_URING, variant->error);

	snapsend_t *ctx = create_engine(SNAPSEND_ENGINE_AUTO);
	struct snapsend_info info = info_of(ctx);
	CHECK_UEQ(info.engine, SNAPSEND_ENGINE_PORTABLE);
	CHECK_EQ(info.engine_errno, -variant->error);
	CHECK_UEQ(info.kernel_features & ~(uint64_t)SNAPSEND_KERNEL_CACHESTAT, 0);
	transfers(ctx);
	destroy_ctx(ctx);

	ctx = create_engine(SNAPSEND_ENGINE_PORTABLE); /* it was not asked for */
	CHECK_EQ(info_of(ctx).engine_errno, 0);
	destroy_ctx(ctx);
	setenv("SNAPSEND_ENGINE", "uring", 1);
	refused_cleanly(SNAPSEND_ENGINE_AUTO, variant->error);
}

int main(void)
{
	for (size_t i = 0; i < COUNT_OF(variants); i++)
		in_child(variants[i].name, refused, &variants[i]);
	return parts_done();
}
