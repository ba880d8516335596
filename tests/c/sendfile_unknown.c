/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Where it cannot be found out what socket and file are, snapsend_sendfile says so. It does not leave them to
 * sendfile(2), which would send pages that still change. */
#include "common.h"
#include "faults.h"

static void one(int out, int in, enum fault_kind kind, int error)
{
	off_t offset = 10;
	faults_set((struct fault_plan){ .kind = kind, .first = 1, .last = 1000, .error = error });
	errno = 0;
	ssize_t n = snapsend_sendfile(out, in, &offset, 300000);
	int got = errno;
	faults_off();
	CHECK_GE(atomic_load(&faults_given), 1);
	CHECK_EQ(n, -1);
	CHECK_EQ(got, error);
	CHECK_EQ(offset, 10);
}

int main(void)
{
	int sv[2], ends[2], file = temp_file(400000, 7);
	char byte;
	tcp_pair(sv);
	SYS(pipe2(ends, O_CLOEXEC | O_NONBLOCK));
	one(sv[0], file, K_FSTAT, EIO);
	one(sv[0], file, K_GETSOCKOPT, ENOMEM);
	one(ends[1], file, K_FSTAT, ENOMEM);
	CHECK_EQ(recv(sv[1], &byte, 1, MSG_DONTWAIT), -1);
	CHECK_EQ(errno, EAGAIN);
	CHECK_EQ(read(ends[0], &byte, 1), -1);
	CHECK_EQ(errno, EAGAIN);
	return 0;
}
