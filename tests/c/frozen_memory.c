/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A memfd that is sealed goes by reference, whichever call, flags and kind of socket: with the bytes, the counts and
 * the order of every other file. SNAPSHOT comes at once, and neither EAGER nor EXACT takes room in the pool. A blocking
 * socket, in which the kernel's sendfile would wait, gets copies. */
#include "frozen.h"

#define LENGTH (3 * MIB + 5)
#define WRAP   1001

static unsigned char *image;

/* Each call with each flag, to a socket that does not block; how many bytes went by reference. */
static void every_call(snapsend_t *ctx, int sv[2], int file)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_ZEROCOPY, SNAPSEND_MORE };
	static const size_t lengths[] = { 64 * KIB, 200001, MIB, 2 * MIB + 1 };
	for (unsigned i = 0; i < CALLS * COUNT_OF(flags) * COUNT_OF(lengths); i++) {
		size_t length = lengths[i / CALLS / COUNT_OF(flags)], offset = i % 2 ? 4097 : 0;
		struct snapsend_request request = make_request(sv[0], file, offset, length);
		struct snapsend_stats before = stats_of(ctx), after;
		struct reader reader;
		request.flags = flags[i / CALLS % COUNT_OF(flags)];
		reader_start_keep(&reader, sv[1], length);
		struct snapsend_completion done = call_done(ctx, (enum call)(i % CALLS), request);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.wire_bytes, length);
		if (request.flags & SNAPSEND_MORE)
			CHECK_EQ(send(sv[0], "", 0, 0), 0);
		reader_join(&reader);
		CHECK(memcmp(reader.data, image + offset, length) == 0);
		reader_free(&reader);
		after = stats_of(ctx);
		/* Less than 64 KiB that are left by a full socket, and the page before what MORE announces, are copied;
		 * with MORE, the calling thread copies all that it sends. */
		if (i % CALLS == CALL_SUBMIT || !(request.flags & SNAPSEND_MORE))
			CHECK_UGE(after.bytes_frozen - before.bytes_frozen + 64 * KIB + 4096, length);
		CHECK_UEQ(after.bytes_copied + after.bytes_zerocopy, after.file_bytes);
		CHECK(after.bytes_frozen == before.bytes_frozen || done.flags & SNAPSEND_WAS_ZEROCOPY);
	}
}

/* Header and trailer around it, and up to the end of the file. */
static void wrapped(snapsend_t *ctx, int sv[2], int file)
{
	unsigned char *want = malloc(LENGTH + 2 * WRAP), head[WRAP], tail[WRAP];
	struct iovec wrap[2] = { { head, sizeof head }, { tail, sizeof tail } };
	CHECK(want != NULL);
	memset(head, 'H', sizeof head);
	memset(tail, 'T', sizeof tail);
	for (unsigned i = 0; i < 4 * CALLS; i++) {
		bool has_tail = i / CALLS % 2;
		struct snapsend_request request =
			make_request(sv[0], file, 0, i / CALLS > 1 ? SNAPSEND_TO_EOF : LENGTH);
		request.header = &wrap[0], request.header_count = 1;
		request.trailer = &wrap[1], request.trailer_count = has_tail;
		size_t total = LENGTH + WRAP + (has_tail ? WRAP : 0);
		memcpy(want, head, WRAP);
		memcpy(want + WRAP, image, LENGTH);
		memcpy(want + WRAP + LENGTH, tail, WRAP);
		struct reader reader;
		uint64_t before = frozen_bytes(ctx);
		reader_start_keep(&reader, sv[1], total);
		struct snapsend_completion done = call_done(ctx, (enum call)(i % CALLS), request);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.file_bytes, LENGTH);
		CHECK_UEQ(done.wire_bytes, total);
		reader_join(&reader);
		CHECK(memcmp(reader.data, want, total) == 0);
		reader_free(&reader);
		CHECK_UGE(frozen_bytes(ctx) - before, MIB);
	}
	free(want);
}

/* The snapshot needs no byte to have been sent, and no room. */
static void snapshot(snapsend_t *ctx, int file)
{
	int sv[2];
	struct snapsend_completion event;
	for (int i = 0; i < 3; i++) {
		static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
		tcp_pair(sv);
		set_nonblock(sv[0]);
		(void)stuff_socket(sv[0]);
		struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
		request.flags = flags[i] | SNAPSEND_NOTIFY_SNAPSHOT;
		uint64_t id = submit_ok(ctx, &request);
		CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &event, WAIT_MS));
		CHECK_UEQ(stats_of(ctx).pool_in_use, 0);
		CHECK_EQ(snapsend_cancel(ctx, id), 0);
		wait_done(ctx, id, &event);
		CHECK_EQ(event.status, -ECANCELED);
		CHECK_ULE(event.wire_bytes, LENGTH / 2);
		close_pair(sv);
	}
}

