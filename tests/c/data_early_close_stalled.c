/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A descriptor closed, or used again, while the operation has been waiting for a slow peer for long. When the
 * peer reads on, it gets a right beginning or all, exactly wire_bytes, and the other file or connection
 * nothing. Closed for good, an operation can be ended and the peer sees the end of the stream. */
#include "data_common.h"

#define LENGTH (6 * MIB)

static void one(snapsend_t *ctx, enum kind kind, bool socket, bool reused, uint32_t flags, int file, int other)
{
	int sv[2], decoy[2];
	struct snapsend_completion done;
	struct reader reader;
	if (!pair_of_kind(kind, sv, 128 * 1024))
		return;
	unix_pair(decoy);
	int number = (int)SYS(fcntl(socket ? sv[0] : file, F_DUPFD_CLOEXEC, 900));
	struct snapsend_request request = make_request(socket ? number : sv[0], socket ? file : number, 0, LENGTH);
	request.flags = flags;
	uint64_t id = submit_ok(ctx, &request);
	while (unread(sv[1]) == 0)
		usleep(100);
	sleep_ms(5);
	if (socket)
		close(sv[0]);
	if (reused)
		SYS(dup2(socket ? decoy[0] : other, number));
	else
		close(number);
	sleep_ms(5);
	reader_start_check(&reader, sv[1], socket ? UINT64_MAX : LENGTH, 0, 63);
	if (!socket)
		reader.want = UINT64_MAX;
	wait_done(ctx, id, &done);
	CHECK(done.status == 0 || done.status == -EBADF);
	if (!socket)
		SYS(shutdown(sv[0], SHUT_WR)); /* otherwise the end comes by itself */
	CHECK_UEQ(reader_join(&reader), done.wire_bytes);
	CHECK_EQ(done.status == 0, done.wire_bytes == LENGTH);
	expect_silence(decoy[1]);
	if (reused)
		close(number);
	if (!socket)
		close(sv[0]);
	close(sv[1]);
	close_pair(decoy);
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 63), other = temp_file(LENGTH, 64);
	for (int kind = 0; kind < KINDS; kind++)
		for (int i = 0; i < 12; i++)
			one(ctx, (enum kind)kind, i & 1, i & 2, flags[i / 4], file, other);
	destroy_ctx(ctx);
	return 0;
}
