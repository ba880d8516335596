/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Ways of copying long ranges: each sends the right bytes; the library measures all that are possible, and reports what
 * they cost; SNAPSEND_COPY pins one. */
#include "registered.h"

#define SIZE (4 * MIB)

static const char *const copy_name[] = { "map", "read64k", "read256k", "read1m", "none" };
enum { COPIES = 4, ROUNDS = 160 /* of which one in four measures a way that is not known */ };

static void learnt(snapsend_t *ctx, uint64_t costs[COPIES])
{
	struct snapsend_stats stats = stats_of(ctx);
	costs[0] = stats.copy_mapped_ns_per_mib;
	costs[1] = stats.copy_64k_ns_per_mib;
	costs[2] = stats.copy_256k_ns_per_mib;
	costs[3] = stats.copy_1m_ns_per_mib;
}

/* Plausible: between 10 us and 1 s for each MiB. */
static void check(const uint64_t costs[COPIES], int copy, bool measured)
{
	printf("%s: %" PRIu64 " ns per MiB\n", copy_name[copy], costs[copy]);
	CHECK_EQ(costs[copy] > 0, measured);
	if (measured) {
		CHECK_UGE(costs[copy], 10000);
		CHECK_UGE(1000000000, costs[copy]);
	}
}

static void send_often(struct ends *ends, int naming, bool here, int rounds)
{
	struct reader reader;
	for (int i = 0; i < rounds; i++) {
		struct snapsend_request request = ends_request(ends, naming, (uint64_t)i * 1000, MIB);
		struct snapsend_completion done;
		if (here) {
			int result = snapsend_try_send(ends->ctx, &request, sizeof request, &done);
			CHECK(result == 0 || result == 1);
			reader_start_check(&reader, ends->sv[1], MIB, request.offset, 37);
			if (result == 0)
				wait_done(ends->ctx, done.id, &done);
		} else {
			reader_start_check(&reader, ends->sv[1], MIB, request.offset, 37);
			wait_done(ends->ctx, submit_ok(ends->ctx, &request), &done);
		}
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.file_bytes, MIB);
		reader_join(&reader);
	}
}

/* With SNAPSEND_COPY as named. */
static void with(int pinned)
{
	struct ends ends;
	uint64_t costs[COPIES];
	ends_open(&ends, create_ctx(), TCP4, temp_file(SIZE, 37));
	learnt(ends.ctx, costs);
	for (int copy = 0; copy < COPIES; copy++)
		CHECK_UEQ(costs[copy], 0);
	doing(copy_name[pinned]);
	send_often(&ends, BY_HANDLE, true, ROUNDS);
	learnt(ends.ctx, costs);
	for (int copy = 0; copy < COPIES; copy++)
		check(costs, copy, pinned == COPIES || pinned == copy);
	send_often(&ends, BY_NUMBER, true, ROUNDS / 4);
	send_often(&ends, BY_NUMBER, false, ROUNDS / 4);
	send_often(&ends, BY_HANDLE, false, ROUNDS / 4);
	ends_close(&ends);
	close(ends.file);
	destroy_ctx(ends.ctx);
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		with(atoi(argv[1]));
		return 0;
	}
	time_limit(120);
	for (int pinned = 0; pinned <= COPIES; pinned++) {
		pid_t child = SYS(fork());
		if (child == 0) {
			char number[] = { (char)('0' + pinned), 0 };
			SYS(setenv("SNAPSEND_COPY", copy_name[pinned], 1));
			execl("/proc/self/exe", "data_copies", number, (char *)NULL);
			_exit(127);
		}
		int status;
		SYS(waitpid(child, &status, 0));
		if (status != 0)
			fail("SNAPSEND_COPY=%s: status %#x", copy_name[pinned], status);
	}
	return 0;
}
