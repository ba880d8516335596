/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A file that is cut while its pages are lent to the socket: the operation ends with -ENODATA, or with padding where
 * ZERO_PAD asks for it, and never passes for whole, nor, with TO_EOF, for one that ended at the cut. What lay below the cut arrives as it was; above it the peer gets
 * what the file had there, or zeros. Cut with all of the range in the socket or with a part, and after DONE. */
#include "lent.h"

#define SHORT  (256 * KIB)
#define LONG   (4 * MIB)
#define ROUNDS 24

enum range { WHOLE, PART, TO_EOF_WHOLE, TO_EOF_PART, RANGES };
static const char *const range_name[RANGES] = { "whole", "part", "TO_EOF, whole", "TO_EOF, part" };

static struct network net;
static snapsend_t *ctx;
static unsigned char *image;
static int file;

static bool is_part(enum range range)
{
	return range == PART || range == TO_EOF_PART;
}

static struct snapsend_request request_of(enum range range, int socket, uint32_t flags)
{
	struct snapsend_request request = lend_request(socket, file, 0, is_part(range) ? LONG : SHORT);
	if (range == TO_EOF_WHOLE || range == TO_EOF_PART) {
		request.offset = LONG - request.length;
		request.length = SNAPSEND_TO_EOF;
	}
	request.flags |= flags;
	return request;
}

/* Below the cut as it was; above it as it was, or zeros. */
static void check_bytes(const unsigned char *got, uint64_t offset, size_t length, size_t cut)
{
	for (size_t i = 0; i < length; i++)
		if (got[i] != image[offset + i] && (offset + i < cut || got[i] != 0))
			fail("byte %zu of %zu from %llu, cut at %zu: %02x, the file had %02x", i, length,
			     (unsigned long long)offset, cut, got[i], image[offset + i]);
}

/* The bytes that the peer gets before the stream ends, after the DONE. */
static void finish(int sv[2], struct reader *reader, const struct snapsend_completion *done,
		   const struct snapsend_request *request, size_t cut)
{
	SYS(shutdown(sv[0], SHUT_WR));
	size_t got = reader_join(reader);
	CHECK_UEQ(got, done->wire_bytes);
	check_bytes(reader->data, request->offset, got, cut);
	reader_free(reader);
	close_pair(sv);
}

static void cut_during(enum range range, uint32_t flags, bool below)
{
	struct snapsend_completion done;
	struct reader reader;
	int sv[2];
	bool pads = flags & SNAPSEND_ZERO_PAD;
	file_put(file, 0, image, LONG);
	connect_over(&net, PATH_VETH, 16 * KIB, sv);
	buffer_of(sv[0], 512 * KIB);
	struct snapsend_request request = request_of(range, sv[0], flags);
	uint64_t id = submit_ok(ctx, &request), length = is_part(range) ? LONG : SHORT;
	while (in_transit(sv) < SHORT)
		sleep_ms(1);
	sleep_ms(20);
	size_t cut = (size_t)request.offset + (below ? 100 * KIB + 123 : length - 777);
	SYS(ftruncate(file, (off_t)cut));
	reader_start_keep(&reader, sv[1], UINT64_MAX);
	wait_done(ctx, id, &done);
	/* Of TO_EOF nothing beyond the cut may have been sent yet. */
	bool ends_early = range == TO_EOF_PART && !below && done.status == 0;
	CHECK_EQ(done.status, pads || ends_early ? 0 : -ENODATA);
	CHECK_EQ((done.flags & SNAPSEND_WAS_PADDED) != 0, pads);
	CHECK(done.flags & SNAPSEND_WAS_ZEROCOPY);
	if (ends_early)
		CHECK_UEQ(done.wire_bytes, cut - request.offset);
	else if (pads || !is_part(range))
		CHECK_UEQ(done.wire_bytes, length);
	finish(sv, &reader, &done, &request, cut);
}

