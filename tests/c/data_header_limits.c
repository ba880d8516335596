/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* More than IOV_MAX pieces or more than 1 MiB of header and trailer: -EMSGSIZE, and nothing is sent. */
#include "data_common.h"

static struct iovec pieces[IOV_MAX + 1];
static unsigned char memory[MIB + 1];

static int try(snapsend_t *ctx, int fd, uint32_t head, uint32_t tail)
{
	struct snapsend_request request = make_request(fd, -1, 0, 0);
	uint64_t id = 0;
	request.header = head ? pieces : NULL, request.header_count = head;
	request.trailer = tail ? pieces : NULL, request.trailer_count = tail;
	int result = snapsend_submit(ctx, &request, sizeof request, &id);
	if (result == 0)
		wait_done(ctx, id, NULL);
	return result;
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int sv[2];
	tcp_pair(sv);
	for (size_t i = 0; i < COUNT_OF(pieces); i++)
		pieces[i] = (struct iovec){ memory, 1 };
	CHECK_ERR(try(ctx, sv[0], IOV_MAX + 1, 0), EMSGSIZE);
	CHECK_ERR(try(ctx, sv[0], 0, IOV_MAX + 1), EMSGSIZE);
	CHECK_ERR(try(ctx, sv[0], UINT32_MAX, 1), EMSGSIZE);
	pieces[0].iov_len = MIB + 1;
	CHECK_ERR(try(ctx, sv[0], 1, 0), EMSGSIZE);
	CHECK_ERR(try(ctx, sv[0], 0, 1), EMSGSIZE);
	pieces[0].iov_len = MIB / 2 + 1; /* both together */
	CHECK_ERR(try(ctx, sv[0], 1, 1), EMSGSIZE);
	pieces[0].iov_len = SIZE_MAX; /* with the one after it the sum wraps around */
	CHECK_ERR(try(ctx, sv[0], 2, 0), EMSGSIZE);
	CHECK_ERR(try(ctx, sv[0], 1, 2), EMSGSIZE);
	pieces[0].iov_len = (size_t)1 << 63;
	pieces[1].iov_len = (size_t)1 << 63;
	CHECK_ERR(try(ctx, sv[0], 2, 0), EMSGSIZE);
	expect_silence(sv[1]);

	pieces[0].iov_len = MIB - IOV_MAX + 1; /* exactly 1 MiB in IOV_MAX pieces is well */
	pieces[1].iov_len = 1;
	struct reader reader;
	reader_init(&reader, sv[1], MIB);
	reader_go(&reader);
	CHECK_EQ(try(ctx, sv[0], IOV_MAX, 0), 0);
	reader_join(&reader);
	destroy_ctx(ctx);
	return 0;
}
