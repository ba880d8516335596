/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Files of the torture: on four file systems, each file a run of bytes out of one random image, so that what
 * it held can be looked up at any time later; and the ways to change one.
 */
#ifndef SNAPSEND_TORTURE_FILES_H
#define SNAPSEND_TORTURE_FILES_H

#include "data_common.h"
#include "random.h"

enum fs { FS_EXT4, FS_XFS, FS_BTRFS, FS_TMPFS, FSES };
static const char *const fs_name[FSES] = { "ext4", "xfs", "btrfs", "tmpfs" };
static char fs_dir[FSES][PATH_MAX];

#define FILE_MAX    (2 * MIB + 8192)
#define IMAGE_BYTES (24 * MIB)
static unsigned char *image; /* every content is a piece of it */

enum change { OVERWRITE, OVERWRITE_MAPPED, TRUNCATE, EXTEND, PUNCH, UNLINK, CHANGES };
static const char *const change_name[CHANGES] = { "overwritten", "overwritten through a mapping",
						  "truncated",   "extended",
						  "punched",     "unlinked" };
static _Atomic uint64_t changes_made[FSES][CHANGES];

struct file {
	enum fs fs;
	int fd;
	char path[PATH_MAX];
	const unsigned char *content;
	size_t size;
	int unlinked_fd; /* to be kept open until DONE, -1: none */
};

/* Between two lengths, small ones as likely as large ones. */
static inline size_t random_length(size_t least, size_t most)
{
	size_t limit = most;
	while (limit / 2 > least && one_in(2))
		limit /= 2;
	return least + (size_t)random_below(limit - least + 1);
}

/* length random bytes that stay as they are. */
static inline const unsigned char *image_piece(size_t length)
{
	return image + random_below(IMAGE_BYTES - length);
}

static inline void image_make(void)
{
	image = malloc(IMAGE_BYTES);
	CHECK(image != NULL);
	for (size_t i = 0; i < IMAGE_BYTES; i += 8) {
		uint64_t word = random_number();
		memcpy(image + i, &word, 8);
	}
}

/* All four, in mounts of the process's own, on loop devices over memory. */
static inline void file_systems_set_up(void)
{
	const char *dir = private_mounts();
	for (int fs = 0; fs < FSES; fs++) {
		if (fs == FS_TMPFS)
			snprintf(fs_dir[fs], PATH_MAX, "%s", dir);
		else
			image_attach(dir, fs_name[fs], fs_name[fs], 1536 * MIB, fs_dir[fs]);
	}
}

static inline void file_new(struct file *f)
{
	f->unlinked_fd = -1;
	static _Atomic uint64_t serial;
	snprintf(f->path, sizeof f->path, "%.200s/t%" PRIu64, fs_dir[f->fs], atomic_fetch_add(&serial, 1));
	f->fd = (int)SYS(open(f->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	f->size = 0;
}

static inline void file_close_unlinked(struct file *f)
{
	if (f->unlinked_fd >= 0)
		SYS(close(f->unlinked_fd));
	f->unlinked_fd = -1;
}

static inline void file_drop(struct file *f)
{
	file_close_unlinked(f);
	SYS(unlink(f->path));
	SYS(close(f->fd));
}

/* Another file in its place. The descriptor must stay open until DONE. */
static inline void file_unlink(struct file *f)
{
	int fd = f->fd;
	SYS(unlink(f->path));
	file_new(f);
	f->unlinked_fd = fd;
}

static inline void mapped_write(struct file *f, const unsigned char *data, size_t length)
{
	unsigned char *map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	CHECK(map != MAP_FAILED);
	memcpy(map, data, length);
	SYS(munmap(map, length));
}

/* What is in the file when the next operation is submitted: all of it known. */
static inline void file_prepare(struct file *f, size_t size)
{
	f->content = image_piece(size);
	if (f->size > size)
		SYS(ftruncate(f->fd, (off_t)size));
	file_put(f->fd, 0, f->content, size);
	f->size = size;
}

/* What may be done to it from the snapshot on. */
static inline void file_change(struct file *f)
{
	enum change change = (enum change)random_below(CHANGES);
	off_t cut = (off_t)random_below(f->size);
	switch (change) {
	case OVERWRITE: file_put(f->fd, 0, image_piece(f->size), f->size); break;
	case OVERWRITE_MAPPED: mapped_write(f, image_piece(f->size), f->size); break;
	case TRUNCATE:
		SYS(ftruncate(f->fd, one_in(2) ? 0 : cut));
		SYS(ftruncate(f->fd, (off_t)f->size));
		break;
	case EXTEND:
		SYS(ftruncate(f->fd, (off_t)f->size + 70000));
		f->size += 70000;
		file_put(f->fd, (uint64_t)cut, image_piece(8192), 8192);
		break;
	case PUNCH:
		SYS(fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, cut / 2, (off_t)f->size - cut / 2));
		break;
	case UNLINK: file_unlink(f); break;
	default: break;
	}
	atomic_fetch_add(&changes_made[f->fs][change], 1);
}

/* Out of the page cache, as far as the file system can. */
static inline void file_cool(struct file *f)
{
	drop_cache(f->fd);
}

#endif
