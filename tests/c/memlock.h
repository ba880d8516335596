/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the tests of zero-copy under RLIMIT_MEMLOCK share: another process of the user.
 */
#ifndef SNAPSEND_TESTS_MEMLOCK_H
#define SNAPSEND_TESTS_MEMLOCK_H

#include "common.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* Starts a process that locks so many bytes until it is killed. */
static inline pid_t process_that_locks(size_t length)
{
	int ready[2];
	char byte;
	SYS(pipe(ready));
	pid_t pid = (pid_t)SYS(fork());
	if (pid > 0) {
		close(ready[1]);
		if (read(ready[0], &byte, 1) != 1)
			skip("another process cannot lock so much");
		close(ready[0]);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	struct io_uring_params params = { 0 };
	void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	struct iovec all = { memory, length };
	int ring = (int)syscall(SYS_io_uring_setup, 1, &params);
	if (memory == MAP_FAILED || ring < 0 ||
	    syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &all, 1) < 0)
		_exit(1);
	if (write(ready[1], "", 1) == 1)
		pause();
	_exit(0);
}

#endif
