/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Operations pending on as many peers that do not read, as far as descriptors allow: at most 512 bytes of memory for
 * each, and 128 for a file, also just above powers of two; with timeouts and files of their own. */
#include "pending.h"

#define LENGTH 4096
#define MOST   100000
#define SPARE  400 /* descriptors of the test and of the ring thread */

static const int counts[] = { 1000, 2049, 4000, 10000, MOST };
static int sockets[MOST], files[MOST];
static struct snapsend_completion batch[256];

static void with(int count, int made, bool own_files)
{
	struct snapsend_options options = { .max_ops = 2 * MOST };
	snapsend_t *ctx = NULL;
	struct snapsend_stats stats;
	int file = temp_file(LENGTH, 41);
	char path[64];
	pid_t peers = make_full_sockets(sockets, made);
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	for (int i = 0; i < count; i++)
		files[i] = own_files ? (int)SYS(open(path, O_RDONLY | O_CLOEXEC)) : file;
	CHECK_EQ(snapsend_create(&options, sizeof options, &ctx), 0);
	for (int warm = 0; warm < 100; warm++) { /* what is made at first use is made */
		struct snapsend_request request = make_request(sockets[warm], file, 0, LENGTH);
		CHECK_EQ(snapsend_cancel(ctx, submit_ok(ctx, &request)), 0);
		while (snapsend_poll(ctx, batch, COUNT_OF(batch), 1000) != 1)
			;
	}
	long anon = status_kib("RssAnon"), allocated = allocated_kib();
	for (int i = 0; i < count; i++) {
		struct snapsend_request request = make_request(sockets[i % made], files[i], 0, LENGTH);
		request.timeout_ms = 600000;
		submit_ok(ctx, &request);
	}
	wait_until_looked_at(ctx);
	int helpers = count_threads() - 2; /* a busy machine has them look at the files; they have stacks and heaps */
	do {
		sleep_ms(50);
		CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	} while (stats.pool_in_use != 0);
	anon = status_kib("RssAnon") - anon - (long)(stats.pool_resident / KIB);
	allocated = allocated_kib() - allocated;
	printf("%d operations on %d sockets, %s: allocated %+ld KiB (%ld bytes each), RssAnon %+ld KiB, %d helpers\n",
	       count, made, own_files ? "each with a file" : "one file", allocated, allocated * 1024 / count, anon,
	       helpers);
	CHECK_UEQ(stats.in_flight, count);
#ifndef __SANITIZE_ADDRESS__ /* whose allocator takes more */
	long most = (count * (own_files ? 640L : 512L)) / 1024 + 64;
	CHECK_LE(allocated, most);
	CHECK_LE(anon, most + 256 + 48L * helpers);
#endif
	SYS(kill(peers, SIGKILL));
	destroy_ctx(ctx);
}

int main(int argc, char **argv)
{
	(void)argc;
	start_without_caches(argv); /* an arena that a helper begins takes 132 KiB */
	struct rlimit limit = { 2 * MOST + SPARE, 2 * MOST + SPARE };
	SYS(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)); /* or tables that are reserved in advance are filled, too */
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		SYS(getrlimit(RLIMIT_NOFILE, &limit));
	time_limit(100);
	for (size_t i = 0; i < COUNT_OF(counts); i++)
		for (int own_files = 0; own_files < 2; own_files++) {
			int status;
			long room = (long)limit.rlim_cur - SPARE - (own_files ? counts[i] : 0);
			int made = room < counts[i] ? (int)room : counts[i]; /* several operations share one */
			if (made < 1000) {
				printf("%d operations: RLIMIT_NOFILE is too low\n", counts[i]);
				continue;
			}
			pid_t child = (pid_t)SYS(fork());
			if (child == 0) {
				with(counts[i], made, own_files);
				exit(0);
			}
			SYS(waitpid(child, &status, 0));
			CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		}
	return 0;
}
