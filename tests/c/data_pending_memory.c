/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Operations pending on as many peers that do not read, as far as descriptors allow: at most 512 bytes of memory for
 * each, and 128 for a file, also just above powers of two; with timeouts, with files of their own, and with data that
 * EAGER and EXACT keep in the pool. */
#include "pending.h"

#define LENGTH 4096
#define MOST   100000
#define SPARE  400 /* descriptors of the test and of the ring thread */

static const int counts[] = { 1000, 2049, 4000, 10000, MOST };
static int sockets[MOST], files[MOST];
static struct snapsend_completion batch[256];

enum form { ONE_FILE, OWN_FILES, WITH_EAGER, WITH_EXACT, EAGER_WAITS, FORMS };
static const char *const form_name[FORMS] = { "one file", "each with a file", "EAGER", "EXACT", "EAGER without room" };
static const uint32_t form_flags[FORMS] = {
	[WITH_EAGER] = SNAPSEND_EAGER, [WITH_EXACT] = SNAPSEND_EXACT, [EAGER_WAITS] = SNAPSEND_EAGER
};

/* The data of EAGER and EXACT is in the pool, as far as there is room; that of the others is not read until the socket
 * has room. */
static struct snapsend_stats wait_for_data(snapsend_t *ctx, uint64_t least, uint64_t most)
{
	struct snapsend_stats stats;
	int64_t end = now_ms() + WAIT_MS;
	do {
		CHECK_LT(now_ms(), end);
		sleep_ms(50);
		CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	} while (stats.pool_in_use < least || stats.pool_in_use > most);
	return stats;
}

static void warm_up(snapsend_t *ctx, int file)
{
	for (int i = 0; i < 100; i++) { /* what is made at first use is made */
		struct snapsend_request request = make_request(sockets[i], file, 0, LENGTH);
		CHECK_EQ(snapsend_cancel(ctx, submit_ok(ctx, &request)), 0);
		while (snapsend_poll(ctx, batch, COUNT_OF(batch), 1000) != 1)
			;
	}
}

static void with(int count, int made, enum form form)
{
	uint64_t data = form == WITH_EAGER || form == WITH_EXACT ? (uint64_t)count * LENGTH : 0;
	struct snapsend_options options = { .max_ops = 2 * MOST, .pool_bytes = 2 * data + 4 * MIB };
	snapsend_t *ctx = NULL;
	int file = temp_file(LENGTH, 41);
	char path[64];
	for (int i = made; i < MOST && sockets[i] > 0; i++)
		close(sockets[i]);
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	for (int i = 0; i < count; i++)
		files[i] = form == OWN_FILES ? (int)SYS(open(path, O_RDONLY | O_CLOEXEC)) : file;
	CHECK_EQ(snapsend_create(&options, sizeof options, &ctx), 0);
	warm_up(ctx, file);
	long anon = status_kib("RssAnon"), allocated = allocated_kib();
	for (int i = 0; i < count; i++) {
		struct snapsend_request request = make_request(sockets[i % made], files[i], 0, LENGTH);
		request.timeout_ms = 600000;
		request.flags = form_flags[form];
		submit_ok(ctx, &request);
	}
	wait_until_looked_at(ctx);
	int helpers = count_threads() - 2; /* a busy machine has them look at the files; they have stacks and heaps */
	struct snapsend_stats stats =
		form == EAGER_WAITS ? wait_for_data(ctx, MIB, 4 * MIB) : wait_for_data(ctx, data, data);
	anon = status_kib("RssAnon") - anon - (long)((data != 0 ? data : stats.pool_resident) / KIB);
	allocated = allocated_kib() - allocated;
	printf("%d operations on %d sockets, %s: allocated %+ld KiB (%ld bytes each), RssAnon %+ld KiB, %d helpers\n",
	       count, made, form_name[form], allocated, allocated * 1024 / count, anon, helpers);
	CHECK_UEQ(stats.in_flight, count);
#ifndef __SANITIZE_ADDRESS__ /* whose allocator takes more */
	long most = (count * (form == OWN_FILES ? 640L : 512L)) / 1024 + 64;
	CHECK_LE(allocated, most);
	CHECK_LE(anon, most + 256 + 48L * helpers);
#endif
	destroy_ctx(ctx);
}

/* In a process of its own, because memory that is freed stays in the heap. */
static void in_a_child(int count, int made, enum form form)
{
	int status;
	pid_t child = (pid_t)SYS(fork());
	if (child == 0) {
		with(count, made, form);
		exit(0);
	}
	SYS(waitpid(child, &status, 0));
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
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
	int room = (int)limit.rlim_cur - SPARE, made = room < MOST ? room : MOST;
	if (made < 1000)
		skip("RLIMIT_NOFILE is too low");
	pid_t peers = make_full_sockets(sockets, made);
	for (size_t i = 0; i < COUNT_OF(counts); i++)
		for (enum form form = 0; form < FORMS; form++) {
			int count = counts[i], left = room - (form == OWN_FILES ? count : 0);
			if (left < 1000) {
				printf("%d operations: RLIMIT_NOFILE is too low\n", count);
				continue;
			}
			in_a_child(count, left < count ? left : count,
				   form); /* several operations may share a socket */
		}
	SYS(kill(peers, SIGKILL));
	return 0;
}
