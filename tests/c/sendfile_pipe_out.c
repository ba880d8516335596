/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* snapsend_sendfile into a pipe: what is in the pipe is as the file was, whatever is written to it after. */
#include "common.h"

int main(void)
{
	int pipes[2];
	enum { LENGTH = 40000 };
	unsigned char got[65536], other[LENGTH];
	memset(other, '#', sizeof other);

	/* Each with its own file, overwritten the moment the call has returned. */
	for (int with_offset = 0; with_offset < 2; with_offset++) {
		int file = temp_file(LENGTH, 1);
		off_t offset = 100;
		SYS(pipe(pipes));
		SYS(lseek(file, 100, SEEK_SET));
		CHECK_EQ(snapsend_sendfile(pipes[1], file, with_offset ? &offset : NULL, 30000), 30000);
		CHECK_EQ(pwrite(file, other, LENGTH, 0), LENGTH);
		CHECK_EQ(offset, with_offset ? 30100 : 100);
		CHECK_EQ(lseek(file, 0, SEEK_CUR), with_offset ? 100 : 30100);
		CHECK_EQ(read_all(pipes[0], got, 30000), 30000);
		CHECK(pattern_bad(got, 100, 30000, 1) == SIZE_MAX);
		close(pipes[0]);
		close(pipes[1]);
		close(file);
	}

	/* The end of the file: what is there, then 0. */
	int file = temp_file(1000, 1);
	off_t offset = 900;
	SYS(pipe(pipes));
	CHECK_EQ(snapsend_sendfile(pipes[1], file, &offset, 5000), 100);
	CHECK_EQ(offset, 1000);
	CHECK_EQ(snapsend_sendfile(pipes[1], file, &offset, 5000), 0);
	CHECK_EQ(read_all(pipes[0], got, 100), 100);
	CHECK(pattern_bad(got, 900, 100, 1) == SIZE_MAX);

	/* Non-blocking: what fits, then EAGAIN. By default a pipe has 16 pages, of any size. */
	int big = temp_file(MIB, 1);
	SYS(fcntl(pipes[1], F_SETPIPE_SZ, sizeof got));
	set_nonblock(pipes[1]);
	offset = 0;
	ssize_t n = snapsend_sendfile(pipes[1], big, &offset, MIB);
	CHECK_GE(n, 1);
	CHECK_LT(n, MIB);
	CHECK_EQ(offset, n);
	while ((n = snapsend_sendfile(pipes[1], big, &offset, MIB)) > 0)
		;
	CHECK_EQ(n, -1);
	CHECK_EQ(errno, EAGAIN);
	ssize_t sent = (ssize_t)offset;
	CHECK_LE(sent, (long)sizeof got);
	set_nonblock(pipes[0]);
	CHECK_EQ(read(pipes[0], got, sizeof got), sent);
	CHECK(pattern_bad(got, 0, (size_t)sent, 1) == SIZE_MAX);
	CHECK_EQ(read(pipes[0], got, sizeof got), -1);
	close(pipes[0]);
	close(pipes[1]);

	/* Blocking, more than the pipe holds: comes through in the end, by as many calls as it takes. */
	struct reader reader;
	SYS(pipe(pipes));
	reader_start_check(&reader, pipes[0], MIB, 0, 1);
	for (offset = 0; offset < (off_t)MIB;) {
		off_t before = offset;
		n = snapsend_sendfile(pipes[1], big, &offset, MIB - (size_t)offset);
		CHECK_GE(n, 1);
		CHECK_EQ(offset, before + n);
	}
	reader_join(&reader);
	return 0;
}
