/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* ZEROCOPY on each file system: where a mapping is what read(2) gives, the page cache itself is sent; elsewhere the
 * operation goes as without the flag. Ranges that begin and end anywhere, up to the end of the file and beyond it, with
 * header and trailer, with more to come, with a time limit, from holes, through a handle and through a descriptor. */
#include "lent.h"

#define LENGTH (3 * MIB + 1536) /* whole sectors, for the block device */
#define EDGE   1001             /* bytes of header, and of trailer */
#define BEYOND 70000

enum what { IMAGE, DIRECT, TMPFS, HUGE, MEMORY, DEVICE, OVERLAY };

struct file_system {
	const char *name;
	enum what kind;
	bool lends;
};

static const struct file_system file_systems[] = {
	{ "ext4", IMAGE, true },         { "xfs", IMAGE, true },
	{ "btrfs", IMAGE, true },        { "ext4, O_DIRECT", DIRECT, true },
	{ "tmpfs", TMPFS, true },        { "tmpfs, huge pages", HUGE, true },
	{ "memory file", MEMORY, true }, { "block device", DEVICE, true },
	{ "overlay", OVERLAY, false },
};

static struct network net;

static struct iovec header, trailer;

/* What the peer gets from a range: all of it between header and trailer, with zeros beyond the end. */
static unsigned char *stream_of(const unsigned char *image, uint64_t offset, size_t length)
{
	size_t there = offset + length <= LENGTH ? length : LENGTH - offset;
	unsigned char *stream = calloc(1, EDGE + length + EDGE);
	CHECK(stream != NULL);
	memset(stream, 'H', EDGE);
	memcpy(stream + EDGE, image + offset, there);
	memset(stream + EDGE + length, 'T', EDGE);
	return stream;
}

static uint64_t range(snapsend_t *ctx, int sv[2], struct snapsend_request request, const unsigned char *image)
{
	size_t length = request.length == SNAPSEND_TO_EOF ? LENGTH - request.offset : request.length;
	unsigned char *stream = stream_of(image, request.offset, length);
	request.timeout_ms = WAIT_MS * (uint32_t)slowness();
	uint64_t lent = lent_ok(ctx, sv, request, stream + EDGE, length);
	request.header = &header, request.header_count = 1;
	request.trailer = &trailer, request.trailer_count = 1;
	lent += lent_ok(ctx, sv, request, stream, length + 2 * EDGE);
	free(stream);
	return lent;
}

static uint64_t ranges(snapsend_t *ctx, int sv[2], struct snapsend_request request, const unsigned char *image)
{
	static const uint64_t parts[][2] = {
		{ 0, LENGTH },           { 1, LENGTH - 1 },        { 4095, 300001 },
		{ 2 * MIB - 5, 400009 }, { 777, SNAPSEND_TO_EOF }, { LENGTH - 400000, SNAPSEND_TO_EOF },
	};
	uint32_t flags = request.flags;
	uint64_t lent = 0;
	for (size_t i = 0; i < COUNT_OF(parts); i++) {
		request.offset = parts[i][0], request.length = parts[i][1];
		request.flags = flags | (i == 2 ? SNAPSEND_MORE : 0);
		lent += range(ctx, sv, request, image);
	}
	request.flags = flags | SNAPSEND_ZERO_PAD;
	request.offset = LENGTH - 400000, request.length = 400000 + BEYOND;
	return lent + range(ctx, sv, request, image);
}

static void without_the_end(snapsend_t *ctx, int sv[2], struct snapsend_request request)
{
	struct snapsend_completion done;
	request.offset = 1, request.length = LENGTH;
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK_EQ(done.status, -ENODATA);
	CHECK_UEQ(done.wire_bytes, 0);
	CHECK_EQ(unread(sv[1]), 0);
}

