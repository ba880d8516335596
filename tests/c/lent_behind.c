/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Three operations on a socket whose peer does not read: one whole in the socket, one of which a part is there, one that
 * has not begun. The last one can be cancelled at once, without harm to the others. If then the second one is cancelled,
 * the first one still succeeds if the peer reads in time; otherwise both end with the connection. */
#include "lent_ends.h"

static void check_order(snapsend_t *ctx, struct line *line)
{
	struct snapsend_completion done;
	int64_t began = now_ms();
	CHECK_EQ(snapsend_cancel(ctx, line->ids[2]), 0);
	wait_done(ctx, line->ids[2], &done);
	CHECK_LT(now_ms() - began, 500 * slowness());
	CHECK_EQ(done.status, -ECANCELED);
	CHECK_UEQ(done.wire_bytes, 0);
	expect_nothing(ctx, 50);
	CHECK_EQ(snapsend_cancel(ctx, line->ids[1]), 0);
}

static void with(struct ending *e, bool reads)
{
	struct line *line = &e->lines[0];
	struct reader reader;
	check_order(e->ctx, line);
	if (reads)
		reader_start_keep(&reader, line->sv[1], line->sent);
	for (size_t i = 0; i < 2; i++)
		wait_done(e->ctx, line->ids[i], &line->done[i]);
	CHECK_EQ(line->done[0].status, reads ? 0 : -ECANCELED);
	CHECK_UEQ(line->done[0].wire_bytes, SHORT);
	CHECK_EQ(line->done[1].status, -ECANCELED);
	CHECK_UEQ(line->done[1].wire_bytes, line->sent - SHORT);
	CHECK_UEQ(stats_of(e->ctx).connections_reset, reads ? 0 : 1);
	if (reads) {
		reader_join(&reader);
		CHECK_UEQ(count_different(reader.data, image, SHORT), 0);
		CHECK_UEQ(count_different(reader.data + SHORT, image + line->offsets[1], line->sent - SHORT), 0);
		reader_free(&reader);
	}
	close_pair(line->sv);
	destroy_ctx(e->ctx);
}

int main(void)
{
	static struct ending endings[2];
	static const int variants[] = { WHOLE | BEHIND };
	ends_set_up();
	for (int i = 0; i < 2; i++)
		ending_begin(&endings[i], CANCEL, variants, 1, 512 * KIB);
	settle(endings, 2);
	with(&endings[0], true);
	with(&endings[1], false);
	return 0;
}
