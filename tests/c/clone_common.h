/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the tests of clones (clone_*.c) share: file systems that share extents, on loop devices. */
#ifndef SNAPSEND_TESTS_CLONE_COMMON_H
#define SNAPSEND_TESTS_CLONE_COMMON_H

#include "data_common.h"

static const char *const CLONE_TYPES[] = { "xfs", "btrfs" };

#define DISK_BYTES (400 * MIB)
#define POOL_BYTES (1 * MIB)

/* One file system of this type, mounted at dir. */
static inline void clone_mount(const char *type, uint64_t size, char dir[PATH_MAX])
{
	static const char *top;
	if (top == NULL)
		top = private_mounts();
	image_attach(top, type, type, size, dir);
}

static inline snapsend_t *clone_context(const char *snapshot_dir)
{
	snapsend_t *ctx = NULL;
	struct snapsend_options options = { .pool_bytes = POOL_BYTES, .snapshot_dir = snapshot_dir };
	CHECK_EQ(snapsend_create(&options, sizeof options, &ctx), 0);
	return ctx;
}

static inline uint64_t clones_of(snapsend_t *ctx)
{
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	return stats.snapshots_cloned;
}

static inline int clone_file(const char *dir, uint64_t length, uint64_t seed, char path[PATH_MAX + 8])
{
	snprintf(path, PATH_MAX + 8, "%s/file", dir);
	int fd = (int)SYS(open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
	pattern_write(fd, 0, length, seed);
	return fd;
}

/* Whether a directory holds so many names. */
static inline void expect_names(const char *dir, int count)
{
	CHECK_EQ(test_count_entries(dir, 2), count);
}

/* Unnamed files are gone: the file system has its inodes and blocks again. XFS frees them in the background. */
static inline void expect_room(const char *dir, uint64_t blocks, uint64_t slack)
{
	struct statfs now;
	for (int i = 0; i < 500; i++) {
		int fd = (int)SYS(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		SYS(syncfs(fd));
		close(fd);
		SYS(statfs(dir, &now));
		if (now.f_bfree + slack >= blocks)
			return;
		sleep_ms(20);
	}
	fail("%" PRIu64 " blocks stay in use", blocks - (uint64_t)now.f_bfree);
}

#endif
