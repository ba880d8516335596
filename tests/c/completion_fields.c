/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sizes and offsets of every struct, the values of every constant, and what a DONE holds. */
#include "common.h"

#define AT(type, field, offset) _Static_assert(offsetof(struct type, field) == (offset), #type "." #field)
#define FIELD(type, field, ctype) \
	_Static_assert(_Generic(((struct type *)0)->field, ctype : 1, default : 0), #type "." #field)

_Static_assert(sizeof(struct snapsend_options) >= 32, "options");
AT(snapsend_options, flags, 0);
AT(snapsend_options, engine, 4);
AT(snapsend_options, max_ops, 8);
AT(snapsend_options, reserved0, 12);
AT(snapsend_options, pool_bytes, 16);
AT(snapsend_options, chunk_bytes, 24);

_Static_assert(sizeof(struct snapsend_request) >= 64, "request");
AT(snapsend_request, socket_fd, 0);
AT(snapsend_request, file_fd, 4);
AT(snapsend_request, offset, 8);
AT(snapsend_request, length, 16);
AT(snapsend_request, header, 24);
AT(snapsend_request, trailer, 32);
AT(snapsend_request, header_count, 40);
AT(snapsend_request, trailer_count, 44);
AT(snapsend_request, flags, 48);
AT(snapsend_request, timeout_ms, 52);
AT(snapsend_request, user_data, 56);
FIELD(snapsend_request, socket_fd, int32_t);
FIELD(snapsend_request, header, const struct iovec *);
FIELD(snapsend_request, trailer, const struct iovec *);

_Static_assert(sizeof(struct snapsend_completion) == 64, "completion: 64 bytes in every version");
AT(snapsend_completion, id, 0);
AT(snapsend_completion, user_data, 8);
AT(snapsend_completion, file_bytes, 16);
AT(snapsend_completion, wire_bytes, 24);
AT(snapsend_completion, status, 32);
AT(snapsend_completion, event, 36);
AT(snapsend_completion, flags, 40);
AT(snapsend_completion, reserved, 44);
FIELD(snapsend_completion, status, int32_t);

_Static_assert(sizeof(struct snapsend_info) >= 40, "info");
AT(snapsend_info, version, 0);
AT(snapsend_info, engine, 4);
AT(snapsend_info, engine_errno, 8);
AT(snapsend_info, max_ops, 12);
AT(snapsend_info, pool_bytes, 16);
AT(snapsend_info, exact_max, 24);
AT(snapsend_info, kernel_features, 32);
FIELD(snapsend_info, engine_errno, int32_t);

_Static_assert(sizeof(struct snapsend_stats) >= 128, "stats");
AT(snapsend_stats, submitted, 0);
AT(snapsend_stats, done_ok, 8);
AT(snapsend_stats, done_error, 16);
AT(snapsend_stats, cancelled, 24);
AT(snapsend_stats, file_bytes, 32);
AT(snapsend_stats, wire_bytes, 40);
AT(snapsend_stats, bytes_copied, 48);
AT(snapsend_stats, bytes_zerocopy, 56);
AT(snapsend_stats, bytes_inline, 64);
AT(snapsend_stats, zerocopy_notified, 72);
AT(snapsend_stats, zerocopy_copied_anyway, 80);
AT(snapsend_stats, kernel_enters, 88);
AT(snapsend_stats, wakeups, 96);
AT(snapsend_stats, in_flight, 104);
AT(snapsend_stats, pool_in_use, 112);
AT(snapsend_stats, pool_resident, 120);
AT(snapsend_stats, rings_kept, 128);

_Static_assert(SNAPSEND_ENGINE_AUTO == 0 && SNAPSEND_ENGINE_URING == 1 && SNAPSEND_ENGINE_PORTABLE == 2, "engines");
_Static_assert(SNAPSEND_TO_EOF == UINT64_MAX, "to eof");
_Static_assert(SNAPSEND_EAGER == 1 && SNAPSEND_EXACT == 2 && SNAPSEND_NOTIFY_SNAPSHOT == 4 && SNAPSEND_ZERO_PAD == 8 &&
		       SNAPSEND_MORE == 16,
	       "request flags");
_Static_assert(SNAPSEND_EVENT_DONE == 0 && SNAPSEND_EVENT_SNAPSHOT == 1, "events");
_Static_assert(SNAPSEND_WAS_COPIED == 1 && SNAPSEND_WAS_ZEROCOPY == 2 && SNAPSEND_WAS_PADDED == 4 &&
		       SNAPSEND_WAS_INLINE == 8,
	       "completion flags");

static void check_fields(const struct snapsend_completion *c, uint64_t id, uint32_t event, uint64_t file_bytes,
			 uint64_t wire_bytes)
{
	static const uint32_t zeros[5];
	CHECK_UEQ(c->id, id);
	CHECK_UEQ(c->user_data, 0xfedcba9876543210ULL);
	CHECK_UEQ(c->event, event);
	CHECK_EQ(c->status, 0);
	CHECK(memcmp(c->reserved, zeros, sizeof zeros) == 0);
	CHECK_UEQ(c->flags & ~15u, 0);
	if (event != SNAPSEND_EVENT_DONE)
		return;
	CHECK_UEQ(c->file_bytes, file_bytes);
	CHECK_UEQ(c->wire_bytes, wire_bytes);
	CHECK(c->flags & (SNAPSEND_WAS_COPIED | SNAPSEND_WAS_ZEROCOPY));
	CHECK(!(c->flags & SNAPSEND_WAS_PADDED));
}

int main(void)
{
	int sv[2];
	struct snapsend_completion completion;
	struct iovec head = { "head", 4 }, tail = { "tails", 5 };
	snapsend_t *ctx = create_ctx();
	tcp_pair(sv);
	int file = temp_file(MIB, 1);
	struct snapsend_request request = make_request(sv[0], file, 10, 1000);
	request.user_data = 0xfedcba9876543210ULL;
	request.header = &head;
	request.header_count = 1;
	request.trailer = &tail;
	request.trailer_count = 1;

	uint64_t id = submit_ok(ctx, &request);
	memset(&completion, 0xaa, sizeof completion); /* all of it must be written */
	CHECK_EQ(snapsend_poll(ctx, &completion, 1, WAIT_MS), 1);
	check_fields(&completion, id, SNAPSEND_EVENT_DONE, 1000, 1009);

	memset(&completion, 0xaa, sizeof completion);
	CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
	check_fields(&completion, completion.id, SNAPSEND_EVENT_DONE, 1000, 1009);

	memset(&completion, 0xaa, sizeof completion);
	int done = snapsend_try_send(ctx, &request, sizeof request, &completion);
	id = completion.id;
	if (done == 0) {
		CHECK_UNE(id, 0xaaaaaaaaaaaaaaaaULL);
		wait_done(ctx, id, &completion);
	} else {
		CHECK_EQ(done, 1);
		CHECK(completion.flags & SNAPSEND_WAS_INLINE);
	}
	check_fields(&completion, id, SNAPSEND_EVENT_DONE, 1000, 1009);

	request.flags = SNAPSEND_NOTIFY_SNAPSHOT;
	id = submit_ok(ctx, &request);
	memset(&completion, 0xaa, sizeof completion);
	CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &completion, WAIT_MS));
	check_fields(&completion, id, SNAPSEND_EVENT_SNAPSHOT, 0, 0);
	wait_done(ctx, id, &completion);
	check_fields(&completion, id, SNAPSEND_EVENT_DONE, 1000, 1009);
	expect_nothing(ctx, 20);
	destroy_ctx(ctx);
	return 0;
}
