/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* No memory may be locked, or hardly any, and nobody is privileged to do so all the same: it works. Recent kernels
 * count the ring itself, too, and refuse it: then AUTO takes the portable engine, and says why. */
#include "manners_common.h"

#include <linux/capability.h>

struct variant {
	const char *name;
	rlim_t limit;
	bool nobody;
};

static const struct variant variants[] = {
	{ "RLIMIT_MEMLOCK 0, without CAP_IPC_LOCK", 0, false },
	{ "RLIMIT_MEMLOCK 64 KiB, without CAP_IPC_LOCK", 64 * KIB, false },
	{ "RLIMIT_MEMLOCK 0, as nobody", 0, true },
	{ "RLIMIT_MEMLOCK 64 KiB, as nobody", 64 * KIB, true },
};

static void drop_capability(int number)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
	struct __user_cap_data_struct data[2];
	SYS(syscall(SYS_capget, &head, data));
	data[number / 32].effective &= ~(1u << number % 32);
	data[number / 32].permitted &= ~(1u << number % 32);
	SYS(syscall(SYS_capset, &head, data));
}

static snapsend_t *create_as_may_be(void)
{
	snapsend_t *ctx;
	if (strcmp(engine_name(), "uring") != 0)
		return create_ctx();
	int result = try_create(SNAPSEND_ENGINE_URING, &ctx);
	if (result == 0)
		return ctx;
	CHECK_EQ(result, -ENOMEM);
	setenv("SNAPSEND_ENGINE", "auto", 1);
	ctx = create_ctx();
	struct snapsend_info info = info_of(ctx);
	CHECK(info.engine == SNAPSEND_ENGINE_URING || info.engine_errno == -ENOMEM);
	setenv("SNAPSEND_ENGINE", "uring", 1);
	return ctx;
}

static void with(const void *argument)
{
	const struct variant *variant = argument;
	struct rlimit limit = { .rlim_cur = variant->limit, .rlim_max = variant->limit };
	int file = temp_file(TRANSFERS_LENGTH, 81);
	SYS(fdatasync(file));
	SYS(setrlimit(RLIMIT_MEMLOCK, &limit));
	if (variant->nobody && geteuid() != 0)
		skip("needs root");
	if (variant->nobody)
		SYS(setresuid(65534, 65534, 65534));
	else
		drop_capability(CAP_IPC_LOCK);
	void *page = mmap(NULL, 128 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(page != MAP_FAILED);
	CHECK_EQ(syscall(SYS_mlock, page, 128 * KIB), -1); /* or this would test nothing */
	snapsend_t *contexts[4];                           /* they share the limit */
	for (size_t i = 0; i < COUNT_OF(contexts); i++) {
		contexts[i] = create_as_may_be();
		transfers_with(contexts[i], file);
	}
	for (size_t i = 0; i < COUNT_OF(contexts); i++)
		destroy_ctx(contexts[i]);
}

int main(void)
{
	for (size_t i = 0; i < COUNT_OF(variants); i++)
		in_child(variants[i].name, with, &variants[i]);
	return parts_done();
}
