/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* On btrfs a file shares extents only with files of its kind: copied on write or not (chattr +C). A clone takes after
 * its file, whatever its directory has its new files be. A file that is compressed is cloned, too. */
#include "clone_common.h"

#include <linux/fs.h>

#define LENGTH (5 * MIB + 77)

static void set_attributes(const char *path, int attributes)
{
	int flags = 0, fd = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	SYS(ioctl(fd, FS_IOC_GETFLAGS, &flags));
	flags &= ~(FS_NOCOW_FL | FS_COMPR_FL);
	SYS(ioctl(fd, FS_IOC_SETFLAGS, &flags)); /* no step from one to the other */
	flags |= attributes;
	SYS(ioctl(fd, FS_IOC_SETFLAGS, &flags));
	close(fd);
}

/* A file with such attributes in a directory with others: they count for an empty file, and for new ones in it. */
static void with_attributes(const char *dir, int of_file, int of_dir)
{
	char path[PATH_MAX + 8];
	int file = clone_file(dir, 0, 0, path), flags = 0;
	close(file);
	set_attributes(path, of_file);
	set_attributes(dir, of_dir);
	file = (int)SYS(open(path, O_RDWR | O_CLOEXEC));
	SYS(ioctl(file, FS_IOC_GETFLAGS, &flags));
	CHECK_EQ(flags & (FS_NOCOW_FL | FS_COMPR_FL), of_file);
	pattern_write(file, 0, LENGTH, 73);
	expect_snapshot(NULL, file, LENGTH, 73, CLONED);
	expect_names(dir, 1);
	close(file);
	SYS(unlink(path));
}

int main(void)
{
	static const int attributes[] = { 0, FS_NOCOW_FL, FS_COMPR_FL };
	char dir[PATH_MAX];
	clone_mount("btrfs", DISK_BYTES, dir);
	for (size_t i = 0; i < COUNT_OF(attributes) * COUNT_OF(attributes); i++)
		with_attributes(dir, attributes[i / COUNT_OF(attributes)], attributes[i % COUNT_OF(attributes)]);
	clone_unmount(dir);
	return 0;
}
