/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Where a file cannot be cloned: EXACT beyond the pool gives -EMSGSIZE and sends nothing, EAGER goes as without a
 * clone. On other file systems, in directories that may not be written, without /proc, on a full disk; and
 * snapshot_dir helps where that can be. */
#include "clone_common.h"

#define LENGTH (4 * MIB + 99)

static void expect_with(const char *snapshot_dir, int file, enum outcome outcome)
{
	expect_snapshot(snapshot_dir, file, LENGTH, 62, outcome);
}

/* Known at submit. */
static void other_file_system(void)
{
	int sv[2], file = memfd_create("clone", MFD_CLOEXEC);
	SYS(file);
	SYS(ftruncate(file, LENGTH));
	unix_pair(sv);
	snapsend_t *ctx = clone_context(NULL);
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = SNAPSEND_EXACT;
	struct snapsend_completion done;
	uint64_t id = 0;
	int result = snapsend_submit(ctx, &request, sizeof request, &id);
	if (result == 0) { /* its mount is in no namespace, so that only a trial tells */
		wait_done(ctx, id, &done);
		result = done.status;
	}
	CHECK_EQ(result, -EMSGSIZE);
	destroy_ctx(ctx);
	close(file);
	close_pair(sv);
}

static void options(void)
{
	snapsend_t *ctx = NULL;
	struct snapsend_options options = { .snapshot_dir = "relative" };
	CHECK_EQ(snapsend_create(&options, sizeof options, &ctx), -EINVAL);
	options.snapshot_dir = "";
	CHECK_EQ(snapsend_create(&options, sizeof options, &ctx), -EINVAL);
	/* Older callers have no such field. */
	CHECK_EQ(snapsend_create(&options, offsetof(struct snapsend_options, snapshot_dir), &ctx), 0);
	destroy_ctx(ctx);
}

static void as_child(void (*body)(const char *dir, int file), const char *dir, int file)
{
	int status;
	pid_t child = (pid_t)SYS(fork());
	if (child == 0) {
		body(dir, file);
		_exit(0);
	}
	SYS(waitpid(child, &status, 0));
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void unprivileged(const char *dir, int file)
{
	char open_dir[PATH_MAX + 8];
	snprintf(open_dir, sizeof open_dir, "%s/open", dir);
	SYS(setgid(65534));
	SYS(setuid(65534));
	expect_with(NULL, file, REFUSED);
	expect_with(open_dir, file, CLONED);
}

static void without_proc(const char *dir, int file)
{
	SYS(chroot(dir));
	SYS(chdir("/"));
	expect_with(NULL, file, REFUSED);
	expect_with("/open", file, CLONED);
	expect_with("/nowhere", file, REFUSED);
}

/* Unnamed files need an inode and extents; XFS and btrfs keep some blocks back for themselves. */
static void full_disk(const char *dir, int file)
{
	static char block[65536];
	char path[PATH_MAX + 8];
	struct statfs fs;
	snprintf(path, sizeof path, "%s/filler", dir);
	int filler = (int)SYS(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	SYS(statfs(dir, &fs));
	(void)!fallocate(filler, 0, 0, (off_t)(fs.f_bavail * (uint64_t)fs.f_bsize * 9 / 10));
	for (size_t size = sizeof block; size >= 4096; size /= 2)
		while (pwrite(filler, block, size, lseek(filler, 0, SEEK_END)) == (ssize_t)size)
			;
	snapsend_t *ctx = clone_context(NULL);
	for (int i = 0; i < 2; i++) {
		int sv[2];
		struct reader reader;
		struct snapsend_completion done;
		tcp_pair(sv);
		struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
		request.flags = i == 0 ? SNAPSEND_EXACT : SNAPSEND_EAGER;
		reader_start_check(&reader, sv[1], UINT64_MAX, 0, 62);
		wait_done(ctx, submit_ok(ctx, &request), &done);
		printf("%s, full: %d\n", dir, done.status);
		CHECK(done.status == 0 || (i == 0 && done.status == -EMSGSIZE));
		SYS(shutdown(sv[0], SHUT_WR));
		CHECK_UEQ(reader_join(&reader), done.status == 0 ? LENGTH : 0);
		close_pair(sv);
	}
	destroy_ctx(ctx);
	close(filler);
	SYS(unlink(path));
}

static void on(const char *type)
{
	char dir[PATH_MAX], path[PATH_MAX + 8];
	doing(type);
	clone_mount(type, DISK_BYTES, dir);
	int file = clone_file(dir, LENGTH, 62, path);
	SYS(fsync(file));
	snprintf(path, sizeof path, "%s/open", dir);
	SYS(mkdir(path, 0700));
	SYS(chmod(path, 0777));
	SYS(chmod(dir, 0755));
	expect_with("/dev/shm", file, REFUSED); /* another file system */
	expect_with(dir, file, CLONED);
	as_child(unprivileged, dir, file);
	as_child(without_proc, dir, file);
	full_disk(dir, file);
	expect_with(NULL, file, CLONED);
	expect_names(dir, 2);
	close(file);
	snprintf(path, sizeof path, "%s/file", dir);
	file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	SYS(mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL));
	expect_with(NULL, file, REFUSED);
	close(file);
	clone_unmount(dir);
}

int main(void)
{
	options();
	other_file_system();
	for (size_t i = 0; i < COUNT_OF(CLONE_TYPES); i++)
		on(CLONE_TYPES[i]);
	return 0;
}
