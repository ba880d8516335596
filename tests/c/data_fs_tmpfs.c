/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The data path on tmpfs: files in /dev/shm, and memory files, sealed ones too. */
#include "data_common.h"

#define LENGTH (MIB + 3)

static void memory_file(void)
{
	int file = memfd_create("snapsend-test", MFD_CLOEXEC | MFD_ALLOW_SEALING), sv[2];
	if (file < 0)
		return;
	pattern_write(file, 0, LENGTH, 46);
	SYS(fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL));
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, LENGTH, 46);
	tcp_pair(sv);
	every_way(ctx, sv, file, image, LENGTH, NULL, NULL, NULL);
	free(image);
	close(file);
	close_pair(sv);
	destroy_ctx(ctx);
}

int main(void)
{
	memory_file();
	if (access("/dev/shm", W_OK) != 0)
		skip("no /dev/shm");
	exercise_file_system("/dev/shm");
	return 0;
}
