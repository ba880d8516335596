/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Under load through submit and poll, one io_uring_enter serves at least eight operations and one wake-up of the
 * ring thread many: 64 connections with small warm answers, and one connection with 16 operations in flight. */
#include "common.h"

#define CONNECTIONS   64
#define ANSWER        (4 * KIB)
#define ANSWERS       30000
#define BULK          (64 * KIB)
#define BULK_DEPTH    16
#define BULK_COUNT    8000
#define FILE_SIZE     (4 * MIB)
#define BATCH         256
#define OPS_PER_ENTER 8
#define OPS_PER_WAKE  4 /* generous: how long the ring thread stays awake depends on what else runs */

static struct snapsend_stats get(snapsend_t *ctx)
{
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	return stats;
}

/* Keeps depth operations in flight on each connection; every completion is followed by the next submit. */
static void load(snapsend_t *ctx, int file, const int *sockets, unsigned connections, unsigned depth, uint64_t length,
		 unsigned total)
{
	static char header[64];
	struct iovec head = { header, sizeof header };
	struct snapsend_completion done[BATCH];
	unsigned submitted = 0, ended = 0;
	while (ended < total) {
		int n = 0;
		if (submitted >= connections * depth) {
			n = snapsend_poll(ctx, done, BATCH, WAIT_MS);
			CHECK_GT(n, 0);
		}
		for (int i = 0; i < n; i++)
			CHECK_EQ(done[i].status, 0);
		ended += (unsigned)n;
		for (int i = 0; submitted < total && (i < n || submitted < connections * depth); i++, submitted++) {
			unsigned which = i < n ? (unsigned)done[i].user_data : submitted % connections;
			struct snapsend_request request =
				make_request(sockets[which], file, submitted % 64 * (64 * KIB) % FILE_SIZE, length);
			request.header = &head;
			request.header_count = 1;
			request.user_data = which;
			submit_ok(ctx, &request);
		}
	}
}

static void measure(const char *what, int file, unsigned connections, unsigned depth, uint64_t length, unsigned total)
{
	int pairs[CONNECTIONS][2], sockets[CONNECTIONS];
	struct reader readers[CONNECTIONS];
	snapsend_t *ctx = create_ctx();
	struct snapsend_info info;
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	doing(what);
	for (unsigned i = 0; i < connections; i++) {
		tcp_pair(pairs[i]);
		sockets[i] = pairs[i][0];
		reader_init(&readers[i], pairs[i][1], UINT64_MAX);
		reader_go(&readers[i]);
	}
	load(ctx, file, sockets, connections, depth, length, connections * depth * 4); /* warm up */
	struct snapsend_stats before = get(ctx);
	load(ctx, file, sockets, connections, depth, length, total);
	struct snapsend_stats after = get(ctx);
	uint64_t operations = after.done_ok - before.done_ok;
	uint64_t enters = after.kernel_enters - before.kernel_enters, wakeups = after.wakeups - before.wakeups;
	printf("%s: %" PRIu64 " operations, %" PRIu64 " enters, %" PRIu64 " wake-ups\n", what, operations, enters,
	       wakeups);
	CHECK_UEQ(operations, total);
	if (info.engine == SNAPSEND_ENGINE_URING)
		CHECK_ULE(enters * OPS_PER_ENTER, operations);
	CHECK_ULE(wakeups * OPS_PER_WAKE, operations);
	destroy_ctx(ctx);
	for (unsigned i = 0; i < connections; i++) {
		close(pairs[i][0]);
		reader_join(&readers[i]);
		close(pairs[i][1]);
	}
}

int main(void)
{
	int file = temp_file(FILE_SIZE, 8);
	measure("64 connections, answers of 4 KiB", file, CONNECTIONS, 1, ANSWER, ANSWERS);
	measure("bulk, 16 of 64 KiB in flight", file, 1, BULK_DEPTH, BULK, BULK_COUNT);
	return 0;
}
