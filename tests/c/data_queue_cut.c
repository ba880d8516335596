/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An operation is cut off part-way: those queued behind it end with -ECANCELED and nothing sent, also one
 * submitted after the cut but before its DONE was taken. After that a new one is tried on its own merits. */
#include "data_common.h"

#define LENGTH (8 * MIB)
#define BEHIND 9

enum cut { BY_CANCEL, BY_TIMEOUT, BY_SHUTDOWN, BY_RESET, CUTS };
static const char *const cut_name[CUTS] = { "cancel", "timeout", "shutdown", "reset" };
static const int cut_status[CUTS] = { -ECANCELED, -ETIMEDOUT, -EPIPE, -ECONNRESET };

static void cut_it(snapsend_t *ctx, enum cut cut, uint64_t id, int sv[2])
{
	if (cut == BY_CANCEL)
		CHECK_EQ(snapsend_cancel(ctx, id), 0);
	else if (cut == BY_SHUTDOWN)
		SYS(shutdown(sv[0], SHUT_RDWR)); /* AF_UNIX wakes no waiting sender for SHUT_WR alone */
	else if (cut == BY_RESET)
		reset_close(sv[1]);
}

/* Submits the first one, which is stuck part-way, and the others, then cuts; returns with DONEs untaken. */
static void stuck(snapsend_t *ctx, enum cut cut, int sv[2], int file, uint64_t *ids)
{
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.timeout_ms = cut == BY_TIMEOUT ? 100 : 0;
	ids[0] = submit_ok(ctx, &request);
	while (unread(sv[1]) == 0)
		usleep(100);
	request.timeout_ms = 0;
	request.length = 1000;
	for (int i = 1; i <= BEHIND; i++)
		ids[i] = submit_ok(ctx, &request);
	cut_it(ctx, cut, ids[0], sv);
	struct pollfd p = { .fd = snapsend_event_fd(ctx), .events = POLLIN };
	CHECK_EQ(poll(&p, 1, WAIT_MS), 1);
	sleep_ms(30); /* so that the cut is behind us, whichever DONE woke us */
	ids[BEHIND + 1] = submit_ok(ctx, &request);
}

/* A new operation after the DONE of the cut. */
static void on_its_own_merits(snapsend_t *ctx, enum cut cut, int sv[2], int file, uint64_t cut_wire)
{
	struct snapsend_completion done;
	struct reader reader;
	if (cut == BY_CANCEL || cut == BY_TIMEOUT) {
		reader_start_check(&reader, sv[1], cut_wire, 0, 31);
		reader_join(&reader);
		unsigned char *image = image_of(500, 1000, 31);
		transfer_ok(ctx, sv, make_request(-1, file, 500, 1000), image, 1000);
		free(image);
		return;
	}
	struct snapsend_request request = make_request(sv[0], file, 500, 1000);
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK(done.status == -EPIPE || done.status == -ECONNRESET);
	CHECK_UEQ(done.wire_bytes, 0);
}

static void one(enum cut cut, enum kind kind, int file)
{
	snapsend_t *ctx = create_ctx();
	uint64_t ids[BEHIND + 2];
	struct snapsend_completion done;
	int sv[2];
	doing(cut_name[cut]);
	if (!pair_of_kind(kind, sv, 128 * 1024))
		return;
	stuck(ctx, cut, sv, file, ids);
	wait_done(ctx, ids[0], &done);
	CHECK(done.status == cut_status[cut] || (cut == BY_RESET && done.status == -EPIPE));
	CHECK_UGE(done.wire_bytes, 1);
	CHECK_ULE(done.wire_bytes, LENGTH - 1);
	on_its_own_merits(ctx, cut, sv, file, done.wire_bytes);
	for (int i = 1; i <= BEHIND + 1; i++) {
		wait_done(ctx, ids[i], &done);
		if (done.status != -ECANCELED || done.wire_bytes != 0)
			fail("number %d behind it: status %d, %" PRIu64 " bytes", i, done.status, done.wire_bytes);
	}
	if (cut == BY_CANCEL || cut == BY_TIMEOUT) /* all that came has been read */
		CHECK_EQ(unread(sv[1]), 0);
	close(sv[0]);
	if (cut != BY_RESET)
		close(sv[1]);
	expect_nothing(ctx, 0);
	destroy_ctx(ctx);
}

int main(void)
{
	int file = temp_file(LENGTH, 31);
	for (int cut = 0; cut < CUTS; cut++)
		for (int kind = 0; kind < KINDS; kind++)
			one((enum cut)cut, (enum kind)kind, file);
	return 0;
}
