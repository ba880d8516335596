/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* snapsend_sendfile where sendfile(2) would succeed: counts, offsets and file position, side by side. */
#include "common.h"
#include <sys/sendfile.h>

#define LENGTH (10 * MIB + 123)

static void case_(int family, int nonblocking, bool with_offset, off_t start, size_t count)
{
	ssize_t results[2];
	off_t offsets[2], positions[2];
	int file = temp_file(LENGTH, 1);
	for (int ours = 0; ours < 2; ours++) {
		int sv[2];
		struct reader reader;
		if (!pair_sized(family, sv, 0, 0))
			return;
		if (nonblocking)
			set_nonblock(sv[0]);
		uint64_t there = (uint64_t)start < LENGTH ? LENGTH - (uint64_t)start : 0;
		uint64_t expected = count < there ? count : there;
		reader_start_check(&reader, sv[1], UINT64_MAX, (uint64_t)start, 1);
		off_t offset = start;
		SYS(lseek(file, with_offset ? 77 : start, SEEK_SET));
		errno = 0;
		results[ours] = ours ? snapsend_sendfile(sv[0], file, with_offset ? &offset : NULL, count)
				     : sendfile(sv[0], file, with_offset ? &offset : NULL, count);
		offsets[ours] = offset;
		positions[ours] = lseek(file, 0, SEEK_CUR);
		close(sv[0]);
		CHECK_UEQ(reader_join(&reader), results[ours]);
		CHECK_UEQ(results[ours], expected);
		close(sv[1]);
	}
	CHECK_EQ(results[1], results[0]);
	CHECK_EQ(offsets[1], offsets[0]);
	CHECK_EQ(positions[1], positions[0]);
	close(file);
}

int main(void)
{
	static const int families[] = { AF_INET, AF_INET6, AF_UNIX };
	for (size_t i = 0; i < COUNT_OF(families); i++) {
		for (int with_offset = 0; with_offset < 2; with_offset++) {
			case_(families[i], 0, with_offset, 0, 1);
			case_(families[i], 0, with_offset, 12345, 50000);
			case_(families[i], 1, with_offset, 12345, 50000);  /* fits into the socket */
			case_(families[i], 0, with_offset, 3, LENGTH - 3); /* waits for the reader */
			case_(families[i], 0, with_offset, 0, 0x7ffff000); /* more than there is: the rest */
			case_(families[i], 0, with_offset, LENGTH - 5, 100);
			case_(families[i], 0, with_offset, LENGTH, 100); /* the end: 0 */
			case_(families[i], 0, with_offset, LENGTH + 1000000, 100);
			case_(families[i], 0, with_offset, 5, 0);
			case_(families[i], 1, with_offset, LENGTH, 100);
		}
	}
	return 0;
}
