/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Operations that have lent pages of the file to a socket whose peer never reads, and that must end: their DONE comes
 * after about a second, the connection is reset, wire_bytes is exact, and no change of the file after DONE arrives. With
 * all bytes of the operation in the socket and with a part of them, alone and with others behind, registered or not. */
#include "lent_ends.h"

static bool is_of_peer(enum end how)
{
	return how == PEER_CLOSE || how == PEER_RESET;
}

static void check_done(enum end how, const struct line *line)
{
	uint64_t sum = 0;
	int status = line->done[0].status;
	if (is_of_peer(how))
		CHECK(line->variant & PART ? status == -ECONNRESET || status == -EPIPE : status == 0);
	else
		CHECK_EQ(status, status_of_end(how));
	CHECK_UGE(line->done[0].wire_bytes, SHORT);
	for (size_t i = 0; i < line->count; i++) {
		sum += line->done[i].wire_bytes;
		if (i > 0)
			CHECK_LT(line->done[i].status, 0);
		if (i > 0 && (line->variant & PART || i == 2))
			CHECK_UEQ(line->done[i].wire_bytes, 0);
	}
	CHECK_UEQ(sum, line->sent);
}

/* The peer gets what was acknowledged, as it was, and a reset. */
static void check_peer(const struct line *line)
{
	static unsigned char got[LONG];
	int error;
	size_t n = read_to_end(line->sv[1], got, sizeof got, &error), first = line->variant & PART ? LONG : SHORT;
	CHECK_UEQ(count_different(got, image, n < first ? n : first), 0);
	if (n > first)
		CHECK_UEQ(count_different(got + first, image + line->offsets[1], n - first), 0);
	CHECK_EQ(error, ECONNRESET);
	CHECK_ULE(n, line->sent - 1);
}

static void leave(struct ending *e)
{
	for (size_t i = 0; i < e->count; i++) {
		if (!is_of_peer(e->how)) {
			check_peer(&e->lines[i]);
			close(e->lines[i].sv[1]);
		}
		close(e->lines[i].sv[0]);
	}
	if (e->how == DESTROY)
		return;
	CHECK_UEQ(stats_of(e->ctx).connections_reset, is_of_peer(e->how) ? 0 : LINES);
	CHECK_UGE(lent_bytes(e->ctx), LINES * SHORT);
	destroy_ctx(e->ctx);
}

int main(void)
{
	static struct ending endings[ENDS];
	static const int variants[LINES] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	ends_set_up();
	int64_t began = now_ms();
	for (int how = 0; how < ENDS; how++)
		ending_begin(&endings[how], (enum end)how, variants, LINES, 512 * KIB);
	settle(endings, ENDS);
	for (int how = 0; how < ENDS; how++)
		ending_end(&endings[how]);
	for (int how = 0; how < ENDS; how++) {
		doing(end_name[how]);
		ending_take(&endings[how]);
		for (size_t i = 0; how != DESTROY && i < LINES; i++)
			check_done((enum end)how, &endings[how].lines[i]);
	}
	CHECK_LT(now_ms() - began, (TIMEOUT + 3000) * slowness());
	file_spoil(file, 0, image, FILE_LENGTH);
	for (int how = 0; how < ENDS; how++) {
		doing(end_name[how]);
		leave(&endings[how]);
	}
	return 0;
}
