/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A read lease on the file is neither broken by the library nor kept from its end: it is the caller's, before,
 * during and after. */
#include "data_common.h"

#define LENGTH (2 * MIB)

static atomic_int signals;

static void on_signal(int sig)
{
	(void)sig;
	atomic_fetch_add(&signals, 1);
}

static void check(void *argument)
{
	CHECK_EQ(fcntl(*(int *)argument, F_GETLEASE), F_RDLCK);
	CHECK_EQ(atomic_load(&signals), 0);
}

int main(void)
{
	char path[PATH_MAX];
	int sv[2];
	close(temp_file_path(LENGTH, 54, path)); /* a lease for reading is refused while anybody can write */
	int file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	signal(SIGIO, on_signal);
	if (fcntl(file, F_SETLEASE, F_RDLCK) != 0)
		skip("no leases here");
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(0, LENGTH, 54);
	tcp_pair(sv);
	every_way(ctx, sv, file, image, LENGTH, NULL, check, &file);
	destroy_ctx(ctx);
	check(&file);
	/* The check can fail: a writer breaks it. */
	CHECK(open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC) < 0 && errno == EWOULDBLOCK);
	CHECK_EQ(atomic_load(&signals), 1);
	SYS(fcntl(file, F_SETLEASE, F_UNLCK));
	free(image);
	return 0;
}
