/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Children forked while files are being sent do not inherit the library's windows on them: nobody would ever unmap
 * those there, and a mapping keeps a lock on the file held. */
#include "manners_common.h"

#define LENGTH  (32 * MIB)
#define FORKS   200
#define SENDERS 4

static char inode[32];

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 109), sv[SENDERS][2], inherited = 0, status;
	struct reader readers[SENDERS];
	struct stat stat;
	struct snapsend_completion done;
	uint64_t total = (uint64_t)LENGTH * 24;
	SYS(fstat(file, &stat));
	snprintf(inode, sizeof inode, " %llu ", (unsigned long long)stat.st_ino);
	for (int i = 0; i < SENDERS; i++) {
		unix_pair(sv[i]);
		reader_init(&readers[i], sv[i][1], total);
		reader_go(&readers[i]);
		struct snapsend_request request = make_request(sv[i][0], file, 0, LENGTH);
		for (uint64_t sent = 0; sent < total; sent += LENGTH)
			submit_ok(ctx, &request);
	}
	for (int i = 0; i < FORKS; i++) {
		pid_t pid = (pid_t)SYS(fork());
		if (pid == 0)
			_exit(count_mappings(inode) > 0);
		SYS(waitpid(pid, &status, 0));
		CHECK(WIFEXITED(status));
		inherited += WEXITSTATUS(status);
	}
	CHECK_GT(snapsend_poll(ctx, &done, 1, 10000), 0); /* they were sent meanwhile */
	printf("%d of %d children had a window\n", inherited, FORKS);
	/* Those forked just between mmap(2) and madvise(2): fork waits for the same lock, so up to a tenth, and more on a
     * busy machine. Without the care it is half of them and more. */
	CHECK_LE(inherited, FORKS * 2 / 5);
	for (int i = 0; i < SENDERS; i++) {
		snapsend_cancel_socket(ctx, sv[i][0]);
		shutdown(sv[i][1], SHUT_RDWR);
	}
	destroy_ctx(ctx);
	return 0;
}
