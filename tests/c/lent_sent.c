/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* What a server does after SENT, while pages are still lent: it sends other data, shuts the socket down for writing, or
 * closes it. The peer gets everything in order and the end of the stream. If it does not read, and the operation is
 * cancelled, the connection is reset although it was shut down, and no later change of the file arrives. */
#include "lent.h"

#define LENGTH (256 * KIB)

enum after { SENDS, SHUTS_DOWN, CLOSES, PEER_SHUTS_DOWN, AFTERS };
static const char *const after_name[AFTERS] = { "sends", "shuts down", "closes", "shuts down after the peer" };
static const char MORE_DATA[] = "other data";

struct connection {
	enum after after;
	bool reads;
	int sv[2];
	uint64_t id;
	struct reader reader;
};

static struct network net;
static snapsend_t *ctx;
static unsigned char *image;
static int file;

static void begin(struct connection *c)
{
	struct snapsend_completion sent;
	connect_over(&net, PATH_VETH, 16 * KIB, c->sv);
	buffer_of(c->sv[0], MIB);
	struct snapsend_request request = lend_request(c->sv[0], file, 0, LENGTH);
	request.flags |= SNAPSEND_NOTIFY_SENT;
	c->id = submit_ok(ctx, &request);
	CHECK(wait_event(ctx, c->id, SNAPSEND_EVENT_SENT, &sent, WAIT_MS));
	switch (c->after) {
	case SENDS: CHECK_EQ(send(c->sv[0], MORE_DATA, sizeof MORE_DATA, MSG_DONTWAIT), sizeof MORE_DATA); break;
	case PEER_SHUTS_DOWN: SYS(shutdown(c->sv[1], SHUT_WR)); /* fall through */
	case SHUTS_DOWN: SYS(shutdown(c->sv[0], SHUT_WR)); break;
	default: close(c->sv[0]);
	}
}

static void check_read(struct connection *c)
{
	struct snapsend_completion done;
	wait_done(ctx, c->id, &done);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, LENGTH);
	if (c->after == SENDS)
		SYS(shutdown(c->sv[0], SHUT_WR));
	size_t more = c->after == SENDS ? sizeof MORE_DATA : 0;
	CHECK_UEQ(reader_join(&c->reader), LENGTH + more);
	CHECK(c->reader.eof);
	CHECK_UEQ(count_different(c->reader.data, image, LENGTH), 0);
	CHECK(memcmp(c->reader.data + LENGTH, MORE_DATA, more) == 0);
	reader_free(&c->reader);
}

static void check_cancelled(struct connection *c)
{
	static unsigned char got[LENGTH + 1];
	int error;
	size_t n = read_to_end(c->sv[1], got, sizeof got, &error);
	CHECK_UEQ(count_different(got, image, n), 0);
	CHECK_ULE(n, LENGTH - 1);
	CHECK_EQ(error, ECONNRESET);
}

int main(void)
{
	static struct connection connections[2 * AFTERS];
	struct snapsend_completion done;
	lending_network(&net);
	ctx = create_ctx();
	file = temp_file(LENGTH, 102);
	image = image_of(0, LENGTH, 102);
	warm(file, LENGTH);
	acquaint(ctx, file);
	for (int i = 0; i < 2 * AFTERS; i++) {
		struct connection *c = &connections[i];
		c->after = (enum after)(i / 2), c->reads = i % 2;
		doing(after_name[c->after]);
		begin(c);
	}
	sleep_ms(50);
	int64_t began = now_ms();
	for (int i = 0; i < 2 * AFTERS; i++) {
		if (connections[i].reads)
			reader_start_keep(&connections[i].reader, connections[i].sv[1], UINT64_MAX);
		else
			CHECK_EQ(snapsend_cancel(ctx, connections[i].id), 0);
	}
	for (int i = 0; i < 2 * AFTERS; i += 2) {
		doing(after_name[connections[i].after]);
		wait_done(ctx, connections[i].id, &done);
		CHECK_EQ(done.status, -ECANCELED);
		CHECK_UEQ(done.wire_bytes, LENGTH);
		check_read(&connections[i + 1]);
	}
	CHECK_LT(now_ms() - began, 3000 * slowness());
	file_spoil(file, 0, image, LENGTH);
	for (int i = 0; i < 2 * AFTERS; i += 2) {
		doing(after_name[connections[i].after]);
		check_cancelled(&connections[i]);
	}
	CHECK_UEQ(stats_of(ctx).connections_reset, AFTERS);
	destroy_ctx(ctx);
	return 0;
}
