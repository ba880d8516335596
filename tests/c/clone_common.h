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
	return stats_of(ctx).snapshots_cloned;
}

static inline int clone_file(const char *dir, uint64_t length, uint64_t seed, char path[PATH_MAX + 8])
{
	snprintf(path, PATH_MAX + 8, "%s/file", dir);
	int fd = (int)SYS(open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
	pattern_write(fd, 0, length, seed);
	return fd;
}

enum outcome { CLONED, REFUSED };

/* EXACT and EAGER of all but the first bytes of a file that holds the pattern. Cloned, both go out; refused, EXACT gives
 * -EMSGSIZE and sends nothing, EAGER goes as far as the pool allows, until all is sent. */
static inline void expect_snapshot(const char *snapshot_dir, int file, uint64_t length, uint64_t seed,
				   enum outcome outcome)
{
	snapsend_t *ctx = clone_context(snapshot_dir);
	for (int i = 0; i < 2; i++) {
		int sv[2];
		struct reader reader;
		struct snapsend_completion done;
		uint64_t id = 0, wanted = outcome == CLONED || i == 1 ? length - 3 : 0;
		tcp_pair(sv);
		reader_start_check(&reader, sv[1], UINT64_MAX, 3, seed);
		struct snapsend_request request = make_request(sv[0], file, 3, length - 3);
		request.flags = i == 0 ? SNAPSEND_EXACT : SNAPSEND_EAGER;
		/* Where it is known at once, submit refuses it. */
		int result = snapsend_submit(ctx, &request, sizeof request, &id);
		if (result == 0) {
			wait_done(ctx, id, &done);
			CHECK_UEQ(done.wire_bytes, wanted);
			result = done.status;
		}
		CHECK_EQ(result, wanted > 0 ? 0 : -EMSGSIZE);
		SYS(shutdown(sv[0], SHUT_WR));
		CHECK_UEQ(reader_join(&reader), wanted);
		close_pair(sv);
	}
	CHECK_UEQ(clones_of(ctx), outcome == CLONED ? 2 : 0);
	destroy_ctx(ctx);
}

/* The library closes all that it has open of it within a moment: removing a clone may take longer than DONE waits. */
static inline void clone_unmount(const char *dir)
{
	for (int i = 0; umount2(dir, 0) != 0; i++) {
		CHECK_LE(i, 200 * slowness());
		sleep_ms(20);
	}
}

/* The file system of an image that clone_mount() has made, which is not mounted any more, must be whole. */
static inline void expect_whole(const char *type, const char *dir)
{
	char image[PATH_MAX + 8];
	snprintf(image, sizeof image, "%s.img", dir);
	const char *const xfs[] = { "xfs_repair", "-n", "-f", image, NULL };
	const char *const btrfs[] = { "btrfs", "check", "--readonly", image, NULL };
	CHECK_EQ(run_tool(strcmp(type, "xfs") == 0 ? xfs : btrfs), 0);
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
