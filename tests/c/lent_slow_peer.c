/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Operations that have lent pages of the file and must end, to peers that read slowly but acknowledge everything within
 * the second: no connection is reset. One whose bytes were all in the socket succeeds, one of which a part was there
 * ends at that part, and the peer has every byte as it was. Where the processor is emulated, a peer may need longer than
 * the second: its connection is reset, but not earlier. */
#include "lent_ends.h"

enum { SLOW_ENDS = DESTROY + 1, SLOW_LINES = 2, SECOND = 1000 - 50 /* ms; TIME_OUT has begun a little earlier */ };

/* Closes both ends. Returns whether the peer needed longer than the second. */
static bool check(const struct ending *e, const struct line *line, struct reader *reader, int64_t ended_at)
{
	bool part = line->variant & PART;
	close(line->sv[0]);
	size_t got = reader_join(reader);
	int64_t took = reader->ended_at - ended_at;
	bool was_reset = !reader->eof;
	if (was_reset && (slowness() == 1 || took < SECOND))
		fail("%s, %s: the connection was reset after %" PRId64 " ms and %zu bytes", end_name[e->how],
		     part ? "part" : "whole", took, got);
	CHECK_UEQ(count_different(reader->data, image, got), 0);
	reader_free(reader);
	close(line->sv[1]);
	if (!was_reset)
		CHECK_UGE(got, line->sent); /* destroy comes when the peer reads already */
	if (was_reset || e->how == DESTROY)
		return was_reset;
	CHECK_UEQ(got, line->sent);
	CHECK_UEQ(line->done[0].wire_bytes, got);
	CHECK_EQ(line->done[0].status, part ? status_of_end(e->how) : 0);
	return false;
}

/* Checks all that ended in one way. Returns how many peers needed longer than the second. */
static uint64_t check_ending(const struct ending *e, struct reader *readers, int64_t ended_at)
{
	uint64_t late = 0;
	for (int i = 0; i < SLOW_LINES; i++)
		late += check(e, &e->lines[i], &readers[i], ended_at);
	if (e->how == DESTROY)
		return late;
	CHECK_UEQ(stats_of(e->ctx).connections_reset, late);
	CHECK_UGE(lent_bytes(e->ctx), SHORT);
	destroy_ctx(e->ctx);
	return late;
}

int main(void)
{
	static struct ending endings[SLOW_ENDS];
	static struct reader readers[SLOW_ENDS][SLOW_LINES];
	static const int variants[SLOW_LINES] = { WHOLE, PART };
	int64_t began = 0;
	uint64_t late = 0;
	ends_set_up();
	for (int how = 0; how < SLOW_ENDS; how++) {
		ending_begin(&endings[how], (enum end)how, variants, SLOW_LINES, 160 * KIB);
		if (how == TIME_OUT)
			began = now_ms();
	}
	settle(endings, SLOW_ENDS);
	int64_t left = began + TIMEOUT * slowness() + 10 - now_ms();
	sleep_ms(left > 0 ? left : 0);
	int64_t ended_at = now_ms();
	for (int how = 0; how < DESTROY; how++)
		ending_end(&endings[how]);
	for (int i = 0; i < SLOW_ENDS * SLOW_LINES; i++) {
		struct reader *reader = &readers[i / SLOW_LINES][i % SLOW_LINES];
		reader_init(reader, endings[i / SLOW_LINES].lines[i % SLOW_LINES].sv[1], UINT64_MAX);
		reader->keep = true, reader->step = 16 * KIB, reader->pause_us = 6000;
		reader_go(reader);
	}
	ending_end(&endings[DESTROY]);
	for (int how = 0; how < SLOW_ENDS; how++)
		ending_take(&endings[how]);
	file_spoil(file, 0, image, FILE_LENGTH);
	for (int how = 0; how < SLOW_ENDS; how++)
		late += check_ending(&endings[how], readers[how], ended_at);
	if (late == SLOW_ENDS * SLOW_LINES)
		skip("every peer needed longer than a second");
	if (late > 0)
		printf("%" PRIu64 " peers needed longer than a second\n", late);
	return 0;
}
