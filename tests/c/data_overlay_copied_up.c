/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A file of a lower layer of overlayfs that was opened before somebody wrote to it: read(2) shows the new content,
 * its mappings go on showing the old, new ones too. What is sent is what read(2) shows. */
#include "data_common.h"

#define LENGTH (2 * MIB + 3)

/* The control: a mapping is not what read(2) gives. */
static bool mapping_is_old(int file)
{
	void *mapped = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, file, 0);
	CHECK(mapped != MAP_FAILED);
	bool old = pattern_bad(mapped, 0, LENGTH, 1) == SIZE_MAX;
	munmap(mapped, LENGTH);
	return old;
}

int main(void)
{
	char path[PATH_MAX];
	int sv[2];
	const char *dir = private_mounts();
	overlay_attach(dir, "file", LENGTH, 1);
	snprintf(path, sizeof path, "%s/merged/file", dir);
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, LENGTH, 2);
	tcp_pair(sv);
	int file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC)), writer = (int)SYS(open(path, O_WRONLY | O_CLOEXEC));
	pattern_write(writer, 0, LENGTH, 2);
	if (!mapping_is_old(file))
		printf("mappings show the new content on this kernel\n");
	every_way(ctx, sv, file, image, LENGTH, NULL, NULL, NULL);
	for (int i = 0; i < 3; i++) { /* and again, when the library knows the file */
		struct reader reader;
		reader_start_check(&reader, sv[1], LENGTH, 0, 2);
		CHECK_EQ(call_done(ctx, (enum call)i, make_request(sv[0], file, 0, LENGTH)).status, 0);
		reader_join(&reader);
	}
	close(file);
	close(writer);
	free(image);
	close_pair(sv);
	destroy_ctx(ctx);
	return 0;
}
