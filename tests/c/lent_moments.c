/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* ZEROCOPY to a peer on another machine that reads late: SENT comes when everything is in the socket, SNAPSHOT and
 * DONE only when the peer has acknowledged. What is written to the file in between arrives, because the pages
 * themselves are in the socket; what is written after DONE never does. */
#include "../torture/network.h"

enum { LENGTH = 256 * KIB, HEADER = 100, TRAILER = 50 };

struct variant {
	const char *name;
	bool registered, trailer;
};

static const struct variant variants[] = {
	{ "descriptors", false, false },
	{ "registered", true, false },
	{ "header and trailer", true, true },
};

static struct network net;
static int sv[2];
static snapsend_t *ctx;

static struct snapsend_request lend(const struct variant *variant, int file)
{
	static char header[HEADER], trailer[TRAILER];
	static struct iovec before = { header, sizeof header }, after = { trailer, sizeof trailer };
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = SNAPSEND_ZEROCOPY | SNAPSEND_NOTIFY_SENT | SNAPSEND_NOTIFY_SNAPSHOT;
	if (variant->registered) {
		request.socket_fd = snapsend_register_socket(ctx, sv[0], 0);
		request.file_fd = snapsend_register_file(ctx, file, 0);
		CHECK(request.socket_fd >= 0 && request.file_fd >= 0);
		request.flags |= SNAPSEND_REGISTERED_SOCKET | SNAPSEND_REGISTERED_FILE;
	}
	if (variant->trailer) {
		request.header = &before;
		request.trailer = &after;
		request.header_count = request.trailer_count = 1;
	}
	return request;
}

static void with(const struct variant *variant)
{
	struct snapsend_completion done;
	struct snapsend_stats stats;
	size_t extra = variant->trailer ? HEADER + TRAILER : 0, start = variant->trailer ? HEADER : 0;
	unsigned char *got = malloc(LENGTH + HEADER + TRAILER), *image;
	int size = 2 * LENGTH, file = temp_file(LENGTH, 71);
	CHECK(got != NULL);
	connect_over(&net, PATH_VETH, 16 * KIB, sv);
	SYS(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size));
	image = image_of(0, LENGTH, 71);
	CHECK_UEQ(cached_bytes(file, LENGTH), LENGTH);

	struct snapsend_request request = lend(variant, file);
	uint64_t id = submit_ok(ctx, &request);
	CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SENT, &done, WAIT_MS));
	CHECK_UEQ(done.wire_bytes, LENGTH + extra);
	expect_nothing(ctx, 100);
	file_spoil(file, 0, image, LENGTH); /* too early: the peer gets some of it */
	CHECK_UEQ(read_all(sv[1], got, LENGTH + extra), LENGTH + extra);
	CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &done, WAIT_MS));
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.flags, SNAPSEND_WAS_ZEROCOPY);
	CHECK_UGE(count_different(got + start, image, LENGTH), LENGTH / 4);

	file_put(file, 0, image, LENGTH);
	id = submit_ok(ctx, &request);
	CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SENT, &done, WAIT_MS));
	CHECK_UEQ(read_all(sv[1], got, LENGTH + extra), LENGTH + extra);
	CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &done, WAIT_MS));
	wait_done(ctx, id, &done);
	file_spoil(file, 0, image, LENGTH);
	CHECK_UEQ(count_different(got + start, image, LENGTH), 0);

	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	CHECK_UGE(stats.bytes_page_cache, 2 * LENGTH);
	CHECK_UEQ(stats.connections_reset, 0);
	if (variant->registered) {
		CHECK_UGE(stats.window_bytes, LENGTH);
		CHECK_EQ(snapsend_unregister_socket(ctx, request.socket_fd), 0);
		CHECK_EQ(snapsend_unregister_file(ctx, request.file_fd), 0);
	}
	free(image);
	free(got);
	close(file);
	close_pair(sv);
}

int main(void)
{
	zero_copy_network(&net);
	ctx = create_ctx();
	for (size_t i = 0; i < COUNT_OF(variants); i++) {
		doing(variants[i].name);
		with(&variants[i]);
	}
	destroy_ctx(ctx);
	return 0;
}
