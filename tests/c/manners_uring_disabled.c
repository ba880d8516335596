/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* engine: one */
/* io_uring switched off by sysctl, as some distributions ship it: AUTO takes the portable engine, says why and
 * works; who asks for io_uring gets the errno. */
#include "manners_common.h"

#define SYSCTL "/proc/sys/kernel/io_uring_disabled"

static int control;

static bool put_sysctl(char value)
{
	return pwrite(control, &value, 1, 0) == 1;
}

/* Puts it back even if the test is killed: a process that waits for the end of a pipe. */
static void guard(char old)
{
	int end[2];
	SYS(pipe2(end, O_CLOEXEC));
	if (SYS(fork()) == 0) {
		char byte;
		close(end[1]);
		setsid();
		while (read(end[0], &byte, 1) < 0 && errno == EINTR)
			;
		put_sysctl(old);
		_exit(0);
	}
	close(end[0]); /* end[1] stays open until the test ends */
}

/* The whole machine is without it meanwhile, so: quickly. */
static void disabled(char old, char value, bool root, snapsend_t **ctx, int *refusal)
{
	snapsend_t *none = NULL;
	if (!put_sysctl(value))
		skip("the sysctl cannot be set here");
	if (!root)
		SYS(syscall(SYS_setresuid, -1, 65534, -1)); /* this thread alone has to lose its capabilities */
	*refusal = try_create(SNAPSEND_ENGINE_URING, &none);
	int result = try_create(SNAPSEND_ENGINE_AUTO, ctx);
	if (!root)
		SYS(syscall(SYS_setresuid, -1, 0, -1));
	put_sysctl(old);
	CHECK_EQ(result, 0);
	CHECK(none == NULL);
}

int main(void)
{
	char old = 0;
	root_or_skip();
	control = open(SYSCTL, O_RDWR | O_CLOEXEC);
	if (control < 0)
		skip("no " SYSCTL);
	CHECK_EQ(pread(control, &old, 1, 0), 1);
	engine_left_to_library();
	guard(old);
	for (int way = 0; way < 2; way++) { /* 2: for all; 1: for all but the privileged */
		snapsend_t *ctx;
		int refusal;
		disabled(old, way == 0 ? '2' : '1', way == 0, &ctx, &refusal);
		struct snapsend_info info = info_of(ctx);
		printf("io_uring_disabled: %d, engine %u, engine_errno %d\n", refusal, info.engine, info.engine_errno);
		CHECK_EQ(refusal, -EPERM);
		CHECK_UEQ(info.engine, SNAPSEND_ENGINE_PORTABLE);
		CHECK_EQ(info.engine_errno, -EPERM);
		transfers(ctx);
		destroy_ctx(ctx);
	}
	if (old == '0') { /* and it was the sysctl */
		snapsend_t *ctx = create_engine(SNAPSEND_ENGINE_URING);
		destroy_ctx(ctx);
	}
	return 0;
}