/* Several on one socket, of which one is cancelled part-way: what the peer gets is what the DONEs say. */
static void cancelled(snapsend_t *ctx, int file)
{
	for (int i = 0; i < 30; i++) {
		int sv[2];
		uint64_t ids[3], total = 0;
		struct snapsend_completion done;
		pair_of_kind((enum kind)(i % KINDS), sv, 0);
		set_nonblock(sv[0]);
		for (int n = 0; n < 3; n++)
			ids[n] = submit_range(ctx, sv[0], file, 0, LENGTH);
		struct reader reader;
		reader_start_slow(&reader, sv[1], 20);
		usleep((useconds_t)(rand() % 20000));
		int result = snapsend_cancel(ctx, ids[i % 3]);
		CHECK(result == 0 || result == -ENOENT);
		bool cut = false;
		for (int n = 0; n < 3; n++) {
			wait_done(ctx, ids[n], &done);
			if (cut)
				CHECK(done.status == -ECANCELED && done.wire_bytes == 0);
			else if (done.status == 0)
				CHECK_UEQ(done.wire_bytes, LENGTH);
			else
				CHECK_EQ(done.status, -ECANCELED);
			cut = cut || (done.status != 0 && done.wire_bytes > 0);
			total += done.wire_bytes;
		}
		close(sv[0]);
		CHECK_UEQ(reader_join(&reader), total);
		for (uint64_t at = 0; at < total; at += LENGTH)
			CHECK(memcmp(reader.data + at, image, total - at < LENGTH ? total - at : LENGTH) == 0);
		reader_free(&reader);
		close(sv[1]);
	}
}

/* A ring thread that waited in the full socket would serve nobody else. */
static void blocking(snapsend_t *ctx, int file)
{
	int full[2], sv[2];
	struct snapsend_completion done;
	tcp_pair(full);
	tcp_pair(sv);
	set_nonblock(sv[0]);
	/* More than the buffers of both ends grow to. */
	uint64_t before = frozen_bytes(ctx), ids[6];
	for (size_t i = 0; i < COUNT_OF(ids); i++)
		ids[i] = submit_range(ctx, full[0], file, 0, LENGTH);
	for (int i = 0; i < 20; i++)
		(void)transfer_ok(ctx, sv, make_request(sv[0], file, 0, MIB), image, MIB);
	CHECK_UEQ(frozen_bytes(ctx) - before, 20 * MIB);
	swallow(full[1], COUNT_OF(ids) * LENGTH);
	for (size_t i = 0; i < COUNT_OF(ids); i++) {
		wait_done(ctx, ids[i], &done);
		CHECK_EQ(done.status, 0);
	}
	CHECK_UEQ(frozen_bytes(ctx) - before, 20 * MIB);
	close_pair(full);
	close_pair(sv);
}

/* A peer that has gone: a status, and no SIGPIPE, by which the test would end. */
static void broken(snapsend_t *ctx, int file)
{
	for (unsigned i = 0; i < 2 * CALLS; i++) {
		int sv[2];
		pair_of_kind(i < CALLS ? TCP4 : UNIX, sv, 0);
		set_nonblock(sv[0]);
		SYS(shutdown(sv[0], SHUT_WR));
		struct snapsend_completion done =
			call_done(ctx, (enum call)(i % CALLS), make_request(sv[0], file, 0, LENGTH));
		CHECK_EQ(done.status, -EPIPE);
		CHECK_UEQ(done.wire_bytes, 0);
		close_pair(sv);
	}
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = memory_file(LENGTH, 11);
	image = image_of(0, LENGTH, 11);
	seal(file, SEALS);
	CHECK_UGE(by_reference(ctx, file, image, LENGTH), 2 * LENGTH);
	for (int kind = TCP4; kind < KINDS; kind++) {
		int sv[2];
		doing(kind_name[kind]);
		if (!pair_of_kind((enum kind)kind, sv, 0))
			continue;
		set_nonblock(sv[0]);
		every_call(ctx, sv, file);
		wrapped(ctx, sv, file);
		close_pair(sv);
	}
	doing("snapshot");
	snapshot(ctx, file);
	doing("cancelled");
	cancelled(ctx, file);
	doing("blocking");
	blocking(ctx, file);
	doing("broken");
	broken(ctx, file);
	free(image);
	close(file);
	destroy_ctx(ctx);
	return 0;
}