/* The peer has acknowledged, and has not read. */
static void cut_after(void)
{
	static unsigned char got[SHORT];
	struct snapsend_completion done;
	int sv[2];
	file_put(file, 0, image, LONG);
	connect_over(&net, PATH_VETH, 4 * MIB, sv);
	buffer_of(sv[0], 512 * KIB);
	struct snapsend_request request = request_of(WHOLE, sv[0], 0);
	uint64_t lent = lent_bytes(ctx);
	wait_done(ctx, submit_ok(ctx, &request), &done);
	SYS(ftruncate(file, 0));
	CHECK_EQ(done.status, 0);
	CHECK_UGE(lent_bytes(ctx), lent + SHORT);
	CHECK_UEQ(read_all(sv[1], got, SHORT), SHORT);
	CHECK_UEQ(count_different(got, image, SHORT), 0);
	close_pair(sv);
}

/* Whole is only what was not cut. */
static void cut_at_random(int round, int outcomes[2])
{
	struct snapsend_completion done;
	struct reader reader;
	int sv[2];
	file_put(file, 0, image, LONG);
	connect_over(&net, PATH_VETH, 0, sv);
	struct snapsend_request request = request_of(round % 2 ? PART : TO_EOF_PART, sv[0], 0);
	reader_start_slow(&reader, sv[1], 30);
	uint64_t id = submit_ok(ctx, &request);
	size_t cut = truncate_at_random(file, LONG);
	wait_done(ctx, id, &done);
	CHECK(done.status == 0 || done.status == -ENODATA);
	outcomes[done.status == 0]++;
	if (done.status == 0 && done.wire_bytes == LONG)
		cut = LONG;
	else if (done.status == 0)
		CHECK(request.length == SNAPSEND_TO_EOF && done.wire_bytes <= cut);
	finish(sv, &reader, &done, &request, cut);
}

/* What is appended meanwhile is not sent; the next operation has it. */
static void grown(void)
{
	struct snapsend_completion done;
	struct reader reader;
	int sv[2];
	SYS(ftruncate(file, 0));
	file_put(file, 0, image, SHORT + 1000);
	connect_over(&net, PATH_VETH, 16 * KIB, sv);
	buffer_of(sv[0], 2 * LONG);
	struct snapsend_request request = lend_request(sv[0], file, 0, SNAPSEND_TO_EOF);
	struct snapsend_request handles = registered(ctx, request);
	uint64_t id = submit_ok(ctx, &handles), lent = lent_bytes(ctx);
	while (in_transit(sv) < SHORT + 1000)
		sleep_ms(1);
	file_put(file, SHORT + 1000, image + SHORT + 1000, LONG - SHORT - 1000);
	uint64_t next = submit_ok(ctx, &handles);
	reader_start_keep(&reader, sv[1], SHORT + 1000 + LONG);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, SHORT + 1000);
	wait_done(ctx, next, &done);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, LONG);
	reader_join(&reader);
	CHECK_UEQ(count_different(reader.data, image, SHORT + 1000), 0);
	CHECK_UEQ(count_different(reader.data + SHORT + 1000, image, LONG), 0);
	CHECK_UGE(lent_bytes(ctx), lent + SHORT);
	unregister(ctx, &handles);
	reader_free(&reader);
	close_pair(sv);
}

int main(void)
{
	int outcomes[2] = { 0, 0 };
	lending_network(&net);
	ctx = create_ctx();
	image = image_of(0, LONG, 94);
	file = temp_file(LONG, 94);
	acquaint(ctx, file);
	for (enum range range = 0; range < RANGES; range++) {
		doing(range_name[range]);
		cut_during(range, 0, true);
		cut_during(range, 0, false);
		if (range == WHOLE || range == PART) {
			cut_during(range, SNAPSEND_ZERO_PAD, true);
			cut_during(range, SNAPSEND_ZERO_PAD, false);
		}
	}
	doing("after DONE");
	cut_after();
	doing("at random");
	srand(94);
	for (int round = 0; round < ROUNDS; round++)
		cut_at_random(round, outcomes);
	printf("%d cut off, %d whole\n", outcomes[0], outcomes[1]);
	CHECK_GT(outcomes[0], 0);
	doing("grown");
	grown();
	CHECK_UEQ(stats_of(ctx).connections_reset, 0);
	destroy_ctx(ctx);
	return 0;
}
