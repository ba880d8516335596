/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* ZEROCOPY with each call, to a peer on another machine that reads late: snapsend_send() and what snapsend_try_send()
 * does on the calling thread ignore it, so that the call does not wait for the acknowledgement; what the ring thread does
 * is lent, that of snapsend_submit_many() too. After each DONE the file changes, and no change arrives. */
#include "lent.h"

enum { MANY = 8 };

#define LENGTH (300 * KIB)

static struct network net;
static snapsend_t *ctx;
static unsigned char *image;
static int file, sv[2];

static void check_stream(size_t count, size_t length)
{
	unsigned char *got = malloc(length);
	CHECK(got != NULL);
	for (size_t i = 0; i < count; i++) {
		CHECK_UEQ(read_all(sv[1], got, length), length);
		CHECK_UEQ(count_different(got, image + i, length), 0);
	}
	free(got);
	file_put(file, 0, image, LENGTH + MANY);
}

/* The peer has read nothing yet when the call returns. */
static void calling_thread(struct snapsend_request request, enum call call)
{
	struct snapsend_completion done;
	uint64_t before = lent_bytes(ctx);
	request.length = call == CALL_SEND ? LENGTH : 32 * KIB;
	int result = call == CALL_SEND ? snapsend_send(ctx, &request, sizeof request, &done)
				       : snapsend_try_send(ctx, &request, sizeof request, &done);
	CHECK_EQ(result, call == CALL_SEND ? 0 : 1);
	CHECK_EQ(done.status, 0);
	file_spoil(file, 0, image, LENGTH);
	check_stream(1, request.length);
	CHECK_UEQ(lent_bytes(ctx), before);
}

static void many(struct snapsend_request request)
{
	struct snapsend_request requests[MANY];
	struct snapsend_completion done;
	uint64_t ids[MANY], before = lent_bytes(ctx);
	struct reader reader;
	for (size_t i = 0; i < MANY; i++) {
		requests[i] = request;
		requests[i].offset = i;
	}
	CHECK_EQ(snapsend_submit_many(ctx, requests, sizeof requests[0], MANY, ids), MANY);
	reader_start_keep(&reader, sv[1], MANY * LENGTH);
	for (size_t i = 0; i < MANY; i++) {
		wait_done(ctx, ids[i], &done);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.wire_bytes, LENGTH);
	}
	file_spoil(file, 0, image, LENGTH + MANY);
	reader_join(&reader);
	for (size_t i = 0; i < MANY; i++)
		CHECK_UEQ(count_different(reader.data + i * LENGTH, image + i, LENGTH), 0);
	reader_free(&reader);
	file_put(file, 0, image, LENGTH + MANY);
	CHECK_UGE(lent_bytes(ctx), before + MANY / 2 * LENGTH);
}

int main(void)
{
	time_limit(10);
	lending_network(&net);
	ctx = create_ctx();
	file = temp_file(LENGTH + MANY, 92);
	image = image_of(0, LENGTH + MANY, 92);
	warm(file, LENGTH + MANY);
	acquaint(ctx, file);
	connect_over(&net, PATH_VETH, 16 * KIB, sv);
	buffer_of(sv[0], MIB);
	struct snapsend_request request = lend_request(sv[0], file, 0, LENGTH);
	for (int i = 0; i < 2; i++) {
		doing(i == 0 ? "descriptors" : "registered");
		calling_thread(request, CALL_SEND);
		calling_thread(request, CALL_TRY_SEND);
		many(request);
		if (i == 0)
			request = registered(ctx, request);
	}
	unregister(ctx, &request);
	destroy_ctx(ctx);
	close_pair(sv);
	return 0;
}
