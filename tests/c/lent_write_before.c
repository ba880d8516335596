/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Whatever changes a file before submit is in the data, though its windows are kept and were used a moment ago: write,
 * a mapping, O_DIRECT, a file that was cut and grown again, holes, ranges that were moved and cloned, and a page that
 * left the page cache. */
#include "lent.h"

#include <linux/falloc.h>
#include <linux/fs.h>

#define LENGTH MIB
#define PLACE  (256 * KIB) /* what changes */
#define CHANGE (64 * KIB)

enum change { WRITE, MAP, DIRECT, CUT, PUNCH, COLLAPSE, INSERT, CLONE, EVICT, CHANGES };
static const char *const change_name[CHANGES] = { "write",    "mapping", "O_DIRECT", "cut and grown", "hole",
						  "collapse", "insert",  "clone",    "evicted" };

static const char *const types[] = { "ext4", "xfs", "btrfs", "tmpfs" };

static struct network net;
static unsigned char other[CHANGE] __attribute__((aligned(4096)));

static bool write_mapped(int file)
{
	void *map = mmap(NULL, CHANGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, PLACE);
	CHECK(map != MAP_FAILED);
	memcpy(map, other, CHANGE);
	munmap(map, CHANGE);
	return true;
}

static bool write_direct(int file)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	int direct = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	bool can = direct >= 0 && pwrite(direct, other, CHANGE, PLACE) == CHANGE;
	if (direct >= 0)
		close(direct);
	return can;
}

static bool cut_and_grow(int file)
{
	SYS(ftruncate(file, PLACE + 100));
	SYS(ftruncate(file, LENGTH));
	file_put(file, PLACE + CHANGE, other, CHANGE);
	return true;
}

/* The last part of the file, over the place. */
static bool clone_range(int file)
{
	struct file_clone_range range = { file, LENGTH - CHANGE, CHANGE, PLACE };
	return ioctl(file, FICLONERANGE, &range) == 0;
}

/* Returns whether the file system can do that. */
static bool make(enum change change, int file, uint64_t seed)
{
	pattern_fill(other, 0, CHANGE, seed);
	switch (change) {
	case WRITE: file_put(file, PLACE, other, CHANGE); return true;
	case MAP: return write_mapped(file);
	case DIRECT: return write_direct(file);
	case CUT: return cut_and_grow(file);
	case PUNCH: return fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PLACE, CHANGE) == 0;
	case COLLAPSE: return fallocate(file, FALLOC_FL_COLLAPSE_RANGE, PLACE, CHANGE) == 0;
	case INSERT: return fallocate(file, FALLOC_FL_INSERT_RANGE, PLACE, CHANGE) == 0;
	case CLONE: return clone_range(file);
	default: drop_cache(file); return true;
	}
}

/* Submits, then reads what there is: nothing changes in between. */
static void check(snapsend_t *ctx, int sv[2], struct snapsend_request request, int file)
{
	static unsigned char want[2 * LENGTH];
	struct stat st;
	SYS(fstat(file, &st));
	size_t length = (size_t)st.st_size;
	struct reader reader;
	struct snapsend_completion done;
	request.length = SNAPSEND_TO_EOF;
	reader_start_keep(&reader, sv[1], length);
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, length);
	reader_join(&reader);
	CHECK_EQ(pread(file, want, sizeof want, 0), (ssize_t)length);
	CHECK_UEQ(count_different(reader.data, want, length), 0);
	reader_free(&reader);
}

static void changes(snapsend_t *ctx, int sv[2], int file, bool registers)
{
	struct snapsend_request request = lend_request(sv[0], file, 0, 0);
	if (registers)
		request = registered(ctx, request);
	unsigned char *image = image_of(0, LENGTH, 103);
	for (int i = 0; i < 3 * CHANGES; i++) {
		doing(change_name[i / 3]);
		SYS(ftruncate(file, LENGTH));
		file_put(file, 0, image, LENGTH);
		check(ctx, sv, request, file);
		if (make((enum change)(i / 3), file, 1000 + (uint64_t)i))
			check(ctx, sv, request, file);
		else
			printf("no %s\n", change_name[i / 3]);
	}
	if (registers)
		unregister(ctx, &request);
	free(image);
}

static void with(const void *argument)
{
	static char mounted[PATH_MAX];
	const char *type = argument, *dir = private_mounts();
	int sv[2];
	if (strcmp(type, "tmpfs") != 0) {
		image_attach(dir, type, type, 512 * MIB, mounted);
		dir = mounted;
	}
	int file = file_in(dir, LENGTH, 103);
	warm(file, LENGTH);
	snapsend_t *ctx = create_ctx();
	acquaint(ctx, file);
	connect_over(&net, PATH_VETH, 0, sv);
	changes(ctx, sv, file, false);
	changes(ctx, sv, file, true);
	printf("%s: %.1f MiB from the page cache\n", type, (double)lent_bytes(ctx) / MIB);
	CHECK_UGE(lent_bytes(ctx), 40 * LENGTH);
	destroy_ctx(ctx);
	close_pair(sv);
	close(file);
}

int main(void)
{
	lending_network(&net);
	for (size_t i = 0; i < COUNT_OF(types); i++)
		in_child(types[i], with, types[i]);
	return parts_done();
}
