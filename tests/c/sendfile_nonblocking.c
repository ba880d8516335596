/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* On a non-blocking socket: what fits goes out and the offset moves by exactly that; nothing fits: EAGAIN. */
#include "common.h"

#define LENGTH (24 * MIB)

static void each(int family, bool with_offset)
{
	int sv[2];
	if (!pair_sized(family, sv, 0, 0))
		return;
	set_nonblock(sv[0]);
	int file = temp_file(LENGTH, 1);
	unsigned char *got = malloc(LENGTH);
	CHECK(got != NULL);
	off_t offset = 0;
	uint64_t sent = 0, read_so_far = 0, partial = 0, again = 0;
	while (sent < LENGTH) {
		errno = 0;
		ssize_t n = snapsend_sendfile(sv[0], file, with_offset ? &offset : NULL, LENGTH - sent);
		int error = errno;
		CHECK(n != 0);
		if (n < 0) {
			CHECK_EQ(n, -1);
			CHECK_EQ(error, EAGAIN);
			again++;
		} else {
			partial += sent + (uint64_t)n < LENGTH;
			sent += (uint64_t)n;
		}
		CHECK_ULE(sent, LENGTH);
		CHECK_UEQ(with_offset ? offset : lseek(file, 0, SEEK_CUR), sent);
		if (with_offset)
			CHECK_EQ(lseek(file, 0, SEEK_CUR), 0); /* and the position not at all */
		if (n < 0) {                                   /* exactly what it said is there */
			struct pollfd p = { .fd = sv[1], .events = POLLIN };
			while (read_so_far < sent) {
				CHECK_EQ(poll(&p, 1, 5000), 1);
				ssize_t took = SYS(recv(sv[1], got + read_so_far, LENGTH - read_so_far, MSG_DONTWAIT));
				read_so_far += (uint64_t)took;
			}
			CHECK_UEQ(read_so_far, sent);
			CHECK_EQ(poll(&p, 1, 2), 0);
			CHECK(pattern_bad(got, 0, read_so_far, 1) == SIZE_MAX);
		}
	}
	CHECK_UGE(partial, 1);
	CHECK_UGE(again, 1);
	free(got);
	close(file);
	close(sv[0]);
	close(sv[1]);
}

int main(void)
{
	static const int families[] = { AF_INET, AF_INET6, AF_UNIX };
	for (size_t i = 0; i < COUNT_OF(families); i++) {
		each(families[i], true);
		each(families[i], false);
	}

	/* Full from the start: neither offset nor position moves, at no length, and it does not wait. */
	int sv[2];
	unix_pair(sv);
	set_nonblock(sv[0]);
	int file = temp_file(MIB, 1);
	uint64_t filled = fill_socket(sv[0]);
	static const size_t counts[] = { 1, 4096, MIB };
	for (size_t i = 0; i < COUNT_OF(counts); i++) {
		off_t offset = 10;
		SYS(lseek(file, 20, SEEK_SET));
		int64_t begin = now_ms();
		CHECK_EQ(snapsend_sendfile(sv[0], file, &offset, counts[i]), -1);
		CHECK_EQ(errno, EAGAIN);
		CHECK_EQ(snapsend_sendfile(sv[0], file, NULL, counts[i]), -1);
		CHECK_EQ(errno, EAGAIN);
		CHECK_LE(now_ms() - begin, 1000);
		CHECK_EQ(offset, 10);
		CHECK_EQ(lseek(file, 0, SEEK_CUR), 20);
		CHECK_EQ(snapsend_sendfile(sv[0], file, NULL, 0), 0); /* nothing to do is not an error */
	}
	CHECK_UEQ(drain(sv[1], 20), filled);
	return 0;
}
