/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* snapsend_send waits for the end and hands the completion to the caller alone. */
#include "common.h"

static void each(snapsend_t *ctx, int family)
{
	int sv[2];
	struct snapsend_completion completion;
	struct reader reader;
	if (!pair_sized(family, sv, 0, 0))
		return;
	uint64_t length = 20 * MIB;
	int file = temp_file(length, 1);
	for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
		if (nonblocking)
			set_nonblock(sv[0]);
		reader_init(&reader, sv[1], length); /* slow: it has to wait, on either kind of socket */
		reader.check = true;
		reader.seed = 1;
		reader.pause_us = 1000;
		reader_go(&reader);
		struct snapsend_request request = make_request(sv[0], file, 0, length);
		request.user_data = 99;
		request.flags = SNAPSEND_NOTIFY_SNAPSHOT; /* ignored: nothing of it comes through poll */
		memset(&completion, 0xaa, sizeof completion);
		CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
		CHECK_EQ(completion.status, 0);
		CHECK_UEQ(completion.event, SNAPSEND_EVENT_DONE);
		CHECK_UEQ(completion.user_data, 99);
		CHECK_UEQ(completion.wire_bytes, length);
		CHECK_UEQ(completion.file_bytes, length);
		reader_join(&reader);
		expect_nothing(ctx, 20);
		CHECK_EQ(!!(SYS(fcntl(sv[0], F_GETFL)) & O_NONBLOCK), nonblocking); /* the mode stays */
	}

	/* Failures of the operation are in the completion, not in the result. */
	struct snapsend_request request = make_request(sv[0], file, length - 10, 20);
	request.flags = SNAPSEND_EXACT;
	CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
	CHECK_EQ(completion.status, -ENODATA);
	CHECK_UEQ(completion.wire_bytes, 0);
	close(sv[0]);
	close(sv[1]);
	CHECK(pair_sized(family, sv, 65536, 65536));
	fill_socket(sv[0]);
	request = make_request(sv[0], file, 0, 1000);
	request.timeout_ms = 100;
	int64_t begin = now_ms();
	CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
	CHECK_EQ(completion.status, -ETIMEDOUT);
	CHECK_GE(now_ms() - begin, 99);
	CHECK_LE(now_ms() - begin, 5000);
	expect_nothing(ctx, 20);
	close(sv[0]);
	close(sv[1]);
	close(file);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	each(ctx, AF_INET);
	each(ctx, AF_INET6);
	each(ctx, AF_UNIX);
	destroy_ctx(ctx);
	return 0;
}
