/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Clones at a limit, that of a subvolume's quota on btrfs: EXACT gives -EMSGSIZE and sends nothing, EAGER goes on without
 * a clone. snapshot_dir in a subvolume with room helps, and so does the end of the limit. */
#include "clone_common.h"

#define LENGTH (6 * MIB + 5)

static void btrfs(const char *one, const char *two, const char *three, const char *dir)
{
	const char *const argv[] = { "btrfs", one, two, three != NULL ? three : dir, three != NULL ? dir : NULL, NULL };
	if (run_tool(argv) != 0)
		skip("btrfs has no quota here");
}

int main(void)
{
	char dir[PATH_MAX], path[PATH_MAX + 8], other[PATH_MAX + 8];
	clone_mount("btrfs", DISK_BYTES, dir);
	snprintf(other, sizeof other, "%s/other", dir);
	btrfs("subvolume", "create", NULL, other);
	btrfs("quota", "enable", NULL, dir);
	int file = clone_file(dir, LENGTH, 72, path);
	SYS(fsync(file));
	expect_snapshot(NULL, file, LENGTH, 72, CLONED);
	/* The file takes more already. */
	btrfs("qgroup", "limit", "1M", dir);
	snprintf(path, sizeof path, "%s/another", dir);
	CHECK_EQ(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), -1);
	CHECK_EQ(errno, EDQUOT);
	expect_snapshot(NULL, file, LENGTH, 72, REFUSED);
	expect_snapshot(other, file, LENGTH, 72, CLONED);
	btrfs("quota", "disable", NULL, dir);
	expect_snapshot(NULL, file, LENGTH, 72, CLONED);
	expect_names(dir, 2);
	expect_names(other, 0);
	close(file);
	clone_unmount(dir);
	expect_whole("btrfs", dir);
	return 0;
}
