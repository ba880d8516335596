/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Files that cannot change and files that can, one behind the other on one socket whose peer reads late: they go out
 * whole and in the order submitted, with header, trailer, zeros and MORE, by number and by handle. Over each kind of
 * socket and MPTCP, with tiny buffers, blocking and not. */
#include "frozen.h"

#define LENGTH (300 * KIB + 7)
#define COUNT  24
#define WRAP   30000 /* more than a tiny socket takes at once */

enum { FROZEN, OTHER, FILES };

static snapsend_t *ctx;
static unsigned char *images[FILES];
static int files[FILES], handles[FILES];

/* What the peer is to get. */
static unsigned char stream[COUNT * (LENGTH + 3 * WRAP)];
static size_t expected;

static void expect(const void *data, size_t length)
{
	memcpy(stream + expected, data, length);
	expected += length;
}

static uint64_t submit_one(int socket, int i, uint64_t *wire)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_ZERO_PAD, SNAPSEND_MORE };
	static unsigned char head[WRAP], tail[WRAP];
	size_t wrapped = 1 + (size_t)rand() % WRAP;
	struct iovec wrap[2] = { { head, wrapped }, { tail, wrapped } };
	int which = rand() % 3 == 0 ? OTHER : FROZEN;
	size_t offset = (size_t)rand() % (LENGTH / 2), length = (size_t)rand() % (LENGTH - offset), begin = expected;
	struct snapsend_request request = make_request(socket, files[which], offset, length);
	request.flags = flags[rand() % (int)COUNT_OF(flags)];
	memset(head, i, WRAP);
	memset(tail, ~i, WRAP);
	if (rand() % 3 == 0) {
		request.file_fd = handles[which];
		request.flags |= SNAPSEND_REGISTERED_FILE;
	}
	if (rand() % 3 == 0) {
		request.header = &wrap[0], request.header_count = 1;
		expect(head, wrapped);
	}
	if (rand() % 4 == 0 && !(request.flags & SNAPSEND_ZERO_PAD)) {
		request.length = SNAPSEND_TO_EOF;
		length = LENGTH - offset;
	}
	expect(images[which] + offset, length);
	if (request.flags & SNAPSEND_ZERO_PAD) {
		static const unsigned char zeros[WRAP];
		request.length = LENGTH - offset + WRAP;
		expect(images[which] + offset + length, LENGTH - offset - length);
		expect(zeros, WRAP);
	}
	if (rand() % 3 == 0) {
		request.trailer = &wrap[1], request.trailer_count = 1;
		expect(tail, wrapped);
	}
	*wire = expected - begin;
	return submit_ok(ctx, &request);
}

static void in_order(int sv[2])
{
	uint64_t ids[COUNT], wire[COUNT];
	struct snapsend_completion done;
	struct reader reader;
	expected = 0;
	for (int i = 0; i < COUNT; i++)
		ids[i] = submit_one(sv[0], i, &wire[i]);
	sleep_ms(20); /* the socket is full */
	reader_start_keep(&reader, sv[1], expected);
	for (int i = 0; i < COUNT; i++) {
		wait_done(ctx, ids[i], &done);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.wire_bytes, wire[i]);
	}
	CHECK_EQ(send(sv[0], "", 0, 0), 0); /* ends what the last one may have announced */
	reader_join(&reader);
	CHECK_UEQ(count_different(reader.data, stream, expected), 0);
	CHECK_EQ(unread(sv[1]), 0);
	reader_free(&reader);
}

static bool connected(int kind, int sv[2])
{
	return kind < KINDS ? pair_of_kind((enum kind)kind, sv, 0) : pair_of_protocol(IPPROTO_MPTCP, sv);
}

static void over(int kind, bool is_tiny, bool is_blocking)
{
	char what[100];
	int sv[2], size = 1;
	if (!connected(kind, sv)) {
		printf("not tested: %s\n", kind < KINDS ? kind_name[kind] : "MPTCP");
		return;
	}
	snprintf(what, sizeof what, "%s%s%s", kind < KINDS ? kind_name[kind] : "MPTCP", is_tiny ? ", tiny" : "",
		 is_blocking ? ", blocking" : "");
	doing(what);
	if (is_tiny)
		SYS(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
	if (!is_blocking)
		set_nonblock(sv[0]);
	uint64_t before = frozen_bytes(ctx);
	int64_t begin = now_ms();
	for (int i = 0; i < (is_tiny ? 1 : 3); i++)
		in_order(sv);
	uint64_t sent = frozen_bytes(ctx) - before;
	printf("%s: %" PRIu64 " bytes by reference, %d ms\n", what, sent, (int)(now_ms() - begin));
	if (is_blocking)
		CHECK_UEQ(sent, 0);
	else
		CHECK_UGE(sent, LENGTH);
	doing("");
	close_pair(sv);
}

int main(void)
{
	ctx = create_ctx();
	srand(19);
	for (int i = 0; i < FILES; i++) {
		files[i] = memory_file(LENGTH, (uint64_t)i + 31);
		images[i] = image_of(0, LENGTH, (uint64_t)i + 31);
	}
	seal(files[FROZEN], SEALS);
	for (int i = 0; i < FILES; i++) {
		handles[i] = snapsend_register_file(ctx, files[i], 0);
		CHECK_GT(handles[i], 0);
		(void)by_reference(ctx, files[i], images[i], LENGTH);
	}
	int descriptors = count_fds();
	for (int kind = 0; kind <= KINDS; kind++)
		for (int i = 0; i < 4; i++)
			over(kind, i % 2, i / 2);
	CHECK_EQ(count_fds(), descriptors); /* no pipe, nor anything else, is left in the process */
	for (int i = 0; i < FILES; i++) {
		free(images[i]);
		close(files[i]);
	}
	destroy_ctx(ctx);
	return 0;
}
