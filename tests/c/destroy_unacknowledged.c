/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* destroy while a peer that never reads has not acknowledged what was sent without a copy. It returns at once, and
 * the process has its memory, descriptors and threads back. The ring stays open, kept by one page, so that the kernel
 * has no worker to wait for the notifications and to warn of them, until the peer has gone and another context comes
 * or goes. No more than 16 rings are kept; a forked child has none of them. */
#include "../torture/network.h"
#include "manners_common.h"

#include <sys/wait.h>

#define KEPT_MAX 16

static struct network net;
static int file;

static int rings(void)
{
	return count_mappings("io_uring");
}

/* What the kernel has pinned of the process, in KiB. */
static long pinned(void)
{
	return status_kib("VmPin");
}

static uint64_t kept(void)
{
	struct snapsend_stats stats;
	snapsend_t *ctx = create_ctx();
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	destroy_ctx(ctx);
	return stats.rings_kept;
}

static void await_none(void)
{
	int64_t end = now_ms() + 5000 * slowness();
	while (kept() > 0 && now_ms() < end)
		sleep_ms(1);
	CHECK_EQ(rings(), 0);
}

static uint64_t not_copied(snapsend_t *ctx)
{
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	return stats.bytes_zerocopy;
}

/* Leaves about 1 MiB unacknowledged with the peer sv[1]. */
static void leave_behind(int sv[2])
{
	struct snapsend_completion done;
	int size = 4 * MIB;
	connect_over(&net, PATH_VETH, 64 * KIB, sv);
	/* Older kernels allow less by default (net.core.wmem_max). */
	SYS(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size));
	snapsend_t *ctx = create_ctx();
	uint64_t id = submit_range(ctx, sv[0], file, 0, MIB);
	swallow(sv[1], MIB);
	wait_done(ctx, id, &done);
	int64_t end = now_ms() + 5000 * slowness();
	while (not_copied(ctx) == 0 && now_ms() < end)
		sleep_ms(1);
	CHECK_UGE(not_copied(ctx), 256 * KIB);
	id = submit_range(ctx, sv[0], file, 0, MIB);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	int64_t began = now_ms();
	destroy_ctx(ctx);
	CHECK_LT(now_ms() - began, 1000 * slowness());
}

static void with_one(const void *unused)
{
	int sv[2], fds = count_fds();
	(void)unused;
	destroy_ctx(create_ctx());
	long memory = rss_kib();
	leave_behind(sv);
	CHECK_EQ(count_threads(), 1);
	CHECK_EQ(count_fds(), fds + 2); /* the test's own sockets */
	CHECK_LT(rss_kib(), memory + 512);
	CHECK_EQ(pinned(), 0);
	CHECK_EQ(rings(), 1);
	CHECK_UEQ(kept(), 1);
	CHECK_EQ(rings(), 1);
	reset_close(sv[1]);
	await_none();
	close(sv[0]);
}

static void with_many(const void *unused)
{
	int sv[KEPT_MAX + 4][2], status;
	(void)unused;
	for (unsigned i = 0; i < COUNT_OF(sv); i++)
		leave_behind(sv[i]);
	CHECK_EQ(rings(), KEPT_MAX);
	CHECK_UEQ(kept(), KEPT_MAX);
	pid_t child = (pid_t)SYS(fork());
	if (child == 0) {
		bool none = rings() == 0;
		leave_behind(sv[0]);
		_exit(none && rings() == 1 ? 0 : 1);
	}
	SYS(waitpid(child, &status, 0));
	CHECK_EQ(status, 0);
	for (unsigned i = 0; i < COUNT_OF(sv); i++)
		reset_close(sv[i][i % 2]);
	await_none();
}

int main(void)
{
	zero_copy_network(&net);
	file = temp_file(MIB, 1);
	in_child("one", with_one, NULL);
	in_child("many", with_many, NULL);
	return parts_done();
}
