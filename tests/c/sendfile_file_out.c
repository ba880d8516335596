/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Pairs of descriptors that are not file to stream socket or pipe are passed on to sendfile(2). */
#include "common.h"
#include <sys/sendfile.h>

int main(void)
{
	enum { LENGTH = 300000 };
	static unsigned char got[LENGTH + 1];
	int file = temp_file(LENGTH, 1), copy = temp_file(0, 1);
	off_t offset = 1000;

	CHECK_EQ(snapsend_sendfile(copy, file, &offset, LENGTH), LENGTH - 1000);
	CHECK_EQ(offset, LENGTH);
	CHECK_EQ(lseek(copy, 0, SEEK_CUR), LENGTH - 1000); /* out_fd's position moves, as for write */
	CHECK_EQ(pread(copy, got, sizeof got, 0), LENGTH - 1000);
	CHECK(pattern_bad(got, 1000, LENGTH - 1000, 1) == SIZE_MAX);

	SYS(ftruncate(copy, 0));
	SYS(lseek(copy, 0, SEEK_SET));
	SYS(lseek(file, 5, SEEK_SET));
	CHECK_EQ(snapsend_sendfile(copy, file, NULL, 100), 100);
	CHECK_EQ(lseek(file, 0, SEEK_CUR), 105);
	CHECK_EQ(pread(copy, got, sizeof got, 0), 100);
	CHECK(pattern_bad(got, 5, 100, 1) == SIZE_MAX);

	/* A datagram socket: sendfile makes datagrams of it, or refuses; so must ours. */
	int sv[2][2];
	ssize_t results[2], datagrams[2][3];
	int errors[2];
	for (int ours = 0; ours < 2; ours++) {
		SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv[ours]));
		offset = 0;
		errno = 0;
		results[ours] = (ours ? snapsend_sendfile : sendfile)(sv[ours][0], file, &offset, 5000);
		errors[ours] = errno;
		for (int i = 0; i < 3; i++)
			datagrams[ours][i] = recv(sv[ours][1], got, sizeof got, MSG_DONTWAIT);
	}
	CHECK_EQ(results[1], results[0]);
	CHECK_EQ(errors[1], errors[0]);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(datagrams[1][i], datagrams[0][i]);
	return 0;
}
