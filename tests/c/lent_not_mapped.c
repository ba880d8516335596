/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* ZEROCOPY of files whose mapping may show something else than read(2): a lower file of overlayfs that was opened before
 * somebody wrote to it, and FUSE in each of its cache modes while the server changes the file. What is sent is what
 * read(2) gives, and nothing comes from the page cache. */
#include "data_fuse.h"

#include "lent.h"

#define LENGTH (2 * MIB + 3)

static struct network net;

static void check(snapsend_t *ctx, int sv[2], int file, uint64_t seed)
{
	unsigned char *image = image_of(0, LENGTH, seed);
	struct snapsend_request request = lend_request(sv[0], file, 0, LENGTH);
	for (int i = 0; i < 3; i++)
		CHECK_UEQ(lent_ok(ctx, sv, request, image, LENGTH), 0);
	request.file_fd = snapsend_register_file(ctx, file, 0);
	CHECK_GE(request.file_fd, 0);
	request.flags |= SNAPSEND_REGISTERED_FILE;
	CHECK_UEQ(lent_ok(ctx, sv, request, image, LENGTH), 0);
	CHECK_EQ(snapsend_unregister_file(ctx, request.file_fd), 0);
	free(image);
}

static void overlay(const void *unused)
{
	char path[PATH_MAX];
	int sv[2];
	(void)unused;
	const char *dir = private_mounts();
	overlay_attach(dir, "file", LENGTH, 1);
	snprintf(path, sizeof path, "%s/merged/file", dir);
	int file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	warm(file, LENGTH);
	snapsend_t *ctx = create_ctx();
	connect_over(&net, PATH_VETH, 0, sv);
	check(ctx, sv, file, 1);
	int writer = (int)SYS(open(path, O_WRONLY | O_CLOEXEC));
	pattern_write(writer, 0, LENGTH, 2);
	check(ctx, sv, file, 2);
	destroy_ctx(ctx);
}

static void fuse_modes(const void *unused)
{
	static const int modes[] = { FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, 0 };
	int sv[2];
	(void)unused;
	const char *path = fuse_mount(LENGTH, 90, 4);
	snapsend_t *ctx = create_ctx();
	connect_over(&net, PATH_VETH, 0, sv);
	for (size_t i = 0; i < COUNT_OF(modes); i++) {
		atomic_store(&fuse->open_flags, modes[i]);
		int file = fuse_open(path, modes[i] == FOPEN_DIRECT_IO);
		check(ctx, sv, file, fuse->seed);
		if (modes[i] == FOPEN_DIRECT_IO) {
			atomic_fetch_add(&fuse->seed, 1);
			check(ctx, sv, file, fuse->seed);
		}
		close(file);
	}
	destroy_ctx(ctx);
}

int main(void)
{
	lending_network(&net);
	in_child("overlayfs", overlay, NULL);
	in_child("FUSE", fuse_modes, NULL);
	return parts_done();
}
