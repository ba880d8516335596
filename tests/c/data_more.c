/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SNAPSEND_MORE: the kernel is told to wait for more, so two small answers share a segment; without it
 * each gets its own (the control). DONE does not wait for the rest. */
#include "data_common.h"

/* tcpi_data_segs_out, which the C library's struct tcp_info ends before. */
static uint32_t segments_out(int fd)
{
	unsigned char info[256];
	socklen_t length = sizeof info;
	uint32_t count;
	SYS(getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &length));
	if (length < 160)
		skip("the kernel does not count segments");
	memcpy(&count, info + 156, sizeof count);
	return count;
}

/* Two operations of 100 bytes; how many segments they took. */
static uint32_t two(snapsend_t *ctx, int file, uint32_t flags)
{
	int sv[2], one = 1;
	unsigned char got[200];
	struct snapsend_completion done;
	tcp_pair(sv);
	SYS(setsockopt(sv[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
	uint32_t before = segments_out(sv[0]);
	for (int i = 0; i < 2; i++) {
		struct snapsend_request request = make_request(sv[0], file, (uint64_t)i * 100, 100);
		request.flags = i == 0 ? flags : 0;
		wait_done_ms(ctx, submit_ok(ctx, &request), &done, 150);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.wire_bytes, 100);
	}
	CHECK_UEQ(read_all(sv[1], got, sizeof got), sizeof got);
	CHECK_UEQ(pattern_bad(got, 0, sizeof got, 13), SIZE_MAX);
	uint32_t after = segments_out(sv[0]);
	close_pair(sv);
	return after - before;
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(1000, 13);
	uint32_t with = 9;
	for (int tries = 0; tries < 5 && with != 1; tries++) /* a stall of 200 ms lets the first one go */
		with = two(ctx, file, SNAPSEND_MORE);
	CHECK_EQ(with, 1);
	for (int tries = 0; tries < 5; tries++)
		CHECK_EQ(two(ctx, file, 0), 2);
	two(ctx, file, SNAPSEND_MORE | SNAPSEND_EXACT);
	two(ctx, file, SNAPSEND_MORE | SNAPSEND_EAGER);
	destroy_ctx(ctx);
	return 0;
}
