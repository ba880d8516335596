/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The data path on overlayfs, for files of the upper and of the lower layer. */
#include "data_common.h"

#define LENGTH (2 * MIB + 3)

/* Opened for reading, a file of the lower layer stays there. */
static void from_below(const char *dir)
{
	char path[PATH_MAX];
	int sv[2];
	snprintf(path, sizeof path, "%s/merged/below", dir);
	snapsend_t *ctx = create_ctx();
	int file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	unsigned char *image = image_of(0, LENGTH, 45);
	tcp_pair(sv);
	every_way(ctx, sv, file, image, LENGTH, NULL, NULL, NULL);
	close(file);
	free(image);
	close_pair(sv);
	destroy_ctx(ctx);
}

int main(void)
{
	const char *dir = private_mounts();
	char path[PATH_MAX];
	overlay_attach(dir, "below", LENGTH, 45);
	snprintf(path, sizeof path, "%s/merged", dir);
	from_below(dir);
	exercise_file_system(path);
	return 0;
}
