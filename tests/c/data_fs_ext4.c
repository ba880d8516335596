/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The data path on ext4, from a loop device. */
#include "data_common.h"

int main(void)
{
	char dir[PATH_MAX];
	image_attach(private_mounts(), "ext4", "ext4", 512 * MIB, dir);
	exercise_file_system(dir);
	return 0;
}
