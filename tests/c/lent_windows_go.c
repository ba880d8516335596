/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* An operation that lends its file's pages fails with a window at hand, because the peer resets the connection. The
 * windows go with the file: the next file, which takes its place in the library's tables, arrives as it is. */
#include "../torture/network.h"

enum { LENGTH = 8 * MIB, TIMES = 20 };

static struct network net;
static snapsend_t *ctx;

static void lend(int socket, int file, uint64_t *id)
{
	struct snapsend_request request = make_request(socket, file, 0, LENGTH);
	request.flags = SNAPSEND_ZEROCOPY;
	*id = submit_ok(ctx, &request);
}

/* The peer takes a part and resets. */
static void fail_one(uint64_t seed)
{
	struct snapsend_completion done;
	uint64_t id;
	int sv[2], file = temp_file(LENGTH, seed);
	connect_over(&net, PATH_VETH, 64 * KIB, sv);
	lend(sv[0], file, &id);
	char byte;
	CHECK_EQ(recv(sv[1], &byte, 1, 0), 1);
	sleep_ms(10);
	reset_close(sv[1]);
	wait_done(ctx, id, &done);
	CHECK(done.status == -ECONNRESET || done.status == -EPIPE);
	CHECK_ULE(done.wire_bytes, LENGTH - 1);
	close(sv[0]);
	close(file);
}

static void send_another(uint64_t seed)
{
	struct snapsend_completion done;
	struct reader reader;
	uint64_t id;
	int sv[2], file = temp_file(LENGTH, seed);
	connect_over(&net, PATH_VETH, 0, sv);
	reader_start_check(&reader, sv[1], LENGTH, 0, seed);
	lend(sv[0], file, &id);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	close(sv[0]);
	reader_join(&reader);
	close(sv[1]);
	close(file);
}

int main(void)
{
	struct snapsend_stats stats;
	zero_copy_network(&net);
	ctx = create_ctx();
	for (uint64_t i = 0; i < TIMES; i++) {
		fail_one(100 + i);
		send_another(200 + i);
	}
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	CHECK_UGE(stats.bytes_page_cache, (uint64_t)TIMES * LENGTH);
	CHECK_UEQ(stats.window_bytes, 0);
	destroy_ctx(ctx);
	return 0;
}
