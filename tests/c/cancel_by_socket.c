/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Cancel all operations on the socket that a descriptor refers to; how many there were. */
#include "common.h"

int main(void)
{
	int sv[2], other[2];
	uint64_t ids[6], stays;
	struct snapsend_completion completion;
	struct reader reader;
	snapsend_t *ctx = create_ctx();
	unix_pair(sv);
	tcp_pair(other);
	int file = temp_file(64 * MIB, 1);
	int twin = (int)SYS(dup(sv[0]));
	int closed = closed_fd();

	CHECK_EQ(snapsend_cancel_socket(ctx, sv[0]), 0);
	CHECK_ERR(snapsend_cancel_socket(ctx, file), ENOTSOCK);
	CHECK_ERR(snapsend_cancel_socket(ctx, closed), EBADF);
	CHECK_ERR(snapsend_cancel_socket(ctx, -1), EBADF);

	for (int round = 0; round < 3; round++) {
		struct snapsend_request request = make_request(other[0], file, 0, 64 * MIB);
		stays = round == 0 ? submit_ok(ctx, &request) : 0;
		uint64_t filled = fill_socket(sv[0]);
		/* Both descriptors are one socket. */
		for (int i = 0; i < 6; i++) {
			request = make_request(i & 1 ? twin : sv[0], file, 0, 1000);
			ids[i] = submit_ok(ctx, &request);
		}
		CHECK_EQ(snapsend_cancel_socket(ctx, sv[1]), 0); /* the other end is another socket */
		CHECK_EQ(snapsend_cancel_socket(ctx, round & 1 ? twin : sv[0]), 6);
		uint64_t wire = 0;
		for (int i = 0; i < 6; i++) {
			wait_done_ms(ctx, ids[i], &completion, 5000);
			CHECK_EQ(completion.status, -ECANCELED);
			wire += completion.wire_bytes;
		}
		CHECK_EQ(snapsend_cancel_socket(ctx, sv[0]), 0);
		expect_nothing(ctx, 20);
		CHECK_UEQ(drain(sv[1], 50), filled + wire);
		if (round == 0) { /* the other socket went on */
			reader_start_check(&reader, other[1], 64 * MIB, 0, 1);
			wait_done(ctx, stays, &completion);
			CHECK_EQ(completion.status, 0);
			reader_join(&reader);
		}
		close(sv[0]); /* a cut-off stream is of no more use */
		close(sv[1]);
		close(twin);
		unix_pair(sv);
		twin = (int)SYS(dup(sv[0]));
	}
	destroy_ctx(ctx);
	return 0;
}
