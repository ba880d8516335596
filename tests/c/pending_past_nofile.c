/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* How many operations can be pending is a matter of max_ops, not of RLIMIT_NOFILE: under the usual limit of
 * 1024 descriptors, thousands of operations on the few that the caller has. */
#include "common.h"
#include <sys/resource.h>

#define OPS 4000

int main(void)
{
	enum { SOCKETS = 200 };
	static int sv[SOCKETS][2];
	static uint64_t ids[OPS];
	struct rlimit limit;
	struct snapsend_completion completion;
	SYS(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = 1024;
	SYS(setrlimit(RLIMIT_NOFILE, &limit));
	int file = temp_file(MIB, 1);
	for (int i = 0; i < SOCKETS; i++)
		unix_pair(sv[i]);

	for (int spread = 0; spread < 2; spread++) { /* all on one socket, or 20 on each */
		snapsend_t *ctx = create_ctx();
		for (int i = 0; i < OPS; i++) {
			/* More than the socket takes: the peers do not read yet. */
			struct snapsend_request request = make_request(sv[spread ? i % SOCKETS : 0][0], file, 0, 1000);
			if (i < (spread ? SOCKETS : 1))
				request.length = MIB;
			int result = snapsend_submit(ctx, &request, sizeof request, &ids[i]);
			if (result != 0)
				fail("%d pending on %d socket(s), then %d (%s)", i, spread ? SOCKETS : 1, result,
				     strerror(-result));
		}
		expect_nothing(ctx, 20);
		for (int i = 0; i < SOCKETS; i++) {
			struct reader reader;
			uint64_t first = spread || i == 0 ? MIB : 0;
			uint64_t others = spread ? OPS / SOCKETS - 1 : i == 0 ? OPS - 1 : 0;
			reader_init(&reader, sv[i][1], first + others * 1000);
			reader_go(&reader);
			reader_join(&reader);
		}
		for (int i = 0; i < OPS; i++) {
			wait_done(ctx, ids[i], &completion);
			CHECK_EQ(completion.status, 0);
		}
		destroy_ctx(ctx);
	}
	return 0;
}
