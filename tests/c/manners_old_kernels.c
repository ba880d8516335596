/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* engine: one */
/* The io_uring of older kernels, played by a thread that answers the set-up calls in the kernel's place: flags and
 * requests that those did not know are refused. What is missing costs speed only; what cannot be done without
 * gives the portable engine. */
#include "manners_common.h"

#include <linux/io_uring.h>

#define BITS_BELOW(n) ((1u << (n)) - 1)

struct kernel {
	const char *version;
	uint32_t flags;    /* of io_uring_setup that it knows */
	unsigned requests; /* those below are there */
	bool sparse;       /* buffers can be registered later one by one */
	bool ext_arg;      /* io_uring_enter can wait with a time limit */
	bool uring;        /* enough for the library */
	uint64_t without;
};

static const struct kernel kernels[] = {
	{ "6.0", BITS_BELOW(13), 48, true, true, true, 0 },
	{ "5.19", BITS_BELOW(12), 47, true, true, true, SNAPSEND_KERNEL_SEND_ZC | SNAPSEND_KERNEL_ZC_REPORT_USAGE },
	{ "5.15", BITS_BELOW(7), 41, false, true, true,
	  SNAPSEND_KERNEL_SEND_ZC | SNAPSEND_KERNEL_ZC_REPORT_USAGE | SNAPSEND_KERNEL_REGISTERED_BUFFERS },
	{ "5.10", BITS_BELOW(7), 37, false, false, false, 0 },
};

static const struct kernel *playing;
static atomic_int listener = -1, refusals;

/* What that kernel says of its requests. */
static int probe(struct io_uring_probe *probe, unsigned count)
{
	struct io_uring_params params;
	memset(&params, 0, sizeof params);
	int ring = (int)syscall(SYS_io_uring_setup, 2, &params);
	if (ring < 0)
		return -errno;
	int result = syscall(SYS_io_uring_register, ring, IORING_REGISTER_PROBE, probe, count) == 0 ? 0 : -errno;
	close(ring);
	for (unsigned i = playing->requests; i < probe->ops_len; i++)
		probe->ops[i].flags = 0;
	if (probe->last_op >= playing->requests) {
		probe->last_op = (uint8_t)(playing->requests - 1);
		atomic_fetch_add(&refusals, 1);
	}
	return result;
}

/* A ring that lacks EXT_ARG: made here, for the one who asked. True: answered. */
static bool set_up_without_ext_arg(struct seccomp_notif *ask)
{
	struct io_uring_params *params = (struct io_uring_params *)(uintptr_t)ask->data.args[1];
	int ring = (int)syscall(SYS_io_uring_setup, (unsigned)ask->data.args[0], params);
	if (ring < 0)
		return false;
	params->features &= ~(uint32_t)IORING_FEAT_EXT_ARG;
	struct seccomp_notif_addfd add = {
		.id = ask->id, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (uint32_t)ring, .newfd_flags = O_CLOEXEC
	};
	int result = ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
	close(ring);
	return result >= 0;
}

/* The error to give, 0: success, 1: let the real kernel do it, 2: answered already. */
static int judge(struct seccomp_notif *ask)
{
	const __u64 *args = ask->data.args;
	if (ask->data.nr == SYS_io_uring_setup) {
		const struct io_uring_params *params = (const struct io_uring_params *)(uintptr_t)args[1];
		if ((params->flags & ~playing->flags) != 0)
			return -EINVAL;
		return !playing->ext_arg && set_up_without_ext_arg(ask) ? 2 : 1;
	}
	if (args[1] == IORING_REGISTER_PROBE)
		return probe((struct io_uring_probe *)(uintptr_t)args[2], (unsigned)args[3]);
	if (args[1] == IORING_REGISTER_BUFFERS2 && !playing->sparse)
		return ((const struct io_uring_rsrc_register *)(uintptr_t)args[2])->flags != 0 ? -EINVAL : 1;
	return args[1] > IORING_REGISTER_PBUF_RING ? -EINVAL : 1;
}

/* In the process of the others, so that it sees their memory; begun before the filter, so that it is free of it. */
static void *kernel_main(void *unused)
{
	struct seccomp_notif ask;
	struct seccomp_notif_resp answer;
	(void)unused;
	while (atomic_load(&listener) < 0)
		sleep_ms(1);
	for (;;) {
		memset(&ask, 0, sizeof ask);
		memset(&answer, 0, sizeof answer);
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &ask) != 0)
			continue;
		int verdict = judge(&ask);
		if (verdict == 2)
			continue;
		atomic_fetch_add(&refusals, verdict < 0);
		answer.id = ask.id;
		answer.error = verdict == 1 ? 0 : verdict;
		answer.flags = verdict == 1 ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0;
		(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
	return NULL;
}

static void on(const void *argument)
{
	static const struct refusal ask[] = { { SYS_io_uring_setup, 0, ALWAYS, 0, 0 },
					      { SYS_io_uring_register, 0, ALWAYS, 0, 0 } };
	pthread_t thread;
	snapsend_t *ctx;
	playing = argument;
	engine_left_to_library();
	if (try_create(SNAPSEND_ENGINE_URING, &ctx) != 0)
		skip("io_uring is refused here");
	struct snapsend_info real = info_of(ctx);
	destroy_ctx(ctx);

	PTHREAD(pthread_create(&thread, NULL, kernel_main, NULL));
	atomic_store(&listener, refuse_with_flags(ask, COUNT_OF(ask), SECCOMP_FILTER_FLAG_NEW_LISTENER));
	int result = try_create(SNAPSEND_ENGINE_URING, &ctx);
	if (playing->uring) {
		CHECK_EQ(result, 0);
		destroy_ctx(ctx);
	} else {
		CHECK_EQ(result, -ENOSYS);
	}
	ctx = create_engine(SNAPSEND_ENGINE_AUTO);
	struct snapsend_info info = info_of(ctx);
	printf("%s: engine %u, engine_errno %d, features %llx of %llx\n", playing->version, info.engine,
	       info.engine_errno, (unsigned long long)info.kernel_features, (unsigned long long)real.kernel_features);
	if (playing->uring) {
		CHECK_UEQ(info.engine, SNAPSEND_ENGINE_URING);
		CHECK_EQ(info.engine_errno, 0);
		CHECK_UEQ(info.kernel_features, real.kernel_features & ~playing->without);
	} else {
		CHECK_UEQ(info.engine, SNAPSEND_ENGINE_PORTABLE);
		CHECK_EQ(info.engine_errno, -ENOSYS);
	}
	CHECK(playing->without == 0 || atomic_load(&refusals) > 0); /* it was asked, and said no */
	transfers(ctx);
	destroy_ctx(ctx);
}

int main(void)
{
	for (size_t i = 0; i < COUNT_OF(kernels); i++)
		in_child(kernels[i].version, on, &kernels[i]);
	return parts_done();
}
