/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* The host closes all descriptors from 3 up and opens its own while operations are in flight, to peers that read and
 * to peers that do not: each ends once, through poll, and nothing of the host's new ones is touched. */
#include "manners_closefrom.h"

static void *poll_meanwhile(void *argument)
{
	struct flight *f = argument;
	struct snapsend_completion batch[4];
	for (int count = 0; count < FLIGHT_OPS;) {
		int n = snapsend_poll(f->ctx, batch, 4, -1);
		CHECK_GT(n, 0);
		for (int i = 0; i < n; i++)
			flight_note(f, &batch[i]);
		count += n;
	}
	return NULL;
}

/* With a thread that waits in poll at that moment. */
static void round_(int stalled_ms, bool in_poll)
{
	struct flight f;
	struct watched w;
	pthread_t thread;
	flight_start(&f, stalled_ms);
	if (in_poll) {
		PTHREAD(pthread_create(&thread, NULL, poll_meanwhile, &f));
		sleep_ms(10);
	}
	close_from_3();
	watched_open(&w);
	if (in_poll) {
		doing("a thread in poll");
		PTHREAD(pthread_join(thread, NULL));
	}
	flight_ends(&f, 10000);
	poll_beyond_use(f.ctx); /* no other call was needed for it to notice */
	beyond_use(f.ctx, &w);
	destroy_promptly(f.ctx);
	watched_check(&w);
	flight_peers(&f);
	new_context_works();
	watched_close(&w);
}

int main(void)
{
	for (int i = 0; i < 8; i++)
		round_(i & 1 ? 1500 : 0, i & 2);
	return 0;
}
