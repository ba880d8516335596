/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Operations that have lent pages of the file and must end, to peers that read slowly but acknowledge everything within
 * the second: no connection is reset. One whose bytes were all in the socket succeeds, one of which a part was there
 * ends at that part, and the peer has every byte as it was. */
#include "lent_ends.h"

enum { SLOW_ENDS = DESTROY + 1, SLOW_LINES = 2 };

static void check(const struct ending *e, const struct line *line, struct reader *reader)
{
	bool part = line->variant & PART;
	close(line->sv[0]);
	size_t got = reader_join(reader);
	if (!reader->eof)
		fail("%s, %s: the connection was reset after %zu bytes", end_name[e->how], part ? "part" : "whole",
		     got);
	CHECK_UGE(got, line->sent); /* destroy comes when the peer reads already */
	CHECK_UEQ(count_different(reader->data, image, got), 0);
	reader_free(reader);
	close(line->sv[1]);
	if (e->how == DESTROY)
		return;
	CHECK_UEQ(got, line->sent);
	CHECK_UEQ(line->done[0].wire_bytes, got);
	CHECK_EQ(line->done[0].status, part ? status_of_end(e->how) : 0);
}

int main(void)
{
	static struct ending endings[SLOW_ENDS];
	static struct reader readers[SLOW_ENDS][SLOW_LINES];
	static const int variants[SLOW_LINES] = { WHOLE, PART };
	ends_set_up();
	int64_t began = now_ms();
	for (int how = 0; how < SLOW_ENDS; how++)
		ending_begin(&endings[how], (enum end)how, variants, SLOW_LINES, 160 * KIB);
	settle(endings, SLOW_ENDS);
	int64_t left = began + TIMEOUT * slowness() + 10 - now_ms();
	sleep_ms(left > 0 ? left : 0);
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
	for (int how = 0; how < SLOW_ENDS; how++) {
		for (int i = 0; i < SLOW_LINES; i++)
			check(&endings[how], &endings[how].lines[i], &readers[how][i]);
		if (how == DESTROY)
			continue;
		CHECK_UEQ(stats_of(endings[how].ctx).connections_reset, 0);
		CHECK_UGE(lent_bytes(endings[how].ctx), SHORT);
		destroy_ctx(endings[how].ctx);
	}
	return 0;
}
