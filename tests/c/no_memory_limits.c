/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A process near RLIMIT_AS, with or without free memory in its heap, or with mlockall(MCL_FUTURE) near RLIMIT_MEMLOCK: create, submit, send and destroy give
 * success or -ENOMEM, accepted operations get their DONE, and nothing ends the process. */
#include "common.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define LENGTH 65536
#define STEPS  64
#define ENDED  100 /* apart from how a failed check ends */

static int sv[2], file;

static uint64_t vm_size(void)
{
	char line[256];
	unsigned long pages = 0;
	int fd = (int)SYS(open("/proc/self/statm", O_RDONLY | O_CLOEXEC));
	ssize_t n = SYS(read(fd, line, sizeof line - 1));
	close(fd);
	line[n] = 0;
	CHECK_EQ(sscanf(line, "%lu", &pages), 1);
	return pages * 4096;
}

static void set_limit(int what, uint64_t bytes)
{
	struct rlimit limit;
	SYS(getrlimit(what, &limit));
	limit.rlim_cur = limit.rlim_max < bytes ? limit.rlim_max : bytes;
	SYS(setrlimit(what, &limit));
}

/* 1 if there was memory for all of it. */
static int use(void)
{
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	struct snapsend_completion done;
	snapsend_t *ctx = NULL;
	int all = 1, result = snapsend_create(NULL, 0, &ctx);
	if (result != 0) {
		CHECK(result == -ENOMEM || result == -EAGAIN);
		return 0;
	}
	for (int i = 0; i < 20; i++) {
		result = i % 2 ? snapsend_submit(ctx, &request, sizeof request, NULL)
			       : snapsend_send(ctx, &request, sizeof request, &done);
		if (result == 0 && i % 2) {
			int taken = snapsend_poll(ctx, &done, 1, WAIT_MS);
			CHECK_EQ(taken, 1);
		}
		if (result == 0)
			result = done.status;
		CHECK(result == 0 || result == -ENOMEM);
		all &= result == 0;
	}
	CHECK_EQ(snapsend_destroy(ctx), 0);
	return all;
}

enum limit { SPACE, HEAP, LOCKED };

/* Takes all that malloc(3) has and can get, so that even the smallest allocation fails. */
static void use_up_heap(void)
{
	for (size_t size = 64 * KIB; size >= 16; size /= 2)
		for (int i = 0; i < 1000000 && malloc(size) != NULL; i++)
			;
}

static int in_child(int step, enum limit limit)
{
	int status;
	pid_t child = (pid_t)SYS(fork());
	if (child == 0) {
		uint64_t more = step < 48 ? 4 * KIB + 16 * KIB * (uint64_t)step
					  : 256 * KIB * (uint64_t)(step - 45) * (uint64_t)(step - 45);
		if (limit == LOCKED) {
			set_limit(RLIMIT_MEMLOCK, more);
			SYS(setuid(65534)); /* or the limit does not hold */
			SYS(mlockall(MCL_FUTURE));
		} else {
			set_limit(RLIMIT_AS, vm_size() + more);
			if (limit == HEAP)
				use_up_heap();
		}
		_exit(ENDED + use());
	}
	SYS(waitpid(child, &status, 0));
	if (!WIFEXITED(status) || WEXITSTATUS(status) < ENDED)
		fail("step %d, limit %d: status %#x", step, (int)limit, (unsigned)status);
	return WEXITSTATUS(status) - ENDED;
}

int main(void)
{
	struct reader reader;
	file = temp_file(LENGTH, 5);
	unix_pair(sv);
	reader_start_keep(&reader, sv[1], UINT64_MAX);
	for (int limit = SPACE; limit <= (geteuid() == 0 ? LOCKED : HEAP); limit++) {
		int well = 0;
		for (int step = 0; step < STEPS; step++)
			well += in_child(step, (enum limit)limit);
		printf("limit %d: %d of %d with enough\n", limit, well, STEPS);
		CHECK_LT(well, STEPS);
		if (limit == SPACE) /* the hard limit of the other may be too low for any */
			CHECK_GT(well, 0);
	}
	shutdown(sv[0], SHUT_WR);
	reader_join(&reader);
	return 0;
}
