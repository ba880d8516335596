/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A write lease needs the only descriptor of the file: after DONE it can be had, so the library has none. */
#include "data_common.h"

#define LENGTH (2 * MIB)

static void check(void *argument)
{
	int file = *(int *)argument;
	if (fcntl(file, F_SETLEASE, F_WRLCK) != 0)
		fail("no write lease after DONE: %s", strerror(errno));
	SYS(fcntl(file, F_SETLEASE, F_UNLCK));
}

int main(void)
{
	char path[PATH_MAX];
	int sv[2], file = temp_file_path(LENGTH, 55, path);
	if (fcntl(file, F_SETLEASE, F_WRLCK) != 0)
		skip("no leases here");
	SYS(fcntl(file, F_SETLEASE, F_UNLCK));
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, LENGTH, 55);
	tcp_pair(sv);
	every_way(ctx, sv, file, image, LENGTH, NULL, check, &file);
	int other = (int)SYS(open(path, O_RDONLY | O_CLOEXEC)); /* the check can fail */
	CHECK(fcntl(file, F_SETLEASE, F_WRLCK) != 0);
	close(other);
	free(image);
	destroy_ctx(ctx);
	return 0;
}
