/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A host that gives up its privileges before create or after, or shuts itself up in an empty directory without
 * /proc: everything works. */
#include "manners_common.h"

struct variant {
	const char *name;
	bool chroot_first, nobody_first, nobody_later, chroot_later;
};

static const struct variant variants[] = {
	{ "nobody before create", .nobody_first = true },
	{ "nobody after create", .nobody_later = true },
	{ "an empty root before create", .chroot_first = true },
	{ "an empty root after create", .chroot_later = true },
	{ "nobody in an empty root before create", .chroot_first = true, .nobody_first = true },
	{ "nobody in an empty root after create", .chroot_later = true, .nobody_later = true },
};

static char empty[PATH_MAX];

static void shut_up(void)
{
	SYS(chroot(empty));
	SYS(chdir("/"));
	CHECK_EQ(access("/proc/self", F_OK), -1);
}

static void nobody(void)
{
	SYS(setresgid(65534, 65534, 65534));
	SYS(setresuid(65534, 65534, 65534));
	CHECK_EQ(setuid(0), -1);
}

static void with(const void *argument)
{
	const struct variant *variant = argument;
	int file = temp_file(TRANSFERS_LENGTH, 81), sv[2];
	SYS(fdatasync(file));
	if (variant->chroot_first)
		shut_up();
	if (variant->nobody_first)
		nobody();
	snapsend_t *ctx = create_ctx(), *idle = create_ctx();
	tcp_pair(sv);
	struct snapsend_request request = make_request(sv[0], file, 5, TRANSFERS_LENGTH - 5);
	uint64_t id = submit_ok(ctx, &request); /* in flight when things change */
	if (variant->chroot_later)
		shut_up();
	if (variant->nobody_later)
		nobody();
	struct reader reader;
	reader_start_check(&reader, sv[1], TRANSFERS_LENGTH - 5, 5, 81);
	wait_done(ctx, id, NULL);
	reader_join(&reader);
	transfers_with(ctx, file);
	transfers_with(idle, file);
	destroy_ctx(ctx);
	destroy_ctx(idle);
	ctx = create_ctx();
	transfers_with(ctx, file);
	destroy_ctx(ctx);
}

/* Of a file that only root may read, opened before: access is of the descriptor, not of who reads. */
static void of_a_secret(const void *unused)
{
	(void)unused;
	int file = temp_file(TRANSFERS_LENGTH, 81);
	SYS(fchmod(file, 0));
	SYS(fdatasync(file));
	snapsend_t *ctx = create_ctx();
	nobody();
	transfers_with(ctx, file);
	destroy_ctx(ctx);
}

int main(void)
{
	root_or_skip();
	snprintf(empty, sizeof empty, "%s/snapsend-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	CHECK(mkdtemp(empty) != NULL);
	for (size_t i = 0; i < COUNT_OF(variants); i++)
		in_child(variants[i].name, with, &variants[i]);
	in_child("a file that only root may read", of_a_secret, NULL);
	rmdir(empty);
	return parts_done();
}
