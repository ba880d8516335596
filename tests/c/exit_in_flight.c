/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A process that ends with operations in flight, with and without the context destroyed, ends: with its own
 * exit status, and without waiting for the peer. */
#include "common.h"
#include <sys/wait.h>

NO_LEAK_CHECK /* it is what the test does: the context is left behind */

	/* In a new process each: the library's state is not inherited. */
	static int
	child(int way)
{
	int sv[2];
	unix_pair(sv);
	int file = temp_file(MIB, 1);
	alarm(20);
	fill_socket(sv[0]);
	snapsend_t *ctx = create_ctx();
	for (int i = 0; i < 20; i++) {
		struct snapsend_request request = make_request(sv[0], file, 0, MIB);
		request.flags = i & 1 ? SNAPSEND_EAGER : 0;
		submit_ok(ctx, &request);
	}
	set_nonblock(sv[0]);
	CHECK_EQ(snapsend_sendfile(sv[0], file, NULL, 1000), -1); /* the default context, if it has one */
	if (way == 1)
		destroy_ctx(ctx);
	if (way == 2)
		exit(40 + way);
	if (way == 3)
		_exit(40 + way);
	return 40 + way; /* from main */
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return child(atoi(argv[1]));
	for (int way = 0; way < 4; way++) {
		char number[16];
		int status;
		snprintf(number, sizeof number, "%d", way);
		int64_t begin = now_ms();
		pid_t pid = (pid_t)SYS(fork());
		if (pid == 0) {
			execl("/proc/self/exe", "exit_in_flight", number, (char *)NULL);
			_exit(127);
		}
		SYS(waitpid(pid, &status, 0));
		CHECK(WIFEXITED(status));
		CHECK_EQ(WEXITSTATUS(status), 40 + way);
		CHECK_LE(now_ms() - begin, 8000);
	}
	return 0;
}
