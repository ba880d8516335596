/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Zero-copy under RLIMIT_MEMLOCK, without CAP_IPC_LOCK: what fits is sent without a copy, the rest with one, and a
 * socket that is always busy gets zero-copy back when another process of the user has given memory back. The
 * library's own pool does not use the limit up. */
#include "../torture/network.h"
#include "manners_common.h"
#include "memlock.h"

#include <sys/mman.h>
#include <sys/resource.h>

#define USER   45678 /* and the next two */
#define QUEUED 16

struct variant {
	const char *name;
	rlim_t limit;
	bool shared;           /* with another process, which has nearly all of it at first */
	unsigned count, least; /* MiB to send at the end, and of them without a copy */
};

static const struct variant variants[] = {
	{ "64 KiB", 64 * KIB, false, 20, 0 },
	{ "8 MiB", 8 * MIB, false, 150, 50 },
	{ "8 MiB, shared", 8 * MIB, true, 150, 50 },
};

static struct network net;

/* The socket always has operations queued; how many MiB went without a copy. */
static uint64_t send_many(snapsend_t *ctx, int socket, int file, unsigned count, unsigned *queued)
{
	struct snapsend_stats before, after;
	struct snapsend_completion done;
	struct snapsend_request request = make_request(socket, file, 0, MIB);
	CHECK_EQ(snapsend_get_stats(ctx, &before, sizeof before), 0);
	for (unsigned i = 0; i < count; i++) {
		submit_ok(ctx, &request);
		for (*queued += 1; *queued > QUEUED; *queued -= 1) {
			CHECK_EQ(snapsend_poll(ctx, &done, 1, WAIT_MS), 1);
			CHECK_EQ(done.status, 0);
		}
	}
	CHECK_EQ(snapsend_get_stats(ctx, &after, sizeof after), 0);
	return (after.bytes_zerocopy - before.bytes_zerocopy) / MIB;
}

static void with(const void *argument)
{
	const struct variant *variant = argument;
	struct rlimit limit = { variant->limit, variant->limit };
	struct snapsend_completion done;
	struct reader reader;
	unsigned queued = 0;
	pid_t other = -1;
	snapsend_t *ctx;
	int sv[2], file = temp_file(MIB, 61);
	connect_over(&net, PATH_VETH, 0, sv);
	SYS(setrlimit(RLIMIT_MEMLOCK, &limit));
	uid_t user = USER + (uid_t)(variant - variants); /* what one leaves behind is not to count for the next */
	SYS(setresuid(user, user, user));
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* the change of user has undone it */
	int created = try_create(SNAPSEND_ENGINE_URING, &ctx);
	if (created == -ENOMEM)
		skip("the limit does not allow an io_uring");
	CHECK_EQ(created, 0);
	if (variant->shared)
		other = process_that_locks(7 * MIB + 768 * KIB);
	reader_init(&reader, sv[1], UINT64_MAX);
	reader.pause_us = 400; /* slower than the sender, so that the socket is never idle */
	reader_go(&reader);
	if (other > 0) {
		CHECK_UEQ(send_many(ctx, sv[0], file, 60, &queued), 0);
		kill(other, SIGKILL);
		SYS(waitpid(other, NULL, 0));
		int64_t end = now_ms() + 3000 * slowness(); /* the kernel takes its time to end that one's ring */
		while (send_many(ctx, sv[0], file, 10, &queued) < 5)
			if (now_ms() > end)
				fail("the socket does not get zero-copy back");
	}
	uint64_t without = send_many(ctx, sv[0], file, variant->count, &queued);
	printf("%s: %" PRIu64 " of %u MiB without a copy\n", variant->name, without, variant->count);
	CHECK_UGE(without, variant->least);
	for (; queued > 0; queued--) {
		CHECK_EQ(snapsend_poll(ctx, &done, 1, WAIT_MS), 1);
		CHECK_EQ(done.status, 0);
	}
	SYS(shutdown(sv[0], SHUT_WR));
	CHECK_UEQ(reader_join(&reader) % MIB, 0);
	destroy_ctx(ctx);
}

int main(void)
{
	zero_copy_network(&net);
	for (size_t i = 0; i < COUNT_OF(variants); i++)
		in_child(variants[i].name, with, &variants[i]);
	return parts_done();
}
