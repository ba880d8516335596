/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The n-th allocation of the process fails, or all from the n-th on, for every n: no call ends the process, results are
 * -ENOMEM or success, what was accepted gets its DONE while memory is still refused, and nothing is left behind. */
#include "no_memory.h"

#define LENGTH 8192
#define GROUP  8

static int to_reader[2], full[2], file;
static char header_bytes[3000];
static const struct iovec header = { header_bytes, sizeof header_bytes };

static void send_all(snapsend_t *ctx)
{
	struct snapsend_request request = make_request(to_reader[0], file, 0, LENGTH), group[GROUP];
	struct snapsend_completion done;
	for (int i = 0; i < GROUP; i++)
		group[i] = request;
	request.header = &header;
	request.header_count = 1;
	uint32_t accepted = queue(ctx, &request, group, GROUP);
	if (is_accepted(snapsend_send(ctx, &request, sizeof request, &done), "send") && done.status != -ENOMEM)
		CHECK_EQ(done.status, 0);
	take(ctx, accepted, 0);
}

/* An operation that waits, cancelled by whatever way there is memory for. */
static void cancel(snapsend_t *ctx)
{
	struct snapsend_request request = make_request(full[0], file, 0, LENGTH);
	uint64_t id;
	if (!is_accepted(snapsend_submit(ctx, &request, sizeof request, &id), "submit"))
		return;
	int result = snapsend_cancel(ctx, id);
	if (result == -ENOMEM)
		is_accepted(snapsend_cancel_socket(ctx, full[0]), "cancel_socket");
	else if (result != -ENOENT) /* it has failed for want of memory before */
		CHECK_EQ(result, 0);
	if (result == -ENOMEM)
		refuse_none();
	if (result == -ENOMEM)
		snapsend_cancel(ctx, id);
	take(ctx, 1, -ECANCELED);
}

static void scenario(long n, bool good)
{
	snapsend_t *ctx = NULL;
	char sink[4096];
	refuse_from(n, good);
	int result = snapsend_create(NULL, 0, &ctx);
	if (result == 0) {
		send_all(ctx);
		cancel(ctx);
		CHECK_EQ(snapsend_destroy(ctx), 0);
	}
	refuse_none();
	if (result != 0 && result != -EAGAIN) /* EAGAIN: no thread */
		CHECK_EQ(result, -ENOMEM);
	while (recv(to_reader[1], sink, sizeof sink, MSG_DONTWAIT) > 0)
		;
}

int main(void)
{
	file = temp_file(LENGTH, 5);
	unix_pair(to_reader);
	unix_pair(full);
	fill_socket(full[0]);
	run_each(scenario, 20);
	return 0;
}
