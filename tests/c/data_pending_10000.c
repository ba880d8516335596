/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* 10,000 operations on peers that do not read: at most 512 bytes of memory each and no file data held, an
 * operation on a healthy socket takes as long as without them, and all are ended promptly. */
#include "data_common.h"

#include <sys/prctl.h>

#define OPS     10000
#define TCP_OPS 500
#define LENGTH  (MIB + 5)
#define SAMPLES 300

static int sockets[OPS];
static uint64_t ids[OPS];
static struct snapsend_completion batch[256];

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static int64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Microseconds that an operation on a healthy socket takes, the fastest tenth: a busy machine makes any other slow. */
static int64_t healthy_us(snapsend_t *ctx, int file, int pair[2])
{
	static int64_t took[SAMPLES];
	static unsigned char got[16384];
	struct snapsend_completion done;
	for (int i = 0; i < SAMPLES; i++) {
		int64_t start = now_us();
		struct snapsend_request request = make_request(pair[0], file, 7, sizeof got);
		wait_done(ctx, submit_ok(ctx, &request), &done);
		took[i] = now_us() - start;
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(read_all(pair[1], got, sizeof got), sizeof got);
	}
	qsort(took, SAMPLES, sizeof took[0], by_value);
	return took[SAMPLES / 10];
}

static struct snapsend_stats get_stats(snapsend_t *ctx)
{
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	return stats;
}

/* The peers: in a process of their own, for the limit of descriptors. They connect and do not read. */
static void peers(const struct sockaddr_storage address[2], const socklen_t length[2])
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < OPS; i++) {
		int tcp = i < TCP_OPS;
		int fd = (int)SYS(socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0));
		SYS(connect(fd, (const struct sockaddr *)&address[tcp], length[tcp]));
	}
	for (;;)
		pause();
}

static void make_sockets(void)
{
	struct sockaddr_storage address[2];
	socklen_t length[2];
	int listener[2], buffer = 4096;
	raise_fd_limit(2 * OPS);
	listener[0] = (int)SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	memset(&address[0], 0, sizeof address[0]);
	address[0].ss_family = AF_UNIX;
	SYS(bind(listener[0], (struct sockaddr *)&address[0], sizeof(sa_family_t))); /* the kernel finds a name */
	length[0] = sizeof address[0];
	SYS(getsockname(listener[0], (struct sockaddr *)&address[0], &length[0]));
	SYS(listen(listener[0], 16));
	listener[1] = tcp_listener(AF_INET, 0, &address[1], &length[1]);
	if (SYS(fork()) == 0)
		peers(address, length);
	for (int i = 0; i < OPS; i++) {
		sockets[i] = (int)SYS(accept4(listener[i < TCP_OPS], NULL, NULL, SOCK_CLOEXEC));
		SYS(setsockopt(sockets[i], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer));
	}
}

/* Their DONEs, each once. */
static void take_cancelled(snapsend_t *ctx, int count)
{
	while (count > 0) {
		int n = snapsend_poll(ctx, batch, COUNT_OF(batch), 5000);
		CHECK_GT(n, 0);
		for (int i = 0; i < n; i++) {
			CHECK_EQ(batch[i].status, -ECANCELED);
			CHECK_UEQ(batch[i].event, SNAPSEND_EVENT_DONE);
		}
		count -= n;
	}
	CHECK_EQ(count, 0);
}

int main(void)
{
	SYS(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)); /* or tables that are reserved in advance are filled, too */
	make_sockets();
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 40), pair[2];
	tcp_pair(pair);
	healthy_us(ctx, file, pair); /* everything that is made at first use is made */
	int64_t without = healthy_us(ctx, file, pair);
	struct snapsend_stats before = get_stats(ctx);
	long data = status_kib("VmData"), anon = status_kib("RssAnon");

	for (int i = 0; i < OPS; i++) {
		struct snapsend_request request = make_request(sockets[i], file, 0, LENGTH);
		ids[i] = submit_ok(ctx, &request);
	}
	for (int i = 0; i < 400 && get_stats(ctx).pool_in_use != 0; i++)
		sleep_ms(10);
	sleep_ms(300);
	struct snapsend_stats stalled = get_stats(ctx);
	for (int i = 0; i < 400 && stalled.pool_in_use != 0; i++, stalled = get_stats(ctx))
		sleep_ms(10); /* TCP lets a little more go now and then, for which data is read and given up again */
	long pool = (long)(stalled.pool_resident - before.pool_resident) / 1024;
	data = status_kib("VmData") - data - pool;
	anon = status_kib("RssAnon") - anon - pool;
	int64_t with = healthy_us(ctx, file, pair);
	printf("for %d operations: VmData %+ld KiB, RssAnon %+ld KiB (and %ld KiB of pool); healthy %d us, without %d us\n",
	       OPS, data, anon, pool, (int)with, (int)without);
	CHECK_UEQ(stalled.in_flight, OPS);
	CHECK_UEQ(stalled.pool_in_use, 0);
#ifndef __SANITIZE_ADDRESS__ /* whose allocator takes more */
	CHECK_LE(anon, OPS / 2 + 1024);
	CHECK_LE(data, OPS + 1024); /* tables that double may be reserved in advance, but not filled */
#endif
	if (slowness() == 1) /* an emulated processor tells nothing of times */
		CHECK_LE(with, 2 * without + 200);

	int64_t start = now_ms();
	for (int i = 0; i < OPS / 2; i++)
		CHECK_EQ(i % 2 ? snapsend_cancel(ctx, ids[i]) : snapsend_cancel_socket(ctx, sockets[i]) - 1, 0);
	take_cancelled(ctx, OPS / 2);
	CHECK_LE(now_ms() - start, 5000 * slowness());
	start = now_ms();
	destroy_ctx(ctx);
	CHECK_LE(now_ms() - start, 5000 * slowness());
	return 0;
}
