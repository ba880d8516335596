/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Must be caught: room for one completion is said to be room for four, so the library writes behind it. */
#include "common.h"

int main(void)
{
	int sv[2];
	struct iovec header = { "x", 1 };
	struct snapsend_completion *room = malloc(sizeof *room), last;
	snapsend_t *ctx = create_ctx();
	CHECK(room != NULL);
	unix_pair(sv);
	struct snapsend_request request = make_request(sv[0], -1, 0, 0);
	request.header = &header, request.header_count = 1;
	for (int i = 0; i < 4; i++)
		submit_ok(ctx, &request);
	/* The DONE of a fifth, taken by the ring thread behind them: soon all four wait. */
	CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &last), 0);
	sleep_ms(500);
	printf("%d completions\n", snapsend_poll(ctx, room, 4, 0));
	return 0;
}
