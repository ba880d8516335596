/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* The host closes all descriptors from 3 up and opens its own, while a forked child still holds the old ones open:
 * the same as without the child. The child itself may do so, too: what it inherited stays out of the way. */
#include "manners_closefrom.h"

static void with_a_child(int stalled_ms, bool poll_first)
{
	struct flight f;
	struct watched w;
	int status;
	flight_start(&f, stalled_ms);
	pid_t child = fork_holder();
	close_from_3();
	watched_open(&w);
	if (poll_first)
		flight_ends(&f, 5000);
	beyond_use(f.ctx, &w);
	if (!poll_first)
		flight_ends(&f, 5000);
	poll_beyond_use(f.ctx);
	destroy_promptly(f.ctx);
	watched_check(&w);
	SYS(kill(child, SIGKILL));
	SYS(waitpid(child, &status, 0));
	flight_peers(&f);
	new_context_works();
	watched_close(&w);
}

/* What daemon(3) does: goes on in the child, which closes everything. The parent's operations do not notice. */
static void in_the_child(void)
{
	struct flight f;
	struct watched w;
	struct snapsend_completion done;
	int status, good = 0;
	flight_start(&f, 0);
	pid_t child = (pid_t)SYS(fork());
	if (child == 0) {
		time_limit(30);
		close_from_3();
		watched_open(&w);
		struct snapsend_request request = make_request(w.empty[0][0], w.files[0], 0, 1000);
		CHECK_ERR(snapsend_submit(f.ctx, &request, sizeof request, NULL), ECHILD);
		CHECK_ERR(snapsend_poll(f.ctx, &done, 1, -1), ECHILD);
		CHECK_ERR(snapsend_event_fd(f.ctx), ECHILD);
		CHECK_EQ(snapsend_destroy(f.ctx), 0);
		watched_check(&w);
		new_context_works();
		test_leave(0);
	}
	while (good < FLIGHT_OPS) {
		CHECK_EQ(snapsend_poll(f.ctx, &done, 1, WAIT_MS), 1);
		CHECK_EQ(done.status, 0);
		flight_note(&f, &done);
		good++;
	}
	SYS(waitpid(child, &status, 0));
	CHECK(ended_well(status));
	destroy_ctx(f.ctx);
	close_from_3();
	flight_peers(&f);
}

int main(void)
{
	time_limit(100);
	doing("in the child");
	in_the_child();
	for (int i = 0; i < 4; i++) {
		doing(i & 1 ? "stalled peers" : "reading peers");
		with_a_child(i & 1 ? 6000 : 0, i & 2);
	}
	return 0;
}
