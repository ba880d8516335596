/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Where a file can be cloned and where not: on XFS without reflink and on ext4 EXACT is refused; on overlayfs over XFS
 * both layers' files are cloned; files that were renamed, moved, unlinked or seen through a bind mount are, too. Without
 * their directory snapshot_dir helps. */
#include "clone_common.h"

#define LENGTH (4 * MIB + 11)
#define SEED   75

/* Without reflink. */
static void plain_xfs(const char *top, char dir[PATH_MAX])
{
	char image[PATH_MAX], device[64];
	snprintf(image, sizeof image, "%s/plain.img", top);
	snprintf(dir, PATH_MAX, "%s/plain", top);
	int backing = (int)SYS(open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	SYS(ftruncate(backing, DISK_BYTES));
	const char *const argv[] = { "mkfs.xfs", "-q", "-m", "reflink=0", image, NULL };
	int status = run_tool(argv);
	if (status == 127)
		skip("no mkfs for this file system here");
	CHECK_EQ(status, 0);
	int loop = loop_attach(backing, device);
	SYS(mkdir(dir, 0700));
	SYS(mount(device, dir, "xfs", 0, NULL));
	close(loop);
	close(backing);
}

static void refused(const char *dir)
{
	char path[PATH_MAX + 8];
	doing(dir);
	int file = clone_file(dir, LENGTH, SEED, path);
	expect_snapshot(NULL, file, LENGTH, SEED, REFUSED);
	expect_snapshot(dir, file, LENGTH, SEED, REFUSED);
	expect_names(dir, strstr(dir, "ext4") != NULL ? 2 : 1); /* lost+found */
	close(file);
	clone_unmount(dir);
}

/* In the working directory. */
static void names(const char *dir)
{
	char path[PATH_MAX + 8];
	doing("names");
	SYS(mkdir("from", 0700));
	SYS(mkdir("to", 0700));
	int file = clone_file("from", LENGTH, SEED, path);
	SYS(rename(path, "to/other name"));
	SYS(rmdir("from"));
	expect_snapshot(NULL, file, LENGTH, SEED, CLONED);
	/* Another mount of the same file system. */
	SYS(mkdir("bound", 0700));
	SYS(mount(dir, "bound", NULL, MS_BIND, NULL));
	int seen = (int)SYS(open("bound/to/other name", O_RDONLY | O_CLOEXEC));
	expect_snapshot(NULL, seen, LENGTH, SEED, CLONED);
	expect_snapshot(dir, seen, LENGTH, SEED, CLONED);
	close(seen);
	SYS(umount2("bound", 0));
	SYS(rmdir("bound"));
	SYS(unlink("to/other name"));
	expect_snapshot(NULL, file, LENGTH, SEED, CLONED);
	expect_names("to", 0);
	SYS(rmdir("to"));
	expect_snapshot(NULL, file, LENGTH, SEED, REFUSED);
	expect_snapshot(dir, file, LENGTH, SEED, CLONED);
	close(file);
	expect_names(dir, 0);
}

/* Over layers on the file system in dir, which is the working directory. */
static void overlay(const char *dir)
{
	char path[PATH_MAX + 8];
	doing("overlayfs");
	overlay_attach(dir, "lower file", LENGTH, SEED);
	int lower = (int)SYS(open("merged/lower file", O_RDONLY | O_CLOEXEC));
	expect_snapshot(NULL, lower, LENGTH, SEED, CLONED);
	int upper = clone_file("merged", LENGTH, SEED, path);
	expect_snapshot(NULL, upper, LENGTH, SEED, CLONED);
	expect_names("merged", 2);
	close(upper);
	close(lower);
	SYS(umount2("merged", 0));
}

int main(void)
{
	char dir[PATH_MAX];
	const char *top = private_mounts();
	plain_xfs(top, dir);
	refused(dir);
	image_attach(top, "ext4", "ext4", DISK_BYTES, dir);
	refused(dir);
	for (size_t i = 0; i < COUNT_OF(CLONE_TYPES); i++) {
		image_attach(top, CLONE_TYPES[i], CLONE_TYPES[i], DISK_BYTES, dir);
		SYS(chdir(dir));
		names(dir);
		if (strcmp(CLONE_TYPES[i], "xfs") == 0)
			overlay(dir);
		SYS(chdir("/"));
		clone_unmount(dir);
	}
	return 0;
}
