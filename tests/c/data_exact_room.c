/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* EXACT waits for room in the pool: operations on stalled peers hold it, one more ends with -ETIMEDOUT and
 * nothing sent, others go on as soon as room comes back, each with what was in the file at its snapshot. */
#include "data_common.h"

#define POOL (8 * MIB)
#define OPS  6

static int sv[OPS][2];
static uint64_t ids[OPS], before[OPS];

static void check_pool(snapsend_t *ctx)
{
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	CHECK_ULE(stats.pool_in_use, POOL);
	CHECK_UNE(stats.pool_in_use, 0);
}

static struct snapsend_request exact(int fd, int file, uint64_t length)
{
	struct snapsend_request request = make_request(fd, file, 0, length);
	request.flags = SNAPSEND_EXACT | SNAPSEND_NOTIFY_SNAPSHOT;
	return request;
}

/* Room never comes: the deadline runs while it waits. */
static void must_time_out(snapsend_t *ctx, int file, uint64_t length)
{
	struct snapsend_completion done;
	int pair[2];
	unix_pair(pair);
	struct snapsend_request request = exact(pair[0], file, length);
	request.timeout_ms = 200;
	int64_t start = now_ms();
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK_GE(now_ms() - start, 190);
	CHECK_LT(now_ms() - start, 5000);
	CHECK_EQ(done.status, -ETIMEDOUT);
	CHECK_UEQ(done.wire_bytes, 0);
	expect_silence(pair[1]);
	close_pair(pair);
}

int main(void)
{
	snapsend_t *ctx = create_ctx_with(0, POOL, 0);
	struct snapsend_info info;
	struct snapsend_completion event;
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	uint64_t length = info.exact_max < POOL / 2 - MIB ? info.exact_max : POOL / 2 - MIB;
	int file = temp_file(length, 16), snapshots = 0;
	for (int i = 0; i < OPS; i++) {
		pair_of_kind(i % 2 ? TCP4 : UNIX, sv[i], 0);
		before[i] = stuff_socket(sv[i][0]);
		struct snapsend_request request = exact(sv[i][0], file, length);
		ids[i] = submit_ok(ctx, &request);
	}
	for (int i = 0; i < OPS; i++) /* long enough for the first, in vain for the last */
		snapshots += wait_event(ctx, ids[i], SNAPSEND_EVENT_SNAPSHOT, &event, i == 0 ? WAIT_MS : 100);
	CHECK_GE(snapshots, 1);
	CHECK_ULE((uint64_t)snapshots * length, POOL);
	check_pool(ctx);
	must_time_out(ctx, file, length);
	struct reader readers[OPS];
	for (int i = 0; i < OPS; i++) { /* now the peers read, and all come through in whichever order */
		swallow(sv[i][1], before[i]);
		reader_start_check(&readers[i], sv[i][1], length, 0, 16);
	}
	for (int i = 0; i < OPS; i++) {
		wait_done(ctx, ids[i], &event);
		CHECK_EQ(event.status, 0);
		CHECK_UEQ(event.wire_bytes, length);
		reader_join(&readers[i]);
	}
	destroy_ctx(ctx);
	return 0;
}
