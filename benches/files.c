/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "files.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct files files;
static const char *directory;

/* Without a name from the start, so that it is gone however the benchmark ends; the children have its descriptor. */
static int make_file(char *path, const char *name)
{
	char named[4096];
	int fd;

	snprintf(named, sizeof(named), "%s/%s.XXXXXX", directory, name);
	fd = mkostemp(named, O_CLOEXEC);
	if (fd < 0 || unlink(named) < 0)
		die("%s: %s", named, strerror(errno));
	snprintf(path, sizeof(files.path), "/proc/self/fd/%d", fd);
	return fd;
}

static void write_pattern(int fd, uint64_t offset, uint64_t *block, size_t length)
{
	for (size_t i = 0; i < length / 8; i++)
		block[i] = pattern(offset + i * 8);
	if (pwrite(fd, block, length, (off_t)offset) != (ssize_t)length)
		die("writing a file in %s: %s", directory, strerror(errno));
}

static int make_memory_file(char *path)
{
	int fd = memfd_create("snapsend-bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		die("memfd_create: %s", strerror(errno));
	snprintf(path, sizeof(files.path), "/proc/self/fd/%d", fd);
	return fd;
}

static void seal(int fd)
{
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		die("F_ADD_SEALS: %s", strerror(errno));
}

/* Copies the file onto a squashfs, in a mount namespace with which it vanishes; root only. */
static void move_to_squashfs(int fd, char *path)
{
	char folder[1024], command[8192];
	int moved;

	snprintf(folder, sizeof(folder), "%s/snapsend-bench.XXXXXX", directory);
	if (mkdtemp(folder) == NULL || unshare(CLONE_NEWNS) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("%s: %s (squashfs needs root)", folder, strerror(errno));
	snprintf(command, sizeof(command),
		 "cd %s && mkdir content mounted && cp /proc/%d/fd/%d content/file && "
		 "mksquashfs content image -quiet -no-progress -noD -noF >/dev/null && "
		 "mount -o loop,ro -t squashfs image mounted",
		 folder, (int)getpid(), fd);
	if (system(command) != 0)
		die("cannot make a squashfs in %s (squashfs-tools?)", folder);
	snprintf(command, sizeof(command), "%s/mounted/file", folder);
	moved = open(command, O_RDONLY | O_CLOEXEC);
	snprintf(command, sizeof(command), "rm -rf %s/content %s/image; umount -l %s/mounted && rm -r %s", folder,
		 folder, folder, folder);
	if (moved < 0 || system(command) != 0)
		die("%s: %s", folder, strerror(errno));
	close(fd);
	snprintf(path, sizeof(files.path), "/proc/self/fd/%d", moved);
}

void make_files(const char *the_directory, bool quick, enum frozen frozen)
{
	uint64_t *block = malloc(MIB), available;
	int fd;

	directory = the_directory;
	available = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * PAGE;
	files.size = quick ? 192 * MIB : GIB;
	files.warm = quick ? 64 * MIB : 256 * MIB; /* a power of two: see wire.c */
	if (block == NULL)
		die("no memory");
	fd = frozen == IN_MEMORY ? make_memory_file(files.path) : make_file(files.path, "snapsend-bench");
	for (uint64_t offset = 0; offset < files.size; offset += MIB)
		write_pattern(fd, offset, block, MIB);
	/* Written back now, not in the middle of a run; and only clean pages can be dropped. */
	if (fsync(fd) < 0)
		die("fsync: %s", strerror(errno));
	if (frozen == IN_MEMORY)
		seal(fd);
	else if (frozen == ON_SQUASHFS)
		move_to_squashfs(fd, files.path);
	/* Sparse but for a page in each MiB, which is checked; all of it is to be in the cache. */
	files.huge_size = 8 * GIB;
	while (files.huge_size > available / 2)
		files.huge_size /= 2;
	free(block);
}

static void make_huge_file(void)
{
	uint64_t block[PAGE / 8];
	int fd;

	if (files.huge_path[0] != '\0')
		return;
	fd = make_file(files.huge_path, "snapsend-bench-huge");
	for (uint64_t offset = 0; offset < files.huge_size; offset += MIB)
		write_pattern(fd, offset, block, PAGE);
	if (ftruncate(fd, (off_t)files.huge_size) < 0 || fsync(fd) < 0)
		die("%s: %s", files.huge_path, strerror(errno));
}

/* Reading is what brings a file into the cache in the same way for all. */
static void warm(const char *path, uint64_t offset, uint64_t until)
{
	char *block = malloc(MIB);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || block == NULL)
		die("%s: %s", path, strerror(errno));
	for (; offset < until; offset += MIB)
		if (pread(fd, block, MIB, (off_t)offset) < 0)
			die("%s: %s", path, strerror(errno));
	close(fd);
	free(block);
}

/* How much of a part of a file is in the cache.  mincore(2) starts no read. */
static uint64_t resident_bytes(const char *path, uint64_t offset, uint64_t length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char *pages = malloc(length / PAGE);
	uint64_t resident = 0;
	void *map;

	if (fd < 0 || pages == NULL)
		die("%s: %s", path, strerror(errno));
	map = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, (off_t)offset);
	if (map == MAP_FAILED || mincore(map, length, pages) < 0)
		die("mincore: %s", strerror(errno));
	for (uint64_t i = 0; i < length / PAGE; i++)
		resident += (pages[i] & 1) * PAGE;
	munmap(map, length);
	free(pages);
	close(fd);
	return resident;
}

void warm_file(bool huge)
{
	const char *path = huge ? files.huge_path : files.path;
	uint64_t size = huge ? files.huge_size : files.size, resident;

	if (huge)
		make_huge_file();
	if (resident_bytes(path, 0, size) == size)
		return;
	warm(path, 0, size);
	resident = resident_bytes(path, 0, size);
	if (resident < size)
		fprintf(stderr, "bench: %" PRIu64 " MiB did not stay in the cache\n", (size - resident) / MIB);
}

void chill_file(void)
{
	uint64_t length = files.size - files.warm, resident;
	int fd = open(files.path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die("%s: %s", files.path, strerror(errno));
	posix_fadvise(fd, (off_t)files.warm, (off_t)length, POSIX_FADV_DONTNEED);
	close(fd);
	resident = resident_bytes(files.path, files.warm, length);
	if (resident * 20 > length)
		fprintf(stderr, "bench: %" PRIu64 " MiB of the cold part stayed in the cache\n", resident / MIB);
}
