/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Many short operations on one socket, whose lent pages go out several at a time, ended early: some are whole in the
 * socket, one in part, the rest has not begun. Each has its exact wire_bytes, and the peer has each byte as it was. */
#include "lent.h"

enum { OPERATIONS = 48, EDGE = 100 };

#define LENGTH(i) (40 * KIB + 1000 * ((i) % 7) + (i)) /* of operation i, which begins at byte i of the file */
#define LONGEST   (50 * KIB)

enum what { CANCEL_ALL, CANCEL_FIRST, CANCEL_ALL_READ, READ, WHATS };
static const char *const what_name[WHATS] = { "cancel_socket", "cancel", "cancel_socket, the peer reads",
					      "the peer reads" };

struct stream {
	enum what what;
	bool wrapped; /* with header and trailer */
	int sv[2];
	struct snapsend_request request;
	uint64_t ids[OPERATIONS], sent;
	struct snapsend_completion done[OPERATIONS];
	unsigned char *bytes; /* what the peer is to get */
	size_t length;
};

static struct network net;
static unsigned char *image, edge[EDGE];
static int file;

static size_t edges(const struct stream *s)
{
	return s->wrapped ? EDGE : 0;
}

static void expect_bytes(struct stream *s, const unsigned char *bytes, size_t length)
{
	memcpy(s->bytes + s->length, bytes, length);
	s->length += length;
}

static void begin(snapsend_t *ctx, struct stream *s, enum what what, bool wrapped)
{
	static struct iovec piece = { edge, EDGE };
	s->what = what, s->wrapped = wrapped;
	s->bytes = malloc(OPERATIONS * (LONGEST + 2 * EDGE));
	CHECK(s->bytes != NULL);
	connect_over(&net, PATH_VETH, 16 * KIB, s->sv);
	buffer_of(s->sv[0], 512 * KIB);
	s->request = registered(ctx, lend_request(s->sv[0], file, 0, 0));
	struct snapsend_request request = s->request;
	if (wrapped) {
		request.header = request.trailer = &piece;
		request.header_count = request.trailer_count = 1;
	}
	for (size_t i = 0; i < OPERATIONS; i++) {
		request.offset = i, request.length = LENGTH(i);
		s->ids[i] = submit_ok(ctx, &request);
		expect_bytes(s, edge, edges(s));
		expect_bytes(s, image + i, LENGTH(i));
		expect_bytes(s, edge, edges(s));
	}
}

static void settle(struct stream *streams, size_t count)
{
	for (int quiet = 0; quiet < 5; quiet++) {
		sleep_ms(10);
		for (size_t i = 0; i < count; i++) {
			uint64_t before = streams[i].sent;
			streams[i].sent = in_transit(streams[i].sv);
			quiet = streams[i].sent == before ? quiet : -1;
		}
	}
	for (size_t i = 0; i < count; i++) {
		CHECK_UGE(streams[i].sent, 200 * KIB);
		CHECK_ULE(streams[i].sent, streams[i].length - 1);
	}
}

static void end(snapsend_t *ctx, const struct stream *s)
{
	if (s->what == CANCEL_ALL || s->what == CANCEL_ALL_READ)
		CHECK_EQ(snapsend_cancel_socket(ctx, s->sv[0]), OPERATIONS);
	if (s->what == CANCEL_FIRST)
		CHECK_EQ(snapsend_cancel(ctx, s->ids[0]), 0);
}

/* Whole ones, then one that was cut off or none, then those that have not begun. */
static void check_done(const struct stream *s)
{
	uint64_t sum = 0;
	bool cut = false;
	for (size_t i = 0; i < OPERATIONS; i++) {
		const struct snapsend_completion *done = &s->done[i];
		bool whole = done->wire_bytes == LENGTH(i) + 2 * edges(s);
		CHECK(!cut || done->wire_bytes == 0);
		if (s->what == READ || (s->what == CANCEL_ALL_READ && whole))
			CHECK_EQ(done->status, 0);
		else
			CHECK_LT(done->status, 0);
		if (s->what == CANCEL_ALL)
			CHECK_EQ(done->status, -ECANCELED);
		CHECK(whole || s->what != READ);
		cut |= !whole;
		sum += done->wire_bytes;
	}
	CHECK_UEQ(sum, s->what == READ ? s->length : s->sent);
}

static void check_peer(struct stream *s, struct reader *reader)
{
	unsigned char *got = malloc(s->length + 1);
	int error = 0;
	CHECK(got != NULL);
	if (s->what == READ || s->what == CANCEL_ALL_READ) {
		SYS(shutdown(s->sv[0], SHUT_WR));
		size_t n = reader_join(reader);
		CHECK(reader->eof);
		CHECK_UEQ(n, s->what == READ ? s->length : s->sent);
		CHECK_UEQ(count_different(reader->data, s->bytes, n), 0);
		reader_free(reader);
	} else {
		size_t n = read_to_end(s->sv[1], got, s->length + 1, &error);
		CHECK_UEQ(count_different(got, s->bytes, n), 0);
		CHECK_EQ(error, ECONNRESET);
	}
	free(got);
	free(s->bytes);
	close_pair(s->sv);
}

int main(void)
{
	static struct stream streams[2 * WHATS];
	static struct reader readers[2 * WHATS];
	lending_network(&net);
	snapsend_t *ctx = create_ctx();
	file = temp_file(LONGEST, 100);
	image = image_of(0, LONGEST, 100);
	memset(edge, 'E', EDGE);
	warm(file, LONGEST);
	acquaint(ctx, file);
	for (int i = 0; i < 2 * WHATS; i++)
		begin(ctx, &streams[i], (enum what)(i / 2), i % 2);
	settle(streams, 2 * WHATS);
	for (int i = 0; i < 2 * WHATS; i++) {
		end(ctx, &streams[i]);
		if (streams[i].what == READ || streams[i].what == CANCEL_ALL_READ)
			reader_start_keep(&readers[i], streams[i].sv[1], UINT64_MAX);
	}
	for (int i = 0; i < 2 * WHATS; i++) {
		doing(what_name[i / 2]);
		for (size_t k = 0; k < OPERATIONS; k++)
			wait_done(ctx, streams[i].ids[k], &streams[i].done[k]);
		check_done(&streams[i]);
	}
	file_spoil(file, 0, image, LONGEST);
	for (int i = 0; i < 2 * WHATS; i++) {
		doing(what_name[i / 2]);
		check_peer(&streams[i], &readers[i]);
		unregister(ctx, &streams[i].request);
	}
	CHECK_UEQ(stats_of(ctx).connections_reset, 4);
	CHECK_UGE(lent_bytes(ctx), MIB);
	destroy_ctx(ctx);
	return 0;
}
