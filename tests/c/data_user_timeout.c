/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The host has set TCP_USER_TIMEOUT or keepalive and the peer answers nothing: -ETIMEDOUT comes from the kernel. */
#include "data_kernel_ends.h"

static void set_timeout(int socket)
{
	unsigned milliseconds = 1;
	SYS(setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds));
}

static void by_send(snapsend_t *ctx, int file)
{
	int sv[2];
	struct snapsend_completion done;
	tcp_pair(sv);
	drop_all(sv[1]);
	set_timeout(sv[0]);
	struct snapsend_request request = make_request(sv[0], file, 0, KERNEL_ENDS_LENGTH);
	CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &done), 0);
	CHECK_EQ(done.status, -ETIMEDOUT);
	CHECK_UGE(done.wire_bytes, 1);
	close_pair(sv);
}

/* No probe of an idle connection is answered: the next operation says so. */
static void idle_pair(int sv[2])
{
	int yes = 1, seconds = 1;
	tcp_pair(sv);
	drop_all(sv[1]);
	SYS(setsockopt(sv[0], IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds));
	SYS(setsockopt(sv[0], IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds));
	SYS(setsockopt(sv[0], IPPROTO_TCP, TCP_KEEPCNT, &yes, sizeof yes));
	SYS(setsockopt(sv[0], SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes));
}

static void after_keepalive(snapsend_t *ctx, int sv[2], int file)
{
	struct snapsend_completion done;
	struct pollfd gone = { .fd = sv[0] };
	CHECK_EQ(SYS(poll(&gone, 1, WAIT_MS)), 1);
	struct snapsend_request request = make_request(sv[0], file, 0, KERNEL_ENDS_LENGTH);
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK_EQ(done.status, -ETIMEDOUT);
	CHECK_UEQ(done.wire_bytes, 0);
	close_pair(sv);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int idle[2];
	idle_pair(idle);
	int file = temp_file(KERNEL_ENDS_LENGTH, 36);
	kernel_ends(ctx, file, 0, false, -ETIMEDOUT, set_timeout);
	kernel_ends(ctx, file, SNAPSEND_EAGER, false, -ETIMEDOUT, set_timeout);
	kernel_ends(ctx, file, 0, true, -ETIMEDOUT, set_timeout);
	by_send(ctx, file);
	after_keepalive(ctx, idle, file);
	destroy_ctx(ctx);
	return 0;
}
