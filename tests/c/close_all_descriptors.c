/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A host that closes every descriptor from 3 up: what is in flight ends or says so, nothing hangs, no
 * descriptor that was opened since is touched, and a new context works. */
#include "common.h"

static void close_all(void)
{
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
}

int main(void)
{
	struct snapsend_completion completion;
	for (int round = 0; round < 6; round++) {
		int sv[2], busy = round % 3, pipes[40][2];
		uint64_t id = 0;
		snapsend_t *ctx = create_ctx();
		unix_pair(sv);
		int file = temp_file(100000, 1);
		struct snapsend_request request = make_request(sv[0], file, 0, 100000);
		if (busy == 1) {
			fill_socket(sv[0]);
			id = submit_ok(ctx, &request);
		} else if (busy == 2) {
			CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
		}
		sleep_ms(round >= 3 ? 30 : 0); /* its thread asleep or awake */
		close_all();
		for (size_t i = 0; i < COUNT_OF(pipes); i++) /* the numbers have new owners */
			SYS(pipe2(pipes[i], O_NONBLOCK | O_CLOEXEC));

		/* The context may refuse from here on, but it does not wait for ever. */
		doing("a context whose descriptors are gone");
		int64_t begin = now_ms();
		if (id != 0) {
			int n;
			do
				n = snapsend_poll(ctx, &completion, 1, 100);
			while (n == 0 && now_ms() - begin < 5000);
			CHECK_NE(n, 0);
			if (n == 1)
				CHECK_LT(completion.status, 0);
		}
		unix_pair(sv);
		file = temp_file(1000, 1);
		request = make_request(sv[0], file, 0, 1000);
		if (snapsend_submit(ctx, &request, sizeof request, &id) == 0)
			(void)snapsend_poll(ctx, &completion, 1, 200);
		(void)snapsend_cancel_socket(ctx, sv[0]);
		CHECK_EQ(snapsend_destroy(ctx), 0);
		CHECK_LE(now_ms() - begin, 8000);

		/* The new owners' descriptors: open, and nobody wrote to or read from them. */
		doing("descriptors opened since");
		for (size_t i = 0; i < COUNT_OF(pipes); i++) {
			char byte;
			CHECK_EQ(read(pipes[i][0], &byte, 1), -1);
			CHECK_EQ(errno, EAGAIN);
			CHECK_EQ(write(pipes[i][1], "x", 1), 1);
			CHECK_EQ(read(pipes[i][0], &byte, 1), 1);
			close(pipes[i][0]);
			close(pipes[i][1]);
		}

		doing("a new context");
		drain(sv[1], 5);
		ctx = create_ctx();
		wait_done(ctx, submit_ok(ctx, &request), &completion);
		CHECK_EQ(completion.status, 0);
		CHECK_UEQ(drain(sv[1], 5), 1000);
		off_t offset = 0;
		CHECK_EQ(snapsend_sendfile(sv[0], file, &offset, 1000), 1000);
		CHECK_UEQ(drain(sv[1], 5), 1000);
		destroy_ctx(ctx);
		close(sv[0]);
		close(sv[1]);
		close(file);
	}
	return 0;
}
