/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* After fork each call on an inherited context gives -ECHILD in the child, but destroy 0; the parent's goes
 * on, and the child's own contexts and snapsend_sendfile work. */
#include "common.h"
#include <sys/wait.h>

static int file;

static void in_child(snapsend_t *ctx, int socket_fd, uint64_t id)
{
	struct snapsend_request request = make_request(socket_fd, file, 0, 1000);
	struct snapsend_completion completion;
	struct snapsend_info info;
	struct snapsend_stats stats;
	uint64_t unused;
	int sv[2];
	alarm(30); /* not inherited */
	CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, &unused), ECHILD);
	CHECK_ERR(snapsend_submit_many(ctx, &request, sizeof request, 1, &unused), ECHILD);
	CHECK_ERR(snapsend_try_send(ctx, &request, sizeof request, &completion), ECHILD);
	CHECK_ERR(snapsend_send(ctx, &request, sizeof request, &completion), ECHILD);
	CHECK_ERR(snapsend_poll(ctx, &completion, 1, 0), ECHILD);
	CHECK_ERR(snapsend_poll(ctx, &completion, 1, -1), ECHILD);
	CHECK_ERR(snapsend_event_fd(ctx), ECHILD);
	CHECK_ERR(snapsend_cancel(ctx, id), ECHILD);
	CHECK_ERR(snapsend_cancel_socket(ctx, socket_fd), ECHILD);
	CHECK_ERR(snapsend_get_info(ctx, &info, sizeof info), ECHILD);
	CHECK_ERR(snapsend_get_stats(ctx, &stats, sizeof stats), ECHILD);
	CHECK_EQ(snapsend_destroy(ctx), 0);

	/* Its own. */
	snapsend_t *own = create_ctx();
	unix_pair(sv);
	request.socket_fd = sv[0];
	wait_done(own, submit_ok(own, &request), &completion);
	CHECK_EQ(completion.status, 0);
	off_t offset = 0;
	CHECK_EQ(snapsend_sendfile(sv[0], file, &offset, 1000), 1000);
	CHECK_UEQ(drain(sv[1], 20), 2000);
	destroy_ctx(own);
}

int main(void)
{
	int sv[2], other[2];
	struct snapsend_completion completion;
	struct reader reader;
#ifdef __SANITIZE_ADDRESS__
	skip("the sanitizer's allocator does not survive fork() in a process of several threads");
#endif
	snapsend_t *ctx = create_ctx();
	unix_pair(sv);
	unix_pair(other);
	file = temp_file(8 * MIB, 1);
	off_t offset = 0; /* the default context, if it needs one, is made before the fork */
	reader_start_check(&reader, other[1], 8 * MIB, 0, 1);
	CHECK_EQ(snapsend_sendfile(other[0], file, &offset, 8 * MIB), 8 * MIB);
	reader_join(&reader);

	struct snapsend_request request = make_request(sv[0], file, 0, 8 * MIB);
	uint64_t id = submit_ok(ctx, &request); /* in work while the process forks */
	for (int i = 0; i < 5; i++) {
		int status;
		pid_t pid = (pid_t)SYS(fork());
		if (pid == 0) {
			in_child(ctx, sv[0], id);
			test_leave(0);
		}
		SYS(waitpid(pid, &status, 0));
		CHECK(WIFEXITED(status));
		CHECK_EQ(WEXITSTATUS(status), 0);
	}
	/* A child that ends without a word about the context. */
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0)
		exit(0);
	int status;
	SYS(waitpid(pid, &status, 0));
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

	expect_nothing(ctx, 20);
	reader_start_check(&reader, sv[1], 8 * MIB, 0, 1);
	wait_done(ctx, id, &completion);
	CHECK_EQ(completion.status, 0);
	reader_join(&reader);
	destroy_ctx(ctx);
	return 0;
}
