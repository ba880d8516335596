/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* 200 contexts one after the other, idle and used: no descriptor, thread, mapping or memory is left. */
#include "common.h"

static void once(int round, int socket_fd, int peer, int file)
{
	snapsend_t *ctx = create_ctx_with(round % 3 == 2 ? 10 : 0, 0, 0);
	if (round % 2 == 1) {
		struct snapsend_request request = make_request(socket_fd, file, 0, 50000);
		struct snapsend_completion completion;
		request.flags = round % 4 == 1 ? SNAPSEND_EAGER : 0;
		CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
		CHECK_EQ(completion.status, 0);
		drain(peer, 0);
	}
	destroy_ctx(ctx);
}

int main(void)
{
	int sv[2];
	unix_pair(sv);
	int file = temp_file(50000, 1);
	for (int i = 0; i < 4; i++) /* what is made once for the process */
		once(i, sv[0], sv[1], file);
	wait_threads(1, 2000);
	int fds = count_fds(), threads = count_threads(), mappings = count_mappings(NULL);
	long memory = rss_kib();
	for (int i = 0; i < 200; i++)
		once(i, sv[0], sv[1], file);
	CHECK_EQ(count_fds(), fds);
	CHECK_EQ(wait_threads(threads, 2000), threads);
	CHECK_LE(count_mappings(NULL), mappings + 20);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what is freed */
	CHECK_LE(rss_kib() - memory, 4096);
#endif
	(void)memory;

	/* Many at once, destroyed in another order. */
	snapsend_t *many[30];
	for (int i = 0; i < 30; i++)
		many[i] = create_ctx();
	for (int i = 0; i < 30; i++)
		destroy_ctx(many[i * 7 % 30]);
	CHECK_EQ(count_fds(), fds);
	CHECK_EQ(wait_threads(threads, 2000), threads);
	return 0;
}
