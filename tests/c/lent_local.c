/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ZEROCOPY to peers on this machine, and on the portable engine: the operation goes as without the flag, nothing is
 * sent from the page cache, and SENT, SNAPSHOT and DONE come once each, DONE last; SENT when all bytes are in the
 * socket. With EAGER or EXACT the flag is refused. */
#include "lent.h"

enum { LENGTH = MIB + 7, EDGE = 1001, EVENTS = 3 };

struct variant {
	bool registered, wrapped;
	uint32_t flags;
};

static const struct variant variants[] = {
	{ false, false, 0 },
	{ true, false, 0 },
	{ false, true, 0 },
	{ true, true, SNAPSEND_MORE },
	{ false, true, SNAPSEND_NOTIFY_SNAPSHOT },
	{ true, false, SNAPSEND_NOTIFY_SENT },
	{ true, true, SNAPSEND_NOTIFY_SENT | SNAPSEND_NOTIFY_SNAPSHOT },
	{ false, false, SNAPSEND_NOTIFY_SENT | SNAPSEND_NOTIFY_SNAPSHOT },
};

static snapsend_t *ctx;
static unsigned char *image, edge[EDGE];
static int file;

static struct snapsend_request request_of(const struct variant *variant, int socket, uint64_t length)
{
	static struct iovec wrap = { edge, EDGE };
	struct snapsend_request request = lend_request(socket, file, 3, length);
	request.flags |= variant->flags;
	if (variant->registered)
		request = registered(ctx, request);
	if (variant->wrapped) {
		request.header = request.trailer = &wrap;
		request.header_count = request.trailer_count = 1;
	}
	return request;
}

static bool is_asked_for(uint32_t event, uint32_t flags)
{
	switch (event) {
	case SNAPSEND_EVENT_SENT: return flags & SNAPSEND_NOTIFY_SENT;
	case SNAPSEND_EVENT_SNAPSHOT: return flags & SNAPSEND_NOTIFY_SNAPSHOT;
	default: return event == SNAPSEND_EVENT_DONE;
	}
}

/* Takes what comes until DONE. */
static void take_events(uint64_t id, uint32_t flags, size_t total)
{
	struct snapsend_completion one;
	bool seen[EVENTS] = { false };
	while (!seen[SNAPSEND_EVENT_DONE]) {
		CHECK_EQ(snapsend_poll(ctx, &one, 1, WAIT_MS), 1);
		CHECK_UEQ(one.id, id);
		CHECK(is_asked_for(one.event, flags) && !seen[one.event]);
		seen[one.event] = true;
		CHECK_EQ(one.status, 0);
		if (one.event != SNAPSEND_EVENT_SNAPSHOT)
			CHECK_UEQ(one.wire_bytes, total);
	}
	CHECK_EQ(one.flags & SNAPSEND_WAS_ZEROCOPY, 0);
	for (uint32_t event = 0; event < EVENTS; event++)
		CHECK_EQ(seen[event], is_asked_for(event, flags));
}

static void with(const struct variant *variant, enum kind kind, size_t length)
{
	int sv[2];
	struct reader reader;
	size_t around = variant->wrapped ? EDGE : 0, total = length + 2 * around;
	if (!pair_of_kind(kind, sv, 128 * KIB))
		return;
	struct snapsend_request request = request_of(variant, sv[0], length);
	uint64_t id = submit_ok(ctx, &request);
	if (length > 512 * KIB)
		expect_nothing(ctx, 20); /* a part of it is in the socket */
	reader_start_keep(&reader, sv[1], total);
	take_events(id, variant->flags, total);
	file_spoil(file, 3, image, length);
	reader_join(&reader);
	CHECK(memcmp(reader.data, edge, around) == 0);
	CHECK_UEQ(count_different(reader.data + around, image, length), 0);
	CHECK(memcmp(reader.data + around + length, edge, around) == 0);
	file_put(file, 3, image, length);
	if (variant->registered)
		unregister(ctx, &request);
	reader_free(&reader);
	close_pair(sv);
}

static void refused(void)
{
	static const uint32_t flags[] = { SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_EAGER | SNAPSEND_EXACT };
	int sv[2];
	unix_pair(sv);
	for (size_t i = 0; i < COUNT_OF(flags); i++) {
		struct snapsend_request request = lend_request(sv[0], file, 0, 1000);
		request.flags |= flags[i];
		CHECK_EQ(rejected(ctx, &request), EINVAL);
		request.flags |= SNAPSEND_NOTIFY_SENT | SNAPSEND_MORE;
		CHECK_EQ(rejected(ctx, &request), EINVAL);
	}
	expect_silence(sv[1]);
	close_pair(sv);
}

int main(void)
{
	static const size_t lengths[] = { 0, 1, 1000, 16 * KIB, 300 * KIB, LENGTH - 3 };
	ctx = create_ctx();
	image = image_of(3, LENGTH, 98);
	file = temp_file(LENGTH, 98);
	memset(edge, 'E', EDGE);
	refused();
	for (int kind = 0; kind < KINDS; kind++) {
		doing(kind_name[kind]);
		for (size_t i = 0; i < COUNT_OF(variants) * COUNT_OF(lengths); i++)
			with(&variants[i / COUNT_OF(lengths)], (enum kind)kind, lengths[i % COUNT_OF(lengths)]);
	}
	CHECK_UEQ(lent_bytes(ctx), 0);
	CHECK_UEQ(stats_of(ctx).connections_reset, 0);
	destroy_ctx(ctx);
	return 0;
}
