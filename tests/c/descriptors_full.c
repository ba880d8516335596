/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* The ring thread holds as many descriptors as RLIMIT_NOFILE allows: submit gives -EMFILE, what was accepted goes
 * on, and as soon as descriptors are free again it is accepted as before. */
#include "common.h"
#include <sys/resource.h>

#define SOCKETS 300
#define LIMIT   200       /* of the process, while it has more open than that */
#define LENGTH  (4 * MIB) /* more than a socket takes */

static int pairs[SOCKETS][2];

static void limit_to(rlim_t soft)
{
	struct rlimit limit;
	SYS(getrlimit(RLIMIT_NOFILE, &limit));
	if (limit.rlim_max < 2 * SOCKETS + 100)
		skip("too few descriptors allowed here");
	limit.rlim_cur = soft;
	SYS(setrlimit(RLIMIT_NOFILE, &limit));
}

int main(void)
{
	struct snapsend_completion done;
	int spare[20], accepted = 0;
	limit_to(2 * SOCKETS + 100);
	int file = temp_file(LENGTH, 1);
	for (size_t i = 0; i < COUNT_OF(spare); i++)
		spare[i] = SYS(open("/dev/null", O_RDONLY));
	for (int i = 0; i < SOCKETS; i++)
		unix_pair(pairs[i]);
	for (size_t i = 0; i < COUNT_OF(spare); i++)
		close(spare[i]);
	limit_to(LIMIT);
	snapsend_t *ctx = create_ctx();
	for (;; accepted++) {
		CHECK_LT(accepted, SOCKETS);
		struct snapsend_request request = make_request(pairs[accepted][0], file, 0, LENGTH);
		int result = snapsend_submit(ctx, &request, sizeof request, NULL);
		if (result == 0)
			continue;
		CHECK_EQ(result, -EMFILE);
		break;
	}
	printf("%d operations with a limit of %d descriptors\n", accepted, LIMIT);
	/* One for each socket, at most one for its file, and some of the thread's own. */
	CHECK_GE(accepted, (LIMIT - 40) / 2);
	CHECK_LT(accepted, LIMIT);
	expect_nothing(ctx, 50);
	for (int i = 0; i < accepted; i++)
		CHECK_EQ(snapsend_cancel_socket(ctx, pairs[i][0]), 1);
	for (int i = 0; i < accepted; i++) {
		CHECK_EQ(snapsend_poll(ctx, &done, 1, WAIT_MS), 1);
		CHECK_EQ(done.status, -ECANCELED);
	}
	struct snapsend_request again = make_request(pairs[SOCKETS - 1][0], file, 0, 1000);
	wait_done(ctx, submit_ok(ctx, &again), &done);
	CHECK_EQ(done.status, 0);
	destroy_ctx(ctx);
	return 0;
}
