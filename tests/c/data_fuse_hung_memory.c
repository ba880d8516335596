/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Very many operations on files of a server that hangs: first it does not say how large a file is, then it does not
 * answer reads. The memory of each is bounded as that of any pending operation with a file of its own: a copy of a
 * descriptor, too, waits for a server when it is closed. All go on when the server does. */
#include "data_fuse.h"
#include "pending.h"

#define LENGTH 4096
#define COUNT  4000
#define SPARE  400 /* descriptors of the test and of the ring thread */

static int sockets[COUNT], files[COUNT];

/* Waits until so much data is in the pool. */
static void wait_for_data(snapsend_t *ctx, uint64_t least)
{
	struct snapsend_stats stats;
	int64_t end = now_ms() + 60000;
	do {
		CHECK_LT(now_ms(), end);
		sleep_ms(20);
		CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	} while (stats.pool_in_use < least);
}

/* What is too much is reported at the end: a process does not end while a server holds it. */
static long worst_kib;

static void look_at_memory(const char *when, long before, bool own_files)
{
	long allocated = allocated_kib() - before;
	printf("%d operations, %s, %s: %+ld KiB (%ld bytes each)\n", COUNT, own_files ? "each with a file" : "one file",
	       when, allocated, allocated * 1024 / COUNT);
	worst_kib = allocated > worst_kib ? allocated : worst_kib;
}

static void with(const char *path, bool own_files)
{
	struct snapsend_options options = { .max_ops = 2 * COUNT, .pool_bytes = 2 * COUNT * LENGTH + 16 * MIB };
	snapsend_t *ctx = NULL;
	int file = fuse_open(path, true);
	for (int i = 0; i < COUNT; i++)
		files[i] = own_files ? fuse_open(path, true) : file;
	CHECK_EQ(snapsend_create(&options, sizeof options, &ctx), 0);
	struct snapsend_request first = make_request(sockets[COUNT - 1], file, 0, LENGTH);
	CHECK_EQ(snapsend_cancel(ctx, submit_ok(ctx, &first)), 0);
	sleep_ms(200); /* what is made at first use is made */
	long before = allocated_kib();

	atomic_store(&fuse->hold_attr, true);
	for (int i = 0; i < COUNT; i++) {
		struct snapsend_request request = make_request(sockets[i], files[i], 0, SNAPSEND_TO_EOF);
		request.flags = SNAPSEND_EAGER;
		submit_ok(ctx, &request);
	}
	wait_until_looked_at(ctx);
	sleep_ms(200);
	look_at_memory("no size", before, own_files);

	atomic_store(&fuse->hold, true);
	atomic_store(&fuse->hold_attr, false);
	wait_for_data(ctx, 16 * LENGTH);
	sleep_ms(500);
	look_at_memory("no data", before, own_files);

	atomic_store(&fuse->hold, false);
	wait_for_data(ctx, (uint64_t)COUNT * LENGTH);
	look_at_memory("data", before, own_files);
	destroy_ctx(ctx);
#ifndef __SANITIZE_ADDRESS__ /* whose allocator takes more */
	CHECK_LE(worst_kib, COUNT * 640L / 1024 + 128);
#endif
}

int main(int argc, char **argv)
{
	(void)argc;
	start_without_caches(argv);
	struct rlimit limit = { 3 * COUNT + SPARE, 3 * COUNT + SPARE };
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		SYS(getrlimit(RLIMIT_NOFILE, &limit));
	if (limit.rlim_cur < 3 * COUNT + SPARE)
		skip("RLIMIT_NOFILE is too low");
	time_limit(60);
	const char *path = fuse_mount(LENGTH, 93, 100);
	pid_t peers = make_full_sockets(sockets, COUNT);
	for (int own_files = 0; own_files < 2; own_files++) {
		int status;
		pid_t child = (pid_t)SYS(fork());
		if (child == 0) {
			with(path, own_files);
			exit(0);
		}
		SYS(waitpid(child, &status, 0));
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	SYS(kill(peers, SIGKILL));
	return 0;
}
