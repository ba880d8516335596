/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* flock and OFD locks go with the caller's last descriptor: after DONE the library holds neither a descriptor
 * nor a mapping of the file that would keep them. Until then they are undisturbed. */
#include "data_common.h"

#define LENGTH (2 * MIB)

static char path[PATH_MAX];

/* Takes the lock, or sees whether it can be had. */
static bool lock_it(int fd, bool ofd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	if (!ofd)
		return flock(fd, LOCK_EX | LOCK_NB) == 0;
	return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static void one(snapsend_t *ctx, const unsigned char *image, bool ofd, enum call call, uint32_t flags, size_t length)
{
	int sv[2];
	struct reader reader;
	int file = (int)SYS(open(path, O_RDWR | O_CLOEXEC)), other = (int)SYS(open(path, O_RDWR | O_CLOEXEC));
	CHECK(lock_it(file, ofd));
	tcp_pair(sv);
	reader_start_keep(&reader, sv[1], length);
	struct snapsend_request request = make_request(sv[0], file, 0, length);
	request.flags = flags;
	CHECK_EQ(call_done(ctx, call, request).status, 0);
	CHECK(!lock_it(other, ofd)); /* still ours */
	close(file);
	if (!lock_it(other, ofd))
		fail("the %s lock is held by something after DONE (flags %u, %zu bytes)", ofd ? "OFD" : "flock", flags,
		     length);
	reader_join(&reader);
	CHECK(memcmp(reader.data, image, length) == 0);
	reader_free(&reader);
	close(other);
	close_pair(sv);
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	static const size_t lengths[] = { 100, 100000, LENGTH };
	snapsend_t *ctx = create_ctx();
	close(temp_file_path(LENGTH, 53, path));
	unsigned char *image = image_of(0, LENGTH, 53);
	for (int ofd = 0; ofd < 2; ofd++)
		for (int call = 0; call < CALLS; call++)
			for (size_t i = 0; i < COUNT_OF(flags) * COUNT_OF(lengths); i++)
				for (int again = 0; again < 3; again++)
					one(ctx, image, ofd, (enum call)call, flags[i / 3], lengths[i % 3]);
	destroy_ctx(ctx);
	return 0;
}
