/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The smallest pool: one block of 32 KiB, of which EXACT may keep 24. While an EXACT operation keeps its data for
 * a peer that does not read, others go on, whatever else waits for room. */
#include "data_common.h"

#define FILE_LENGTH (400 * KIB) /* long enough to go by the pool, to the end of the file so that it is not mapped */
#define WAITING     40          /* more than are looked at each time that room becomes free */

static snapsend_t *ctx;
static int file;

static void open_pair(int sv[2], bool full)
{
	unix_pair(sv);
	if (full)
		stuff_socket(sv[0]);
}

static uint64_t submit_to(int sv[2], bool full, uint64_t length, uint32_t flags)
{
	open_pair(sv, full);
	struct snapsend_request request = make_request(sv[0], file, 0, length);
	request.flags = flags;
	return submit_ok(ctx, &request);
}

static void arrives(uint64_t id, int sv[2], uint64_t length)
{
	struct snapsend_completion done;
	struct reader reader;
	reader_start_check(&reader, sv[1], length, 0, 8);
	wait_done_ms(ctx, id, &done, 10000);
	CHECK_EQ(done.status, 0);
	reader_join(&reader);
	close_pair(sv);
}

static void cancelled(uint64_t id, int sv[2])
{
	struct snapsend_completion done;
	CHECK_EQ(snapsend_cancel(ctx, id), 0);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, -ECANCELED);
	close_pair(sv);
}

int main(void)
{
	int keeps[2], waits[WAITING][2], passes[2], too[2], last[2];
	uint64_t waiting[WAITING];
	ctx = create_ctx_with(0, 64 * KIB, 0);
	file = temp_file(FILE_LENGTH, 8);

	doing("what is read and passed on, in the quarter that is left");
	uint64_t kept = submit_to(keeps, true, 24 * KIB, SNAPSEND_EXACT);
	sleep_ms(20);
	arrives(submit_to(passes, false, SNAPSEND_TO_EOF, 0), passes, FILE_LENGTH);
	cancelled(kept, keeps);

	doing("EXACT whose room is set aside, behind many for whom there is none");
	kept = submit_to(keeps, true, 16 * KIB, SNAPSEND_EXACT);
	for (int i = 0; i < WAITING; i++)
		waiting[i] = submit_to(waits[i], false, 12 * KIB, SNAPSEND_EXACT);
	uint64_t passing = submit_to(passes, true, SNAPSEND_TO_EOF, 0); /* its data stays for 50 ms */
	sleep_ms(5);
	arrives(submit_to(last, false, 4000, SNAPSEND_EXACT), last, 4000);
	cancelled(passing, passes);
	cancelled(kept, keeps);
	for (int i = 0; i < WAITING; i++)
		arrives(waiting[i], waits[i], 12 * KIB);

	doing("EAGER, refused in the line for room to keep data and in that for data that passes");
	kept = submit_to(keeps, true, 24 * KIB, SNAPSEND_EXACT);
	sleep_ms(20);
	open_pair(passes, true), open_pair(too, true), open_pair(last, false);
	struct snapsend_request requests[] = {
		make_request(passes[0], file, 0, SNAPSEND_TO_EOF),
		make_request(too[0], file, 0, SNAPSEND_TO_EOF), /* takes what the first one gives up after 50 ms */
		make_request(last[0], file, 0, 30000),          /* too short to be mapped */
	};
	requests[2].flags = SNAPSEND_EAGER;
	uint64_t ids[3]; /* all at once: the last one must be in both lines before those 50 ms are over */
	CHECK_EQ(snapsend_submit_many(ctx, requests, sizeof requests[0], 3, ids), 3);
	arrives(ids[2], last, 30000);
	cancelled(ids[1], too);
	cancelled(ids[0], passes);
	cancelled(kept, keeps);
	destroy_ctx(ctx);
	return 0;
}
