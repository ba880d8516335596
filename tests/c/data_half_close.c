/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Half-closed connections. The peer that will send no more still gets everything. A side closed for sending
 * during the operation cuts it off, and the peer then has exactly wire_bytes. */
#include "data_common.h"

#define LENGTH (8 * MIB + 5)

/* The peer has closed its own direction: nothing changes. */
static void peer_sends_no_more(snapsend_t *ctx, enum kind kind, int file, const unsigned char *image)
{
	int sv[2];
	if (!pair_of_kind(kind, sv, 0))
		return;
	SYS(shutdown(sv[1], SHUT_WR));
	transfer_ok(ctx, sv, make_request(-1, file, 0, LENGTH), image, LENGTH);
	close_pair(sv);
}

/* The sending side (who 0) or, AF_UNIX only, the peer's reading side (who 1) is closed during the transfer. */
static void cut_off(snapsend_t *ctx, enum kind kind, int who, int file, const unsigned char *image, int round)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	int sv[2];
	struct snapsend_completion done;
	struct reader reader;
	if (!pair_of_kind(kind, sv, 128 * 1024))
		return;
	reader_init(&reader, sv[1], UINT64_MAX);
	reader.keep = true, reader.step = 32 * 1024, reader.pause_us = 100;
	if (who == 0)
		reader_go(&reader);
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = flags[round % 3];
	uint64_t id = submit_ok(ctx, &request);
	usleep((useconds_t)(rand() % 10000));
	SYS(shutdown(sv[who], who == 0 ? SHUT_WR : SHUT_RD));
	if (who == 1)
		reader_go(&reader); /* what it has in its queue can still be read, then the end */
	wait_done(ctx, id, &done);
	uint64_t got = reader_join(&reader);
	CHECK(done.status == -EPIPE || done.status == 0);
	CHECK_UEQ(done.wire_bytes, got);
	CHECK(memcmp(reader.data != NULL ? reader.data : image, image, got) == 0);
	CHECK_EQ(done.status == 0, got == LENGTH);
	reader_free(&reader);
	close_pair(sv);
}

/* TCP: what the kernel does with data for such a peer is its own affair; the operation must end. */
static void peer_reads_no_more(snapsend_t *ctx, int file)
{
	int sv[2];
	struct snapsend_completion done;
	tcp_pair(sv);
	SYS(shutdown(sv[1], SHUT_RD));
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.timeout_ms = 300;
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK(done.status == 0 || done.status == -ETIMEDOUT || done.status == -EPIPE || done.status == -ECONNRESET);
	CHECK_EQ(done.status == 0, done.wire_bytes == LENGTH);
	close_pair(sv);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 35);
	unsigned char *image = image_of(0, LENGTH, 35);
	srand(35);
	for (int kind = 0; kind < KINDS; kind++)
		peer_sends_no_more(ctx, (enum kind)kind, file, image);
	for (int round = 0; round < 60; round++) {
		doing("closed for sending");
		cut_off(ctx, (enum kind)(round % KINDS), 0, file, image, round / KINDS);
		doing("peer closed for reading");
		cut_off(ctx, UNIX, 1, file, image, round);
	}
	peer_reads_no_more(ctx, file);
	destroy_ctx(ctx);
	return 0;
}
