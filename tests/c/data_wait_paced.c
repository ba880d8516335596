/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A full peer costs no more than a few wake-ups a second, whatever else its socket reports: an error queue that the
 * host does not read (its own MSG_ZEROCOPY, time stamps), a peer that has shut down for writing or sends without
 * end. Once there is room the operation goes on at once. faults_wait_paced has a kernel that takes nothing. */
#include "data_common.h"

#include <linux/errqueue.h>
#include <linux/net_tstamp.h>

#define LENGTH      (4 * MIB)
#define WATCHED_MS  1000
#define WAKEUPS_MAX 5 /* in that time, for each */

enum report { NONE, ZEROCOPY, TIMESTAMPS, HALF_CLOSED, TALKING };
static const char *const report_name[] = { "nothing", "its own MSG_ZEROCOPY", "time stamps", "half closed",
					   "a peer that sends" };

/* Processor time of the ring thread so far. */
static uint64_t ring_cpu_us(void)
{
	uint64_t ns;
	(void)sum_of_threads("snapsend-ring", "schedstat", "%" SCNu64, &ns);
	return ns / 1000;
}

static uint64_t entered(snapsend_t *ctx)
{
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	return stats.kernel_enters;
}

static void must_idle(snapsend_t *ctx, size_t sockets)
{
	doing("all are full");
	uint64_t before = entered(ctx), cpu = ring_cpu_us();
	sleep_ms(WATCHED_MS);
	uint64_t times = entered(ctx) - before;
	cpu = ring_cpu_us() - cpu;
	if (times > WAKEUPS_MAX * sockets || cpu > 20000 * (uint64_t)slowness())
		fail("the kernel was entered %" PRIu64 " times in %d ms, %" PRIu64 " us of processor time", times,
		     WATCHED_MS, cpu);
}

/* Nobody takes what the kernel reports of the host's own 4 KiB. */
static void leave_reports(int fd, enum report report)
{
	static unsigned char block[4096];
	int one = 1, stamps = SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_SOFTWARE;
	if (report == ZEROCOPY) {
		SYS(setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one));
		CHECK_EQ(send(fd, block, sizeof block, MSG_ZEROCOPY), sizeof block);
	} else if (report == TIMESTAMPS) {
		SYS(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof stamps));
		CHECK_EQ(send(fd, block, sizeof block, 0), sizeof block);
	} else {
		return;
	}
	struct pollfd p = { .fd = fd };
	CHECK_EQ(poll(&p, 1, 2000), 1);
	CHECK(p.revents & POLLERR);
	shutdown(fd, SHUT_RD); /* which it reports, too, for as long as it lasts */
}

static _Atomic bool talking;

static void *talk(void *fd)
{
	while (atomic_load(&talking)) {
		send(*(int *)fd, "x", 1, MSG_DONTWAIT);
		usleep(500);
	}
	return NULL;
}

/* The peer reads: what comes, to the end, and the longest pause between two pieces. */
static uint64_t read_on(int fd, uint64_t length, int64_t *longest)
{
	static unsigned char block[65536];
	uint64_t got = 0;
	*longest = 0;
	for (int64_t last = now_ms(), now; got < length; last = now) {
		ssize_t n = SYS(read(fd, block, sizeof block));
		CHECK_GT(n, 0);
		got += (uint64_t)n;
		now = now_ms();
		*longest = now - last > *longest ? now - last : *longest;
	}
	return got;
}

struct stalled {
	enum report report;
	int family, sv[2];
	uint64_t id;
};

static void stall(snapsend_t *ctx, int file, struct stalled *s)
{
	doing(report_name[s->report]);
	CHECK(pair_sized(s->family, s->sv, 65536, s->family == AF_UNIX ? 0 : 65536));
	leave_reports(s->sv[0], s->report);
	s->id = submit_range(ctx, s->sv[0], file, 0, LENGTH);
	if (s->report == HALF_CLOSED)
		SYS(shutdown(s->sv[1], SHUT_WR));
}

static void go_on(snapsend_t *ctx, struct stalled *s)
{
	int64_t longest;
	struct snapsend_completion done;
	uint64_t length = LENGTH + (s->report == ZEROCOPY || s->report == TIMESTAMPS ? 4096 : 0);
	doing(report_name[s->report]);
	CHECK_UEQ(read_on(s->sv[1], length, &longest), length);
	if (longest > 150 * slowness())
		fail("%s: a pause of %" PRId64 " ms though there was room", report_name[s->report], longest);
	wait_done(ctx, s->id, &done);
	CHECK_EQ(done.status, 0);
	close_pair(s->sv);
}

int main(void)
{
	struct stalled all[] = {
		{ .report = NONE, .family = AF_INET },       { .report = ZEROCOPY, .family = AF_INET },
		{ .report = TIMESTAMPS, .family = AF_INET }, { .report = HALF_CLOSED, .family = AF_INET },
		{ .report = NONE, .family = AF_UNIX },       { .report = HALF_CLOSED, .family = AF_UNIX },
		{ .report = TALKING, .family = AF_INET },
	};
	pthread_t talker;
	int *talking_peer = &all[COUNT_OF(all) - 1].sv[1];
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 31);
	for (size_t i = 0; i < COUNT_OF(all); i++)
		stall(ctx, file, &all[i]);
	atomic_store(&talking, true);
	PTHREAD(pthread_create(&talker, NULL, talk, talking_peer));
	sleep_ms(500);
	must_idle(ctx, COUNT_OF(all));
	atomic_store(&talking, false);
	PTHREAD(pthread_join(talker, NULL));
	for (size_t i = 0; i < COUNT_OF(all); i++)
		go_on(ctx, &all[i]);
	destroy_ctx(ctx);
	return 0;
}
