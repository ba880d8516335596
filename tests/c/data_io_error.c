/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A disk that dies: -EIO, with exact counts and right bytes before it; what had been read before is still sent.
 * A loop device over a file on another loop device's file system; that one is shut down, after which every
 * read of the first fails. */
#include "data_common.h"

#define SIZE (16 * MIB)
#define WARM (MIB + 8192) /* so much is in the page cache when the disk dies */
#define HEAD 50

#ifndef EXT4_IOC_SHUTDOWN
#define EXT4_IOC_SHUTDOWN _IOR('X', 125, uint32_t)
#endif

static void one(snapsend_t *ctx, int file, enum kind kind, uint32_t flags, uint64_t offset, const unsigned char *image)
{
	int sv[2];
	struct snapsend_completion done;
	struct reader reader;
	char head[HEAD];
	struct iovec piece = { head, HEAD };
	if (!pair_of_kind(kind, sv, 0))
		return;
	memset(head, 'h', HEAD);
	reader_start_keep(&reader, sv[1], UINT64_MAX);
	struct snapsend_request request = make_request(sv[0], file, offset, 4 * MIB);
	request.flags = flags;
	request.header = &piece, request.header_count = 1;
	wait_done(ctx, submit_ok(ctx, &request), &done);
	SYS(shutdown(sv[0], SHUT_WR));
	uint64_t got = reader_join(&reader);
	CHECK_EQ(done.status, -EIO);
	CHECK_UEQ(got, done.wire_bytes);
	CHECK_UEQ(done.file_bytes, got > HEAD ? got - HEAD : 0);
	CHECK_ULE(got, HEAD + (offset < WARM ? WARM - offset : 0));
	if (flags & SNAPSEND_EXACT)
		CHECK_UEQ(got, 0);
	CHECK(got <= HEAD || memcmp(reader.data + HEAD, image + offset, got - HEAD) == 0);
	reader_free(&reader);
	close_pair(sv);
}

/* The file to be read, and the folder whose file system is to die below it. */
static int make_disk(char dir[PATH_MAX])
{
	char path[PATH_MAX + 16], device[64];
	image_attach(private_mounts(), "below", "ext4", 128 * MIB, dir);
	snprintf(path, sizeof path, "%s/disk", dir);
	int backing = (int)SYS(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	pattern_write(backing, 0, SIZE, 48);
	SYS(fsync(backing));
	int disk = loop_attach(backing, device);
	close(backing);
	return disk;
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_ZERO_PAD };
	char dir[PATH_MAX];
	uint32_t no_log_flush = 2;
	int disk = make_disk(dir), sv[2];
	unsigned char *image = image_of(0, SIZE, 48), *warm = malloc(WARM);
	CHECK(warm != NULL);
	SYS(posix_fadvise(disk, 0, 0, POSIX_FADV_DONTNEED));
	SYS(posix_fadvise(disk, 0, 0, POSIX_FADV_RANDOM)); /* no more than asked for */
	CHECK_EQ(pread(disk, warm, WARM, 0), WARM);
	int root = (int)SYS(open(dir, O_RDONLY | O_CLOEXEC));
	if (ioctl(root, EXT4_IOC_SHUTDOWN, &no_log_flush) != 0)
		skip("the file system cannot be shut down");
	if (pread(disk, warm, 4096, 8 * MIB) >= 0 || errno != EIO)
		skip("the disk still reads");
	snapsend_t *ctx = create_ctx();
	for (int kind = 0; kind < KINDS; kind++)
		for (size_t i = 0; i < COUNT_OF(flags); i++) {
			one(ctx, disk, (enum kind)kind, flags[i], 8 * MIB, image); /* at once */
			one(ctx, disk, (enum kind)kind, flags[i], 4097, image);    /* after a while */
		}
	tcp_pair(sv);
	if (cached_bytes(disk, WARM) == WARM) /* unless the machine needed the memory meanwhile */
		transfer_ok(ctx, sv, make_request(-1, disk, 100, WARM - 100), image + 100, WARM - 100);
	destroy_ctx(ctx);
	free(warm);
	free(image);
	return 0;
}
