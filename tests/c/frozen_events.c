/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SNAPSHOT, SENT and DONE of a file that cannot change: each once and in this order. SNAPSHOT comes while the socket is
 * full; with EAGER and EXACT also behind an operation that does not move. SENT and DONE come when all is in the socket,
 * though the peer has read nothing of it. By number, by handle, with each flag, on each kind of socket. */
#include "frozen.h"

#define LENGTH (256 * KIB + 9)

static snapsend_t *ctx;
static int file, handle;

static uint64_t submit_noticed(int socket, uint32_t flags, bool by_handle)
{
	struct snapsend_request request = make_request(socket, by_handle ? handle : file, 0, LENGTH);
	request.flags = flags | SNAPSEND_NOTIFY_SNAPSHOT | SNAPSEND_NOTIFY_SENT;
	request.flags |= by_handle ? SNAPSEND_REGISTERED_FILE : 0;
	return submit_ok(ctx, &request);
}

/* The next completion, which must be this one. */
static void expect_event(uint64_t id, uint32_t event, uint64_t wire)
{
	struct snapsend_completion next;
	CHECK_EQ(snapsend_poll(ctx, &next, 1, WAIT_MS), 1);
	CHECK_UEQ(next.id, id);
	CHECK_UEQ(next.event, event);
	if (event == SNAPSEND_EVENT_DONE) {
		CHECK_EQ(next.status, 0);
		CHECK_UEQ(next.wire_bytes, wire);
	}
}

/* A pair whose sender is full of other data, which the peer has to take first; how much. */
static uint64_t full_pair(enum kind kind, int sv[2])
{
	static const int family[KINDS] = { AF_INET, AF_INET6, AF_UNIX };
	CHECK(pair_sized(family[kind], sv, 64 * (int)KIB, 64 * (int)KIB));
	set_nonblock(sv[0]);
	return stuff_socket(sv[0]);
}

static void full(enum kind kind, uint32_t flags, bool by_handle)
{
	int sv[2];
	struct reader reader;
	uint64_t before = full_pair(kind, sv);
	uint64_t id = submit_noticed(sv[0], flags, by_handle);
	expect_event(id, SNAPSEND_EVENT_SNAPSHOT, 0);
	expect_nothing(ctx, 20);
	CHECK_UEQ(stats_of(ctx).pool_in_use, 0);
	swallow(sv[1], before);
	reader_start_check(&reader, sv[1], LENGTH, 0, 43);
	expect_event(id, SNAPSEND_EVENT_SENT, 0);
	expect_event(id, SNAPSEND_EVENT_DONE, LENGTH);
	reader_join(&reader);
	expect_nothing(ctx, 0);
	close_pair(sv);
}

/* There is room for all of it. */
static void roomy(enum kind kind, uint32_t flags, bool by_handle)
{
	int sv[2];
	struct reader reader;
	CHECK(pair_of_kind(kind, sv, 32 * (int)MIB));
	set_nonblock(sv[0]);
	uint64_t id = submit_noticed(sv[0], flags, by_handle);
	expect_event(id, SNAPSEND_EVENT_SNAPSHOT, 0);
	expect_event(id, SNAPSEND_EVENT_SENT, 0);
	expect_event(id, SNAPSEND_EVENT_DONE, LENGTH);
	reader_start_check(&reader, sv[1], LENGTH, 0, 43);
	reader_join(&reader);
	close_pair(sv);
}

/* Behind one that may change and does not move. */
static void behind(enum kind kind, uint32_t flags, bool by_handle)
{
	int sv[2], other = temp_file(MIB, 44);
	struct reader reader;
	uint64_t before = full_pair(kind, sv);
	uint64_t first = submit_range(ctx, sv[0], other, 0, MIB);
	uint64_t id = submit_noticed(sv[0], flags, by_handle);
	expect_event(id, SNAPSEND_EVENT_SNAPSHOT, 0);
	expect_nothing(ctx, 20);
	swallow(sv[1], before);
	reader_start_check(&reader, sv[1], MIB, 0, 44);
	expect_event(first, SNAPSEND_EVENT_DONE, MIB);
	reader_join(&reader);
	reader_start_check(&reader, sv[1], LENGTH, 0, 43);
	expect_event(id, SNAPSEND_EVENT_SENT, 0);
	expect_event(id, SNAPSEND_EVENT_DONE, LENGTH);
	reader_join(&reader);
	close(other);
	close_pair(sv);
}

int main(void)
{
	static const uint32_t flags[] = { SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_ZEROCOPY, 0 };
	unsigned char *image = image_of(0, LENGTH, 43);
	ctx = create_ctx();
	file = memory_file(LENGTH, 43);
	seal(file, SEALS);
	handle = snapsend_register_file(ctx, file, 0);
	CHECK_GT(handle, 0);
	CHECK_UGE(by_reference(ctx, file, image, LENGTH), LENGTH);
	for (size_t i = 0; i < 2 * KINDS * COUNT_OF(flags); i++) {
		enum kind kind = (enum kind)(i / 2 % KINDS);
		uint32_t flag = flags[i / 2 / KINDS];
		if (!kind_exists(kind))
			continue;
		doing("full");
		full(kind, flag, i % 2);
		doing("roomy");
		roomy(kind, flag, i % 2);
		doing("behind");
		if (flag == SNAPSEND_EAGER || flag == SNAPSEND_EXACT)
			behind(kind, flag, i % 2);
	}
	CHECK_EQ(snapsend_unregister_file(ctx, handle), 0);
	destroy_ctx(ctx);
	free(image);
	close(file);
	return 0;
}
