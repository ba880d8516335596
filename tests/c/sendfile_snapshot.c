/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What snapsend_sendfile has reported as sent is not changed by later writes to the file. sendfile(2) is
 * measured by the same means and must be caught, or this would prove nothing. */
#include "common.h"
#include <sys/sendfile.h>

#define LENGTH (1 * MIB)

typedef ssize_t function(int out_fd, int in_fd, off_t *offset, size_t count);

/* How many of the bytes reported as sent arrive otherwise than they were in the file at that moment. */
static uint64_t changed(function *f, int family)
{
	static unsigned char got[LENGTH];
	int sv[2];
	uint64_t bad = 0;
	if (!pair_sized(family, sv, 0, 0))
		return 0;
	set_nonblock(sv[0]);
	int file = temp_file(LENGTH, 1);
	off_t offset = 0;
	ssize_t sent = f(sv[0], file, &offset, LENGTH);
	CHECK_GE(sent, 1);
	pattern_write(file, 0, LENGTH, 2); /* the moment it may be */
	CHECK_EQ(read_all(sv[1], got, (size_t)sent), sent);
	for (ssize_t i = 0; i < sent; i++)
		bad += got[i] != pattern_byte((uint64_t)i, 1);

	/* The same with a file that is cut off. */
	drain(sv[1], 5);
	pattern_write(file, 0, LENGTH, 1);
	offset = 0;
	sent = f(sv[0], file, &offset, LENGTH);
	CHECK_GE(sent, 1);
	SYS(ftruncate(file, 0));
	CHECK_EQ(read_all(sv[1], got, (size_t)sent), sent);
	for (ssize_t i = 0; i < sent; i++)
		bad += got[i] != pattern_byte((uint64_t)i, 1);
	close(file);
	close(sv[0]);
	close(sv[1]);
	return bad;
}

int main(void)
{
	uint64_t theirs = 0;
	static const int families[] = { AF_INET, AF_INET6, AF_UNIX };
	for (size_t i = 0; i < COUNT_OF(families); i++) {
		theirs += changed(sendfile, families[i]);
		CHECK_UEQ(changed(snapsend_sendfile, families[i]), 0);
	}
	printf("sendfile(2): %" PRIu64 " bytes changed\n", theirs);
	CHECK_UGE(theirs, 1);
	return 0;
}
