/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A forked child may do nothing with the parent's registrations, whatever it closes; the parent's go on. The caller
 * may close or replace the numbers that it has registered: submit uses the library's copies. */
#include "registered.h"

#define LENGTH (4 * MIB)

static void in_child(const struct ends *ends, int sv_child, int file)
{
	struct snapsend_request request = ends_request(ends, BY_HANDLE, 0, 1000);
	struct snapsend_completion done;
	struct ends own;
	char got[1000];
	alarm(30); /* not inherited */
	CHECK_EQ(rejected(ends->ctx, &request), ECHILD);
	CHECK_ERR(snapsend_register_file(ends->ctx, file, 0), ECHILD);
	CHECK_ERR(snapsend_register_socket(ends->ctx, sv_child, 0), ECHILD);
	CHECK_ERR(snapsend_unregister_file(ends->ctx, ends->file_handle), ECHILD);
	CHECK_ERR(snapsend_unregister_socket(ends->ctx, ends->socket_handle), ECHILD);
	CHECK_ERR(snapsend_unregister_socket(ends->ctx, 0), ECHILD);

	/* Its own, in which the parent's handles mean nothing. */
	snapsend_t *ctx = create_ctx();
	ends_open(&own, ctx, UNIX, file);
	CHECK_ERR(snapsend_unregister_file(ctx, ends->file_handle), EBADF);
	request = ends_request(&own, BY_HANDLE, 0, 1000);
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(read_all(own.sv[1], got, sizeof got), sizeof got);
	ends_close(&own);
	destroy_ctx(ctx);
	CHECK_EQ(snapsend_destroy(ends->ctx), 0);
}

static void forked(snapsend_t *ctx, int file)
{
	struct ends ends;
	struct snapsend_completion done;
	struct reader reader;
	int status;
	ends_open(&ends, ctx, TCP4, file);
	for (int i = 0; i < 4; i++) {
		struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, LENGTH);
		uint64_t id = submit_ok(ctx, &request);
		pid_t pid = (pid_t)SYS(fork());
		if (pid == 0 && i < 2) {
			in_child(&ends, ends.sv[0], file);
			test_leave(0);
		} else if (pid == 0) {
			if (closefrom(3), i == 3) /* as a daemon does */
				CHECK_EQ(snapsend_destroy(ctx), 0);
			_exit(0);
		}
		SYS(waitpid(pid, &status, 0));
		CHECK(WIFEXITED(status));
		CHECK_EQ(WEXITSTATUS(status), 0);
		reader_start_check(&reader, ends.sv[1], LENGTH, 0, 38);
		wait_done(ctx, id, &done);
		CHECK_EQ(done.status, 0);
		reader_join(&reader);
	}
	ends_close(&ends);
}

/* Each number is closed, or means something else by now. */
static void numbers_replaced(snapsend_t *ctx, int file)
{
	static const char *const doings[] = { "closed", "replaced", "replaced by each other" };
	struct reader reader;
	struct snapsend_completion done;
	for (int i = 0; i < 3; i++) {
		struct ends ends;
		int other[2], number = (int)SYS(fcntl(file, F_DUPFD_CLOEXEC, 0)), wrong = temp_file(LENGTH, 99);
		doing(doings[i]);
		unix_pair(other);
		ends_open(&ends, ctx, i % 2 ? TCP4 : UNIX, number);
		if (i == 0) {
			close(ends.sv[0]);
			close(number);
		} else {
			SYS(dup2(i == 1 ? other[0] : wrong, ends.sv[0]));
			SYS(dup2(i == 1 ? wrong : other[0], number));
		}
		for (int j = 0; j < 6; j++) {
			uint64_t id, length = j % 3 == 2 ? LENGTH : 1000;
			struct snapsend_request request = ends_request(&ends, BY_HANDLE, 7, length - 7);
			request.flags |= j % 3 == 1 ? SNAPSEND_EAGER : 0;
			reader_start_check(&reader, ends.sv[1], length - 7, 7, 38);
			if (j < 3)
				id = submit_ok(ctx, &request);
			else
				CHECK_EQ(snapsend_submit_many(ctx, &request, sizeof request, 1, &id), 1);
			wait_done(ctx, id, &done);
			CHECK_EQ(done.status, 0);
			reader_join(&reader);
		}
		expect_silence(other[1]);
		unregister_socket_ok(ctx, ends.socket_handle);
		expect_eof(ends.sv[1], WAIT_MS);
		unregister_file_ok(ctx, ends.file_handle);
		if (i > 0) {
			close(ends.sv[0]);
			close(number);
		}
		close(ends.sv[1]);
		close(wrong);
		close_pair(other);
	}
}

int main(void)
{
#ifdef __SANITIZE_ADDRESS__
	skip("the sanitizer's allocator does not survive fork() in a process of several threads");
#endif
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 38);
	doing("forked");
	forked(ctx, file);
	numbers_replaced(ctx, file);
	destroy_ctx(ctx);
	return 0;
}
