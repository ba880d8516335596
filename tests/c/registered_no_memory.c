/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The n-th allocation fails, or all from the n-th on, for every n, while descriptors are registered, used, by groups of
 * operations with and without handles too, and unregistered: results are -ENOMEM or success, what was accepted gets
 * its DONE while memory is still refused, and nothing is left behind. */
#include "no_memory.h"

#define LENGTH 3000
#define PAIRS  40 /* more than have their place in a table that there is memory for already */
#define GROUP  (2 * PAIRS)

static int pairs[PAIRS][2], file;

/* The first half by handle, if there is one for each; the others by number. */
static struct snapsend_request numbered(int i, const int handles[PAIRS], int file_handle)
{
	struct snapsend_request request = make_request(pairs[i % PAIRS][0], file, 0, LENGTH);
	if (i < PAIRS && handles[i] > 0 && file_handle > 0) {
		request.socket_fd = handles[i];
		request.file_fd = file_handle;
		request.flags = SNAPSEND_REGISTERED_SOCKET | SNAPSEND_REGISTERED_FILE;
	}
	return request;
}

static void send_all(snapsend_t *ctx, const int handles[PAIRS], int file_handle)
{
	struct snapsend_request group[GROUP];
	struct snapsend_completion done;
	for (int i = 0; i < GROUP; i++)
		group[i] = numbered(i, handles, file_handle);
	uint32_t accepted = queue(ctx, &group[0], group, GROUP);
	is_accepted(snapsend_send(ctx, &group[1], sizeof group[1], &done), "send");
	take(ctx, accepted, 0);
}

/* Creation has its memory: no_memory.c refuses that. */
static void scenario(long n, bool good)
{
	static char sink[65536];
	int handles[PAIRS];
	snapsend_t *ctx = create_ctx();
	refuse_from(n, good);
	int file_handle = snapsend_register_file(ctx, file, 0);
	is_accepted(file_handle, "register_file");
	for (int i = 0; i < PAIRS; i++) {
		handles[i] = snapsend_register_socket(ctx, pairs[i][0], 0);
		is_accepted(handles[i], "register_socket");
	}
	send_all(ctx, handles, file_handle);
	if (file_handle > 0)
		CHECK_EQ(snapsend_unregister_file(ctx, file_handle), 0);
	for (int i = 0; i < PAIRS; i++)
		if (handles[i] > 0)
			CHECK_EQ(snapsend_unregister_socket(ctx, handles[i]), 0);
	CHECK_EQ(snapsend_destroy(ctx), 0);
	refuse_none();
	for (int i = 0; i < PAIRS; i++)
		while (recv(pairs[i][1], sink, sizeof sink, MSG_DONTWAIT) > 0)
			;
}

int main(void)
{
	file = temp_file(LENGTH, 5);
	for (int i = 0; i < PAIRS; i++)
		unix_pair(pairs[i]);
	run_each(scenario, 10);
	return 0;
}