static void holes(snapsend_t *ctx, int sv[2], int file, unsigned char *image)
{
	SYS(ftruncate(file, 0));
	SYS(ftruncate(file, LENGTH));
	memset(image, 0, LENGTH);
	pattern_fill(image + 777777, 777777, 100000, 44);
	file_put(file, 777777, image + 777777, 100000);
	for (int i = 0; i < 2; i++)
		(void)lent_ok(ctx, sv, make_request(-1, file, 3, LENGTH - 3), image + 3, LENGTH - 3);
}

static void exercise(int file, const struct file_system *fs)
{
	int sv[2];
	unsigned char *image = image_of(0, LENGTH, 93);
	snapsend_t *ctx = create_ctx();
	if (fs->kind != DIRECT)
		warm(file, LENGTH);
	connect_over(&net, PATH_VETH, 0, sv);
	uint64_t lent = ranges(ctx, sv, lend_request(sv[0], file, 0, 0), image);
	struct snapsend_request request = lend_request(sv[0], snapsend_register_file(ctx, file, 0), 0, 0);
	CHECK_GE(request.file_fd, 0);
	request.flags |= SNAPSEND_REGISTERED_FILE;
	uint64_t again = ranges(ctx, sv, request, image);
	printf("%s: %.1f and %.1f MiB from the page cache\n", fs->name, (double)lent / MIB, (double)again / MIB);
	without_the_end(ctx, sv, request);
	if (fs->lends)
		CHECK(lent >= 4 * LENGTH && again >= 4 * LENGTH);
	else
		CHECK(lent == 0 && again == 0);
	if (fs->kind != DEVICE && fs->kind != DIRECT)
		holes(ctx, sv, file, image);
	destroy_ctx(ctx);
	close_pair(sv);
	free(image);
}

static int on_device(const char *top)
{
	char device[64];
	return loop_attach(file_in(top, LENGTH, 93), device);
}

static int on_overlay(const char *top)
{
	char path[PATH_MAX];
	overlay_attach(top, "below", LENGTH, 93);
	snprintf(path, sizeof path, "%s/merged/below", top);
	return (int)SYS(open(path, O_RDWR | O_CLOEXEC));
}

static int on_image(const char *top, const char *type)
{
	static char mounted[PATH_MAX];
	image_attach(top, type, type, 512 * MIB, mounted);
	return file_in(mounted, LENGTH, 93);
}

/* The file's pages are in the page cache, though reads and writes by this descriptor pass it by. */
static int on_image_direct(const char *top)
{
	char path[64];
	int file = on_image(top, "ext4");
	warm(file, LENGTH);
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	return (int)SYS(open(path, O_RDONLY | O_DIRECT | O_CLOEXEC));
}

static int on_huge_pages(const char *top)
{
	if (mount("none", top, "tmpfs", 0, "huge=always") != 0)
		skip("no huge pages on tmpfs here");
	return file_in(top, LENGTH, 93);
}

static int in_memory(void)
{
	int file = (int)SYS(memfd_create("snapsend-test", MFD_CLOEXEC));
	pattern_write(file, 0, LENGTH, 93);
	return file;
}

static void with(const void *argument)
{
	const struct file_system *fs = argument;
	const char *top = private_mounts();
	int file;
	switch (fs->kind) {
	case TMPFS: file = file_in(top, LENGTH, 93); break;
	case DIRECT: file = on_image_direct(top); break;
	case HUGE: file = on_huge_pages(top); break;
	case MEMORY: file = in_memory(); break;
	case DEVICE: file = on_device(top); break;
	case OVERLAY: file = on_overlay(top); break;
	default: file = on_image(top, fs->name);
	}
	exercise(file, fs);
	close(file);
}

int main(void)
{
	header = (struct iovec){ malloc(EDGE), EDGE };
	trailer = (struct iovec){ malloc(EDGE), EDGE };
	CHECK(header.iov_base != NULL && trailer.iov_base != NULL);
	memset(header.iov_base, 'H', EDGE);
	memset(trailer.iov_base, 'T', EDGE);
	lending_network(&net);
	for (size_t i = 0; i < COUNT_OF(file_systems); i++)
		in_child(file_systems[i].name, with, &file_systems[i]);
	return parts_done();
}
