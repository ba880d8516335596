/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Four operations on one connection: all of the first is in the socket, lent, a part of the second, nothing of the
 * others. The first one's file is cut before its DONE allows it. So the first one fails, and the others are
 * cancelled: the second as well has left the stream incomplete. */
#include "../torture/network.h"

enum { FIRST = 256 * KIB, SECOND = 8 * MIB, TIMES = 5 };

static struct network net;
static snapsend_t *ctx;

static uint64_t submit(int socket, int file, uint64_t length, uint32_t flags)
{
	struct snapsend_request request = make_request(socket, file, 0, length);
	request.flags = flags;
	return submit_ok(ctx, &request);
}

static void cut_first(void)
{
	struct snapsend_completion done;
	static unsigned char got[FIRST];
	int sv[2], size = 3 * FIRST, file = temp_file(FIRST, 7), other = temp_file(SECOND, 8);
	connect_over(&net, PATH_VETH, 16 * KIB, sv);
	SYS(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size));
	uint64_t first = submit(sv[0], file, FIRST, SNAPSEND_ZEROCOPY | SNAPSEND_NOTIFY_SENT);
	uint64_t second = submit(sv[0], other, SECOND, 0), behind[2];
	for (size_t i = 0; i < COUNT_OF(behind); i++)
		behind[i] = submit(sv[0], other, SECOND, 0);
	CHECK(wait_event(ctx, first, SNAPSEND_EVENT_SENT, &done, WAIT_MS));
	expect_nothing(ctx, 50);
	SYS(ftruncate(file, FIRST / 2));
	CHECK_UEQ(read_all(sv[1], got, FIRST), FIRST);
	wait_done(ctx, first, &done);
	CHECK_EQ(done.status, -ENODATA);
	CHECK_UEQ(done.wire_bytes, FIRST);
	wait_done(ctx, second, &done);
	CHECK_EQ(done.status, -ECANCELED);
	CHECK_UGE(done.wire_bytes, 1);
	for (size_t i = 0; i < COUNT_OF(behind); i++) {
		wait_done(ctx, behind[i], &done);
		CHECK_EQ(done.status, -ECANCELED);
		CHECK_UEQ(done.wire_bytes, 0);
	}
	close_pair(sv);
	close(file);
	close(other);
}

int main(void)
{
	zero_copy_network(&net);
	ctx = create_ctx();
	for (int i = 0; i < TIMES; i++)
		cut_first();
	destroy_ctx(ctx);
	return 0;
}
