/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* After much use, with every flag and many connections, stalled ones and a thousand operations pending, an idle context
 * falls back under 1 MiB of memory within five seconds, and destroy gives that back, too. What the allocator keeps of
 * what it has been given back is not counted, but limited. What the C library keeps for later threads would hide a
 * leak, and is more the more helper threads there were at a time, so the program runs without such caches. */
#include "manners_common.h"

#include <malloc.h>

#define CONNECTIONS    60
#define EACH           (4 * MIB)
#define PENDING        1000
#define IDLE_WITHIN_MS 5000
#define IDLE_KIB       1024
#define TUNABLES       "glibc.pthread.stack_cache_size=0:glibc.malloc.arena_max=1"

static int sockets[CONNECTIONS], file;
static struct snapsend_completion batch[256];

/* The readers are a process of their own, so that their memory is not counted. */
static void readers(int sv[][2], int go)
{
	static unsigned char block[1 << 18];
	struct pollfd p[CONNECTIONS];
	char byte;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < CONNECTIONS; i++) {
		close(sv[i][0]);
		p[i] = (struct pollfd){ .fd = sv[i][1], .events = POLLIN };
	}
	SYS(read(go, &byte, 1)); /* until then all are stalled */
	for (;;) {
		SYS(poll(p, CONNECTIONS, -1));
		for (int i = 0; i < CONNECTIONS; i++)
			if (p[i].revents != 0 && read(p[i].fd, block, sizeof block) <= 0)
				p[i].fd = -1;
	}
}

static void take(snapsend_t *ctx, int count)
{
	while (count > 0) {
		int n = snapsend_poll(ctx, batch, COUNT_OF(batch), WAIT_MS);
		CHECK_GT(n, 0);
		for (int i = 0; i < n; i++) {
			CHECK_EQ(batch[i].status, 0);
			count -= batch[i].event == SNAPSEND_EVENT_DONE;
		}
	}
	CHECK_EQ(count, 0);
}

static void use(snapsend_t *ctx, int go)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_NOTIFY_SNAPSHOT };
	static unsigned char text[4000];
	struct iovec wrap = { text, sizeof text };
	uint64_t sent = 0;
	for (int i = 0; i < PENDING; i++) { /* to stalled peers, with headers */
		struct snapsend_request request = make_request(sockets[i % CONNECTIONS], file, (uint64_t)i, 20000);
		request.flags = flags[i / 60 % 4];
		request.header = &wrap, request.header_count = i % 3 == 0;
		submit_ok(ctx, &request);
	}
	sleep_ms(100);
	CHECK_EQ(write(go, "x", 1), 1);
	take(ctx, PENDING);
	for (int round = 0; round < 2; round++) {
		if (round == 1) /* the helper threads, too */
			drop_cache(file);
		for (int i = 0; i < CONNECTIONS; i++) {
			struct snapsend_request request = make_request(sockets[i], file, 0, EACH);
			request.flags = flags[i % 4];
			submit_ok(ctx, &request);
			sent += EACH;
		}
		take(ctx, CONNECTIONS);
	}
	for (int i = 0; i < 200; i++) { /* small ones, by the calling thread */
		struct snapsend_request request = make_request(sockets[i % CONNECTIONS], file, 0, 50000);
		struct snapsend_completion done;
		CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &done), 0);
		CHECK_EQ(done.status, 0);
	}
	CHECK_UEQ(sent, 2 * CONNECTIONS * EACH);
}

/* All that is resident and belongs to this process alone. */
static long private_kib(void)
{
	char line[256];
	long sum = 0, kib;
	FILE *rollup = fopen("/proc/self/smaps_rollup", "re");
	if (rollup == NULL)
		return rss_kib();
	while (fgets(line, sizeof line, rollup) != NULL)
		if (sscanf(line, "Private_Dirty: %ld", &kib) == 1 || sscanf(line, "Private_Hugetlb: %ld", &kib) == 1)
			sum += kib;
	fclose(rollup);
	return sum;
}

/* Memory beyond that from before, in KiB, once helper threads have ended and the memory has come back, or when the
 * time for that is over. */
static long wait_idle(snapsend_t *ctx, long before, struct snapsend_stats *stats)
{
	int64_t begin = now_ms(), least = begin + 1600; /* a little more may have come back by then */
	for (;;) {
		long idle = private_kib() - before;
		CHECK_EQ(snapsend_get_stats(ctx, stats, sizeof *stats), 0);
		bool settled = idle < IDLE_KIB && stats->pool_resident <= MIB && count_threads() == 2;
		if (now_ms() > (settled ? least : begin + IDLE_WITHIN_MS * slowness()))
			return idle;
		sleep_ms(100);
	}
}

/* Created, used, idle, destroyed; KiB of growth. */
static long round_(int go)
{
	struct snapsend_stats stats;
	long busy, idle, before = private_kib();
	snapsend_t *ctx = create_ctx();
	use(ctx, go);
	busy = private_kib() - before;
	idle = wait_idle(ctx, before, &stats);
	CHECK_EQ(count_threads(), 2);
	malloc_trim(0); /* what the allocator keeps for later is not the library's */
	long kept = idle;
	idle = private_kib() - before;
	destroy_ctx(ctx);
	malloc_trim(0);
	long after = private_kib() - before;
	printf("right after use %ld KiB, idle %ld KiB (and what the allocator keeps: %ld), destroyed %ld KiB; ", busy,
	       idle, kept, after);
	printf("pool_in_use %d, pool_resident %d\n", (int)stats.pool_in_use, (int)stats.pool_resident);
#ifndef __SANITIZE_ADDRESS__
	CHECK_LT(idle, IDLE_KIB);
	CHECK_LT(kept, 1536);
#endif
	CHECK_UEQ(stats.pool_in_use, 0);
	CHECK_ULE(stats.pool_resident, MIB);
	CHECK_EQ(wait_threads(1, 1000), 1);
	return after;
}

int main(int argc, char **argv)
{
	(void)argc;
	start_without_caches(argv);
	int sv[CONNECTIONS][2], go[2];
	file = temp_file(EACH, 99);
	for (int i = 0; i < CONNECTIONS; i++)
		CHECK(pair_of_kind(i % 2 ? TCP4 : UNIX, sv[i], 0));
	SYS(pipe2(go, O_CLOEXEC));
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0)
		readers(sv, go[0]);
	for (int i = 0; i < CONNECTIONS; i++) {
		sockets[i] = sv[i][0];
		close(sv[i][1]);
	}
	destroy_ctx(create_ctx()); /* what is made once for the process */
	(void)private_kib();
	long first = round_(go[1]), more = 0;
	long leaked[3];
	for (int i = 0; i < 3; i++) {
		size_t in_use = mallinfo2().uordblks;
		more += round_(go[1]);
		leaked[i] = (long)(mallinfo2().uordblks - in_use);
	}
	printf("the first time %+ld KiB, three times more: %+ld KiB; %+ld, %+ld and %+ld bytes allocated\n", first,
	       more, leaked[0], leaked[1], leaked[2]);
#ifndef __SANITIZE_ADDRESS__
	CHECK_LE(first, 128);
	CHECK_LE(more, 128);
	for (int i = 0; i < 3; i++)
		CHECK_LE(leaked[i], 8 * 1024);
#endif
	SYS(kill(pid, SIGKILL));
	return 0;
}
