/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ZERO_PAD: a short file is filled up with zeros, which count as file_bytes; the flag says so only then. */
#include "data_common.h"

#define FILE_LENGTH 10000

static void one(snapsend_t *ctx, int sv[2], int file, uint64_t offset, size_t length, uint32_t flags)
{
	struct iovec head = { (char[]){ "HEAD" }, 4 }, tail = { (char[]){ "TAIL" }, 4 };
	unsigned char *want = calloc(1, length + 8);
	CHECK(want != NULL);
	size_t there = offset >= FILE_LENGTH ? 0 : FILE_LENGTH - offset < length ? FILE_LENGTH - offset : length;
	memcpy(want, "HEAD", 4);
	pattern_fill(want + 4, offset, there, 23);
	memcpy(want + 4 + length, "TAIL", 4);
	struct snapsend_request request = make_request(-1, file, offset, length);
	request.flags = flags | SNAPSEND_ZERO_PAD;
	struct snapsend_completion done = transfer_ok(ctx, sv, request, want + 4, length);
	CHECK_UEQ(done.file_bytes, length);
	CHECK_EQ((done.flags & SNAPSEND_WAS_PADDED) != 0, there < length);
	request.header = &head, request.trailer = &tail;
	request.header_count = request.trailer_count = 1;
	done = transfer_ok(ctx, sv, request, want, length + 8);
	CHECK_UEQ(done.file_bytes, length);
	CHECK_EQ((done.flags & SNAPSEND_WAS_PADDED) != 0, there < length);
	free(want);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(FILE_LENGTH, 23), sv[2];
	uint64_t id;
	for (int kind = 0; kind < KINDS; kind++) {
		if (!pair_of_kind((enum kind)kind, sv, 0))
			continue;
		for (unsigned i = 0; i < 2; i++) {
			uint32_t flags = i ? SNAPSEND_EAGER : 0;
			one(ctx, sv, file, 0, FILE_LENGTH, flags);
			one(ctx, sv, file, 0, FILE_LENGTH + 1, flags);
			one(ctx, sv, file, 5000, 100000, flags);
			one(ctx, sv, file, 8191, 3 * MIB, flags);
			one(ctx, sv, file, FILE_LENGTH, 5000, flags);
			one(ctx, sv, file, 1 << 30, 70000, flags);
		}
		close_pair(sv);
	}
	tcp_pair(sv);
	struct snapsend_request request = make_request(sv[0], file, 0, 100);
	request.flags = SNAPSEND_ZERO_PAD | SNAPSEND_EXACT;
	CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, &id), EINVAL);
	request.flags = SNAPSEND_ZERO_PAD;
	request.length = SNAPSEND_TO_EOF;
	CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, &id), EINVAL);
	destroy_ctx(ctx);
	return 0;
}
