/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The n-th allocation of the process fails, or all from the n-th on, for every n: no call ends the process, results are
 * -ENOMEM or success, what was accepted gets its DONE while memory is still refused, and nothing is left behind. */
#include "no_memory.h"

#define LENGTH 8192
#define GROUP  8

static int to_reader[2], full[2], file;
static char header_bytes[3000];
static const struct iovec header = { header_bytes, sizeof header_bytes };

/* How many operations were accepted; their DONEs come through poll. */
static uint32_t hand_in(snapsend_t *ctx)
{
	struct snapsend_request request = make_request(to_reader[0], file, 0, LENGTH), group[GROUP];
	struct snapsend_completion done;
	uint64_t id;
	request.header = &header;
	request.header_count = 1;
	uint32_t accepted = is_accepted(snapsend_submit(ctx, &request, sizeof request, &id), "submit");
	for (int i = 0; i < GROUP; i++)
		group[i] = make_request(to_reader[0], file, 0, LENGTH);
	int count = snapsend_submit_many(ctx, group, sizeof group[0], GROUP, NULL);
	if (is_accepted(count, "submit_many"))
		accepted += (uint32_t)count;
	int tried = snapsend_try_send(ctx, &request, sizeof request, &done);
	if (tried != 1)
		accepted += is_accepted(tried, "try_send");
	if (is_accepted(snapsend_send(ctx, &request, sizeof request, &done), "send") && done.status != -ENOMEM)
		CHECK_EQ(done.status, 0);
	return accepted;
}

static void take(snapsend_t *ctx, uint32_t count, int cancelled)
{
	struct snapsend_completion batch[GROUP];
	int64_t end = now_ms() + WAIT_MS;
	while (count > 0) {
		CHECK_LT(now_ms(), end);
		int taken = snapsend_poll(ctx, batch, GROUP, 1000);
		CHECK_GE(taken, 0);
		for (int i = 0; i < taken; i++)
			if (batch[i].event == SNAPSEND_EVENT_DONE) {
				count--;
				if (batch[i].status != 0 && batch[i].status != cancelled)
					CHECK_EQ(batch[i].status, -ENOMEM);
			}
	}
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

/* False: there were fewer allocations. */
static bool scenario(long n, bool good)
{
	snapsend_t *ctx = NULL;
	char sink[4096];
	int fds = count_fds(), threads = wait_threads(1, 0);
	refuse_from(n, good);
	int result = snapsend_create(NULL, 0, &ctx);
	if (result == 0) {
		take(ctx, hand_in(ctx), 0);
		cancel(ctx);
		CHECK_EQ(snapsend_destroy(ctx), 0);
	}
	refuse_none();
	if (result != 0 && result != -EAGAIN) /* EAGAIN: no thread */
		CHECK_EQ(result, -ENOMEM);
	bool was_refused = atomic_load(&failed) > 0;
	while (recv(to_reader[1], sink, sizeof sink, MSG_DONTWAIT) > 0)
		;
	CHECK_EQ(wait_threads(threads, WAIT_MS), threads);
	CHECK_EQ(count_fds(), fds);
	return was_refused;
}

int main(void)
{
	file = temp_file(LENGTH, 5);
	unix_pair(to_reader);
	unix_pair(full);
	fill_socket(full[0]);
	scenario(-1, false); /* what is made once for the process */
	for (int good = 0; good < 2; good++) {
		long n = 1;
		while (scenario(n, good))
			n++;
		printf("%s: %ld allocations\n", good ? "all from the n-th on fail" : "the n-th fails", n - 1);
		CHECK_GT(n, 20);
	}
	return 0;
}
