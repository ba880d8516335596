/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* The host closes all descriptors from 3 up, opens its own, and then only destroys: 0, promptly, and none of the new
 * descriptors is closed or touched; also when destroy comes first, and when the context was never used. */
#include "manners_closefrom.h"

static void round_(int stalled_ms, bool holder, bool open_first)
{
	struct flight f;
	struct watched w;
	int status;
	flight_start(&f, stalled_ms);
	pid_t child = holder ? fork_holder() : -1;
	close_from_3();
	if (open_first)
		watched_open(&w);
	destroy_promptly(f.ctx);
	if (!open_first)
		watched_open(&w);
	watched_check(&w);
	if (holder) {
		SYS(kill(child, SIGKILL));
		SYS(waitpid(child, &status, 0));
	}
	flight_peers(&f);
	watched_close(&w);
	new_context_works();
}

static void unused(int wait_ms)
{
	struct watched w;
	snapsend_t *ctx[3];
	for (int i = 0; i < 3; i++)
		ctx[i] = create_ctx();
	sleep_ms(wait_ms); /* its thread asleep or awake */
	close_from_3();
	watched_open(&w);
	for (int i = 0; i < 3; i++)
		destroy_ctx(ctx[i]);
	CHECK_EQ(wait_threads(1, 2000), 1);
	watched_check(&w);
	watched_close(&w);
}

int main(void)
{
	time_limit(100);
	unused(0);
	unused(50);
	unused(1500); /* and its memory given back */
	for (int i = 0; i < 8; i++)
		round_(i & 1 ? 1000 : 0, i & 2, i & 4);
	return 0;
}
