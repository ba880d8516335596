/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Headers and trailers: up to IOV_MAX entries each and 1 MiB of both together; past it -EMSGSIZE, told
 * before any of that memory is touched. */
#include "common.h"

static snapsend_t *ctx;
static int sv[2];

static void refused(const struct iovec *header, uint32_t headers, const struct iovec *trailer, uint32_t trailers)
{
	struct snapsend_request request = make_request(sv[0], -1, 0, 0);
	request.header = header;
	request.header_count = headers;
	request.trailer = trailer;
	request.trailer_count = trailers;
	CHECK_EQ(rejected(ctx, &request), EMSGSIZE);
}

static void accepted(const struct iovec *header, uint32_t headers, const struct iovec *trailer, uint32_t trailers,
		     uint64_t wire)
{
	struct snapsend_request request = make_request(sv[0], -1, 0, 0);
	struct snapsend_completion completion;
	struct reader reader;
	request.header = header;
	request.header_count = headers;
	request.trailer = trailer;
	request.trailer_count = trailers;
	reader_start_check(&reader, sv[1], wire, 0, 3);
	wait_done(ctx, submit_ok(ctx, &request), &completion);
	CHECK_EQ(completion.status, 0);
	CHECK_UEQ(completion.wire_bytes, wire);
	CHECK_UEQ(completion.file_bytes, 0);
	reader_join(&reader);
}

int main(void)
{
	static struct iovec many[IOV_MAX + 1], more[IOV_MAX];
	ctx = create_ctx();
	unix_pair(sv);
	unsigned char *memory = malloc(MIB);
	CHECK(memory != NULL);
	pattern_fill(memory, 0, MIB, 3);

	for (size_t i = 0; i <= IOV_MAX; i++)
		many[i] = (struct iovec){ memory + i * 7, 7 };
	for (size_t i = 0; i < IOV_MAX; i++)
		more[i] = (struct iovec){ memory + (IOV_MAX + i) * 7, 7 };
	accepted(many, IOV_MAX, NULL, 0, IOV_MAX * 7);
	accepted(NULL, 0, many, IOV_MAX, IOV_MAX * 7);
	accepted(many, IOV_MAX, more, IOV_MAX, 2 * IOV_MAX * 7);
	refused(many, IOV_MAX + 1, NULL, 0);
	refused(NULL, 0, many, IOV_MAX + 1);
	refused(many, UINT32_MAX, NULL, 0); /* an array that long is not there */
	refused(many, 1, many, UINT32_MAX);

	struct iovec all = { memory, MIB }, half = { memory, MIB / 2 }, rest = { memory + MIB / 2, MIB / 2 };
	accepted(&all, 1, NULL, 0, MIB);
	accepted(NULL, 0, &all, 1, MIB);
	accepted(&half, 1, &rest, 1, MIB);
	struct iovec one_more = { memory, MIB + 1 }, half_more = { memory, MIB / 2 + 1 }, single = { memory, 1 };
	refused(&one_more, 1, NULL, 0);
	refused(NULL, 0, &one_more, 1);
	refused(&half, 1, &half_more, 1);
	refused(&all, 1, &single, 1);

	/* Sums that do not fit into a size_t. */
	struct iovec wrap[3] = { { memory, SIZE_MAX }, { memory, 2 }, { memory, 10 } };
	refused(wrap, 2, NULL, 0);
	refused(NULL, 0, wrap, 3);
	refused(wrap, 1, wrap, 2);
	struct iovec around[3] = { { memory, 10 }, { memory, SIZE_MAX - 5 }, { memory, 1 } }; /* comes out as 5 */
	refused(around, 2, NULL, 0);
	refused(NULL, 0, around, 3);
	refused(around, 1, around + 1, 1);
	struct iovec halves[2] = { { memory, SIZE_MAX / 2 + 1 }, { memory, SIZE_MAX / 2 + 1 } };
	refused(halves, 2, NULL, 0);
	refused(halves, 1, halves, 1);

	expect_nothing(ctx, 20);
	CHECK_UEQ(drain(sv[1], 20), 0);
	destroy_ctx(ctx);
	free(memory);
	return 0;
}
