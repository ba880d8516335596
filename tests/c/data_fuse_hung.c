/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Reads that a file server never answers, more of them than there are helper threads: other file systems go on,
 * what is cancelled or out of time ends, reads that wait for their turn are withdrawn, memory stays for others,
 * and the context can be destroyed. */
#include "data_fuse.h"

#define HUNG 70
#define SIZE (64 * MIB)
#define SOON 1000

static int sockets[200][2];

static uint64_t pool_in_use(snapsend_t *ctx)
{
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	return stats.pool_in_use;
}

static uint64_t hang(snapsend_t *ctx, int file, int i, uint32_t flags, uint32_t timeout)
{
	unix_pair(sockets[i]);
	struct snapsend_request request = make_request(sockets[i][0], file, (uint64_t)i * 90000, 90000);
	request.flags = flags;
	request.timeout_ms = timeout;
	return submit_ok(ctx, &request);
}

/* A healthy file, which nobody has read before, by each call. */
static void healthy(snapsend_t *ctx, uint32_t flags)
{
	for (int i = 0; i < CALLS; i++) {
		int file = temp_file(MIB, 5), sv[2];
		struct reader reader;
		drop_cache(file);
		tcp_pair(sv);
		reader_start_check(&reader, sv[1], MIB, 0, 5);
		int64_t begin = now_ms();
		struct snapsend_request request = make_request(sv[0], file, 0, MIB);
		request.flags = flags;
		CHECK_EQ(call_done(ctx, (enum call)i, request).status, 0);
		CHECK_LE(now_ms() - begin, SOON * slowness());
		reader_join(&reader);
		close_pair(sv);
		close(file);
	}
}

static void wait_reads(int count)
{
	for (int i = 0; i < 5000 && atomic_load(&fuse->reads) < count; i++)
		sleep_ms(1);
	CHECK_GE(atomic_load(&fuse->reads), count);
}

static void ends(snapsend_t *ctx, int file)
{
	uint64_t ids[HUNG];
	struct snapsend_completion done;
	int before = atomic_load(&fuse->reads);
	for (int i = 0; i < HUNG; i++)
		ids[i] = hang(ctx, file, i, i % 3 == 1 ? SNAPSEND_EAGER : 0, i % 2 ? 400 : 0);
	wait_reads(before + 2);
	healthy(ctx, 0);
	int64_t begin = now_ms();
	for (int i = 0; i < HUNG; i += 2)
		CHECK_EQ(snapsend_cancel(ctx, ids[i]), 0);
	for (int i = 0; i < HUNG; i++) {
		wait_done(ctx, ids[i], &done);
		CHECK_EQ(done.status, i % 2 ? -ETIMEDOUT : -ECANCELED);
		CHECK_UEQ(done.wire_bytes, 0);
		close_pair(sockets[i]);
	}
	CHECK_LE(now_ms() - begin, 2 * SOON * slowness());
	healthy(ctx, SNAPSEND_EXACT);
	/* Nothing that waited comes to the server now; through the page cache a read may ask more than once. */
	atomic_store(&fuse->hold, false);
	sleep_ms(100);
	CHECK_LT(atomic_load(&fuse->reads) - before, HUNG);
	for (int i = 0; i < 1000 && pool_in_use(ctx) != 0; i++)
		sleep_ms(2);
	CHECK_UEQ(pool_in_use(ctx), 0);
}

/* Two hundred with a small pool: a part of it at most. */
static void memory(const char *path)
{
	snapsend_t *ctx = create_ctx_with(0, 4 * MIB, 0);
	int file = fuse_open(path, true), before = atomic_load(&fuse->reads);
	atomic_store(&fuse->hold, true);
	for (int i = 0; i < 200; i++)
		hang(ctx, file, i, i % 3 == 0 ? 0 : i % 3 == 1 ? SNAPSEND_EAGER : SNAPSEND_EXACT, 0);
	wait_reads(before + 1);
	healthy(ctx, 0);
	healthy(ctx, SNAPSEND_EAGER);
	CHECK_ULE(pool_in_use(ctx), 2 * MIB);
	int64_t begin = now_ms();
	destroy_ctx(ctx);
	CHECK_LE(now_ms() - begin, SOON * slowness());
	for (int i = 0; i < 200; i++)
		close_pair(sockets[i]);
	atomic_store(&fuse->hold, false);
	close(file);
}

NO_LEAK_CHECK

int main(void)
{
	const char *path = fuse_mount(SIZE, 91, 100);
	for (int direct = 0; direct < 2; direct++) {
		doing(direct ? "direct" : "with the page cache");
		snapsend_t *ctx = create_ctx();
		int file = fuse_open(path, direct);
		posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
		atomic_store(&fuse->hold, true);
		ends(ctx, file);
		close(file);
		destroy_ctx(ctx);
	}
	doing("memory");
	memory(path);
	CHECK_EQ(wait_threads(1, 3000), 1); /* those left behind end when their read comes back */
	return 0;
}
