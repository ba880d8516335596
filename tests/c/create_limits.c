/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Create where the process may have only few descriptors more: an error or a context, and no leak. */
#include "common.h"
#include <sys/resource.h>

int main(void)
{
	int sv[2], refused = 0;
	struct rlimit before, limit;
	unix_pair(sv);
	int file = temp_file(1000, 1);
	destroy_ctx(create_ctx());
	SYS(getrlimit(RLIMIT_NOFILE, &before));
	int fds = count_fds(), threads = wait_threads(1, 1000);
	int lowest = (int)SYS(dup(file)); /* descriptors are without gaps here: this is the next number */
	close(lowest);
	for (int more = 0; more < 24; more++) {
		snapsend_t *ctx = NULL;
		limit = before;
		limit.rlim_cur = (rlim_t)(lowest + more);
		SYS(setrlimit(RLIMIT_NOFILE, &limit));
		int result = snapsend_create(NULL, 0, &ctx);
		SYS(setrlimit(RLIMIT_NOFILE, &before));
		if (result == 0) {
			struct snapsend_request request = make_request(sv[0], file, 0, 1000);
			struct snapsend_completion completion;
			wait_done(ctx, submit_ok(ctx, &request), &completion);
			CHECK_EQ(completion.status, 0);
			CHECK_UEQ(drain(sv[1], 0), 1000);
			destroy_ctx(ctx);
		} else {
			CHECK_LT(result, 0);
			refused++;
		}
		CHECK_EQ(count_fds(), fds);
		CHECK_EQ(wait_threads(threads, 1000), threads);
	}
	CHECK_GE(refused, 1); /* with none to be had it cannot have worked */
	CHECK_LT(refused, 24);
	return 0;
}
