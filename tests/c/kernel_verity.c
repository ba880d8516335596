/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A file with fs-verity: sent as any other, and by reference where that pays; where its blocks have been tampered with,
 * -EIO, with exact counts and right bytes before. */
#include "frozen.h"

#include <linux/fs.h>
#include <linux/fsverity.h>

#define SIZE  (4 * MIB + 100)
#define BAD   (2 * MIB) /* where in the file a byte is changed below the file system */
#define BLOCK 4096

static const char *const mkfs[] = { "mkfs.ext4", "-q", "-O", "verity", "-b", "4096", "/mnt/verity.img", NULL };

/* The loop device; its file system is mounted at /mnt/verity. */
static int make_disk(void)
{
	char device[64];
	if (strcmp(private_mounts(), "/mnt") != 0)
		skip("no /mnt");
	int backing = (int)SYS(open("/mnt/verity.img", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	SYS(ftruncate(backing, 64 * MIB));
	if (run_tool(mkfs) != 0)
		skip("no mkfs.ext4 that knows fs-verity");
	int disk = loop_attach(backing, device);
	close(backing);
	SYS(mkdir("/mnt/verity", 0700));
	if (mount(device, "/mnt/verity", "ext4", 0, NULL) != 0)
		skip("the kernel does not mount ext4 with fs-verity");
	return disk;
}

static int make_file(const char *path)
{
	struct fsverity_enable_arg enable = { .version = 1,
					      .hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
					      .block_size = BLOCK };
	int file = (int)SYS(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	pattern_write(file, 0, SIZE, 94);
	SYS(fsync(file));
	close(file);
	file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	if (ioctl(file, FS_IOC_ENABLE_VERITY, &enable) != 0)
		skip("this kernel has no fs-verity");
	CHECK(open(path, O_RDWR | O_CLOEXEC) < 0);
	return file;
}

/* Of a file of its own: TCP may keep pages that were read already until there is more traffic. Before Linux 6.8 what is
 * known of its file system holds for two seconds only, which may pass in an emulator. */
static void goes_by_reference(snapsend_t *ctx, const unsigned char *image)
{
	uint64_t count = 0;
	int file = make_file("/mnt/verity/other");
	for (int tries = 0; tries < 5 && count == 0; tries++)
		count = by_reference(ctx, file, image, SIZE);
	CHECK_UGE(count, 1);
	close(file);
}

/* blocks: whether the socket does; references go only into one that does not. */
static void tampered(snapsend_t *ctx, int file, const unsigned char *image, uint32_t flags, enum kind kind, bool blocks)
{
	int sv[2];
	struct reader reader;
	struct snapsend_completion done;
	if (!pair_of_kind(kind, sv, 0))
		return;
	if (!blocks)
		set_nonblock(sv[0]);
	reader_start_keep(&reader, sv[1], UINT64_MAX);
	struct snapsend_request request = make_request(sv[0], file, 0, SIZE);
	request.flags = flags;
	wait_done(ctx, submit_ok(ctx, &request), &done);
	SYS(shutdown(sv[0], SHUT_WR));
	uint64_t got = reader_join(&reader);
	CHECK_EQ(done.status, -EIO);
	CHECK_UEQ(got, done.wire_bytes);
	CHECK_ULE(got, BAD);
	CHECK(got == 0 || memcmp(reader.data, image, got) == 0);
	reader_free(&reader);
	close_pair(sv);
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	int disk = make_disk(), file = make_file("/mnt/verity/file"), sv[2], block = BAD / BLOCK;
	unsigned char *image = image_of(0, SIZE, 94), byte;
	snapsend_t *ctx = create_ctx();
	tcp_pair(sv);
	every_way(ctx, sv, file, image, SIZE, NULL, NULL, NULL);
	close_pair(sv);
	goes_by_reference(ctx, image);

	SYS(ioctl(file, FIBMAP, &block));
	CHECK_NE(block, 0);
	SYS(pread(disk, &byte, 1, (off_t)block * BLOCK + 5));
	byte ^= 1;
	SYS(pwrite(disk, &byte, 1, (off_t)block * BLOCK + 5));
	SYS(fsync(disk));
	for (size_t i = 0; i < COUNT_OF(flags) * (KINDS + 1); i++) {
		bool blocks = i % (KINDS + 1) < KINDS;
		enum kind kind = blocks ? (enum kind)(i % (KINDS + 1)) : UNIX;
		drop_cache_wholly(file, SIZE);
		tampered(ctx, file, image, flags[i / (KINDS + 1)], kind, blocks);
	}
	destroy_ctx(ctx);
	free(image);
	return 0;
}
