/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* As lent_early, while other threads of the caller wait on the sockets, in recv and in poll, as servers do for the next
 * request: their waits end with the connection. */
#include "lent_ends.h"

enum { READ_LINES = 2, WAITS = 2 };

static void *wait_in_recv(void *argument)
{
	char byte;
	CHECK_LE(recv(*(int *)argument, &byte, 1, 0), 0);
	return NULL;
}

static void *wait_in_poll(void *argument)
{
	struct pollfd p = { .fd = *(int *)argument, .events = POLLIN };
	CHECK_EQ(poll(&p, 1, -1), 1);
	return NULL;
}

int main(void)
{
	static void *(*const waits[WAITS])(void *) = { wait_in_recv, wait_in_poll };
	static const int variants[READ_LINES] = { WHOLE, PART };
	static struct ending ending;
	pthread_t threads[READ_LINES][WAITS];
	ends_set_up();
	ending_begin(&ending, CANCEL, variants, READ_LINES, 512 * KIB);
	settle(&ending, 1);
	for (int i = 0; i < READ_LINES * WAITS; i++)
		PTHREAD(pthread_create(&threads[i / WAITS][i % WAITS], NULL, waits[i % WAITS],
				       &ending.lines[i / WAITS].sv[0]));
	sleep_ms(50);
	int64_t began = now_ms();
	ending_end(&ending);
	ending_take(&ending);
	CHECK_LT(now_ms() - began, 3000 * slowness());
	for (int i = 0; i < READ_LINES; i++) {
		struct line *line = &ending.lines[i];
		CHECK_EQ(line->done[0].status, -ECANCELED);
		CHECK_UEQ(line->done[0].wire_bytes, line->sent);
		for (int k = 0; k < WAITS; k++)
			PTHREAD(pthread_join(threads[i][k], NULL));
		close_pair(line->sv);
	}
	CHECK_UEQ(stats_of(ending.ctx).connections_reset, READ_LINES);
	destroy_ctx(ending.ctx);
	return 0;
}
