/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The file system can be unmounted as soon as DONE has been taken and the caller has closed the file: the
 * library keeps nothing of it. On tmpfs and on ext4. */
#include "data_common.h"

#define LENGTH (2 * MIB + 9)

static void one(snapsend_t *ctx, const char *dir, enum call call, uint32_t flags, size_t length,
		const unsigned char *image)
{
	int sv[2];
	char path[PATH_MAX];
	struct reader reader;
	snprintf(path, sizeof path, "%s/file", dir);
	int file = open(path, O_RDWR | O_CLOEXEC);
	if (file < 0) { /* tmpfs forgets it */
		file = (int)SYS(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
		file_put(file, 0, image, LENGTH);
	}
	tcp_pair(sv);
	reader_start_keep(&reader, sv[1], length);
	struct snapsend_request request = make_request(sv[0], file, 0, length);
	request.flags = flags;
	CHECK_EQ(call_done(ctx, call, request).status, 0);
	close(file);
	if (umount2(dir, 0) != 0)
		fail("unmount after DONE (call %d, flags %u, %zu bytes): %s", call, flags, length, strerror(errno));
	reader_join(&reader);
	CHECK(memcmp(reader.data, image, length) == 0);
	reader_free(&reader);
	close_pair(sv);
}

static void every_one(const char *dir, const char *device, const char *type)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	static const size_t lengths[] = { 1000, 100000, LENGTH };
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, LENGTH, 56);
	for (size_t i = 0; i < CALLS * COUNT_OF(flags) * COUNT_OF(lengths); i++) {
		SYS(mount(device, dir, type, 0, NULL));
		one(ctx, dir, (enum call)(i % CALLS), flags[i / CALLS % 3], lengths[i / CALLS / 3], image);
	}
	/* The check can fail. */
	SYS(mount(device, dir, type, 0, NULL));
	int root = (int)SYS(open(dir, O_RDONLY | O_CLOEXEC));
	CHECK(umount2(dir, 0) != 0 && errno == EBUSY);
	close(root);
	SYS(umount2(dir, 0));
	free(image);
	destroy_ctx(ctx);
}

int main(void)
{
	const char *top = private_mounts();
	char dir[PATH_MAX], image[PATH_MAX], device[64];
	snprintf(dir, sizeof dir, "%s/here", top);
	snprintf(image, sizeof image, "%s/image", top);
	SYS(mkdir(dir, 0700));
	doing("tmpfs");
	every_one(dir, "none", "tmpfs");
	int backing = (int)SYS(open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	SYS(ftruncate(backing, 32 * MIB));
	if (run_tool((const char *const[]){ "mkfs.ext4", "-q", image, NULL }) != 0) {
		printf("no mkfs.ext4, tmpfs only\n");
		return 0;
	}
	int loop = loop_attach(backing, device);
	doing("ext4");
	every_one(dir, device, "ext4");
	close(loop);
	return 0;
}
