/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A daemon of one thread: create, close everything from 3 up, open its own, and go on as if nothing had happened.
 * Whichever call comes first says -EBADF, at once; then it makes a new context. */
#include "manners_closefrom.h"

enum first { SUBMIT, TRY_SEND, SEND, POLL, EVENT_FD, CANCEL_SOCKET, FIRSTS };

/* What is done on the calling thread needs nothing of the context's: then it is done, and right. */
static void refused_or_right(int result, const struct snapsend_completion *done, const struct watched *w)
{
	char got[1000];
	if (result == -EBADF)
		return;
	CHECK_GE(result, 0);
	CHECK_EQ(done->status, 0);
	CHECK(done->flags & SNAPSEND_WAS_INLINE);
	CHECK_UEQ(read_all(w->empty[1][1], got, sizeof got), sizeof got);
	CHECK_UEQ(pattern_bad(got, 0, sizeof got, 501), SIZE_MAX);
}

static void round_(enum first first, bool used, int wait_ms)
{
	struct watched w;
	struct snapsend_completion done;
	snapsend_t *ctx = create_ctx();
	if (used) {
		int sv[2];
		char got[1000];
		unix_pair(sv);
		struct snapsend_request request = make_request(sv[0], temp_file(sizeof got, 1), 0, sizeof got);
		wait_done(ctx, submit_ok(ctx, &request), &done);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(read_all(sv[1], got, sizeof got), sizeof got);
		CHECK_GE(snapsend_event_fd(ctx), 3);
	}
	sleep_ms(wait_ms);
	close_from_3();
	watched_open(&w);
	struct snapsend_request request = make_request(w.empty[1][0], w.files[1], 0, 1000);
	switch (first) {
	case SUBMIT: CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, NULL), EBADF); break;
	case TRY_SEND: refused_or_right(snapsend_try_send(ctx, &request, sizeof request, &done), &done, &w); break;
	case SEND: refused_or_right(snapsend_send(ctx, &request, sizeof request, &done), &done, &w); break;
	case POLL: CHECK_ERR(snapsend_poll(ctx, &done, 1, -1), EBADF); break;
	case EVENT_FD: CHECK_ERR(snapsend_event_fd(ctx), EBADF); break;
	default: CHECK_LT(snapsend_cancel_socket(ctx, w.empty[1][0]), 0);
	}
	CHECK_ERR(snapsend_poll(ctx, &done, 1, -1), EBADF);
	beyond_use(ctx, &w);
	destroy_promptly(ctx);
	watched_check(&w);
	if (first == POLL)
		new_context_works();
	watched_close(&w);
}

int main(void)
{
	static const char *const names[] = { "submit", "try_send", "send", "poll", "event_fd", "cancel_socket" };
	for (int i = 0; i < 2 * FIRSTS; i++) {
		doing(names[i / 2]);
		round_((enum first)(i / 2), i % 2, i % 2 ? 0 : 30);
	}
	return 0;
}
