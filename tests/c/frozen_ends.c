/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Operations on files that cannot change, which end part-way because their peers have stopped reading: cancelled, out of
 * time, reset by the peer, with their context. Their counts are exact, those behind a cut send nothing, no file
 * data is in the pool meanwhile, and other sockets are served. */
#include "frozen.h"

#define LENGTH (24 * MIB + 3) /* more than sockets take */
#define WRAP   99

enum end { CANCEL, CANCEL_SOCKET, TIMEOUT, RESET, ENDS };
static const char *const end_name[] = { "cancel", "cancel_socket", "timeout_ms", "reset" };
static const int statuses[] = { -ECANCELED, -ECANCELED, -ETIMEDOUT, 0 };

static snapsend_t *ctx;
static unsigned char *image, head[WRAP];
static int file, handle;

/* Three on one socket; the first one stops in the middle. */
struct stalled {
	int sv[2];
	uint64_t ids[3];
};

static void stall(snapsend_t *context, struct stalled *s, enum kind kind, enum end end, bool by_handle)
{
	struct iovec header = { head, WRAP };
	CHECK(pair_of_kind(kind, s->sv, 0));
	set_nonblock(s->sv[0]);
	uint64_t before = frozen_bytes(context);
	for (int i = 0; i < 3; i++) {
		struct snapsend_request request = make_request(s->sv[0], by_handle ? handle : file, 0, LENGTH);
		request.header = &header, request.header_count = 1;
		request.flags = (by_handle ? SNAPSEND_REGISTERED_FILE : 0) | (i == 1 ? SNAPSEND_EXACT : 0);
		request.timeout_ms = end == TIMEOUT && i == 0 ? 100 : 0;
		s->ids[i] = submit_ok(context, &request);
	}
	while (frozen_bytes(context) == before)
		sleep_ms(1);
	sleep_ms(10);
	CHECK_ULE(stats_of(context).pool_in_use, 4 * KIB); /* the headers */
}

/* What has arrived is what the header and the file begin with. */
static void expect_begin(const unsigned char *got, uint64_t length)
{
	CHECK(memcmp(got, head, length < WRAP ? length : WRAP) == 0);
	if (length > WRAP)
		CHECK_UEQ(count_different(got + WRAP, image, length - WRAP), 0);
}

static void others_are_served(void)
{
	int sv[2];
	tcp_pair(sv);
	set_nonblock(sv[0]);
	(void)transfer_ok(ctx, sv, make_request(sv[0], file, 0, MIB), image, MIB);
	close_pair(sv);
}

static void ends(enum kind kind, enum end end, bool by_handle)
{
	struct stalled s;
	struct snapsend_completion done;
	struct reader reader;
	stall(ctx, &s, kind, end, by_handle);
	others_are_served();
	switch (end) {
	case CANCEL: CHECK_EQ(snapsend_cancel(ctx, s.ids[0]), 0); break;
	case CANCEL_SOCKET: CHECK_EQ(snapsend_cancel_socket(ctx, s.sv[0]), 3); break;
	case RESET: reset_close(s.sv[1]); break;
	default: break;
	}
	wait_done(ctx, s.ids[0], &done);
	if (end == RESET)
		CHECK(done.status == -ECONNRESET || done.status == -EPIPE);
	else
		CHECK_EQ(done.status, statuses[end]);
	CHECK_UGE(done.wire_bytes, WRAP + 1);
	CHECK_ULE(done.wire_bytes, LENGTH);
	CHECK_UEQ(done.wire_bytes, done.file_bytes + WRAP);
	uint64_t wire = done.wire_bytes;
	for (int i = 1; i < 3; i++) {
		wait_done(ctx, s.ids[i], &done);
		CHECK_EQ(done.status, -ECANCELED);
		CHECK_UEQ(done.wire_bytes, 0);
	}
	if (end != RESET) {
		SYS(shutdown(s.sv[0], SHUT_WR));
		reader_start_keep(&reader, s.sv[1], UINT64_MAX);
		CHECK_UEQ(reader_join(&reader), wire);
		expect_begin(reader.data, wire);
		reader_free(&reader);
		close(s.sv[1]);
	}
	close(s.sv[0]);
}

/* Its peer gets what had gone out before, and the end. */
static void destroyed(enum kind kind)
{
	struct stalled s;
	struct reader reader;
	snapsend_t *mine = create_ctx();
	(void)by_reference(mine, file, image, MIB);
	stall(mine, &s, kind, CANCEL, false);
	int64_t begin = now_ms();
	destroy_ctx(mine);
	CHECK_LE(now_ms() - begin, 1000 * slowness());
	close(s.sv[0]);
	reader_start_keep(&reader, s.sv[1], UINT64_MAX);
	uint64_t got = reader_join(&reader);
	CHECK_UGE(got, WRAP + 1);
	CHECK_ULE(got, LENGTH);
	expect_begin(reader.data, got);
	reader_free(&reader);
	close(s.sv[1]);
}

int main(void)
{
	ctx = create_ctx();
	memset(head, 'H', sizeof head);
	image = image_of(0, LENGTH, 41);
	file = memory_file(LENGTH, 41);
	seal(file, SEALS);
	handle = snapsend_register_file(ctx, file, 0);
	CHECK_GT(handle, 0);
	CHECK_UGE(by_reference(ctx, file, image, MIB), MIB);
	for (int i = 0; i < 2 * ENDS * KINDS; i++) {
		if (!kind_exists((enum kind)(i % KINDS)))
			continue;
		doing(end_name[i / KINDS % ENDS]);
		ends((enum kind)(i % KINDS), (enum end)(i / KINDS % ENDS), i / KINDS / ENDS);
	}
	doing("destroy");
	destroyed(TCP4);
	destroyed(UNIX);
	CHECK_EQ(snapsend_unregister_file(ctx, handle), 0);
	destroy_ctx(ctx);
	free(image);
	close(file);
	return 0;
}
