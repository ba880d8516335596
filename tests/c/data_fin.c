/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* After DONE has been taken the library holds no copy of the socket: when the caller closes, the peer sees the
 * end within 100 ms. Also after a cancel, a timeout and a failure. A busy machine may be late for that, but not again
 * and again: a case that was late is repeated. */
#include "data_common.h"

#define LENGTH             (2 * MIB)
#define END_WITHIN_MS      100
#define END_WITHIN_READ_MS 300 /* where the peer has data to read before */
#define ATTEMPTS           10

static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
enum failure { CANCELLED, TIMED_OUT, TOO_SHORT, FAILURES };

struct transfer {
	enum kind kind;
	uint32_t flags;
	enum call call; /* of one that succeeds */
	size_t length;
	enum failure failure; /* of one that fails */
};

static snapsend_t *ctx;
static int file;
static unsigned char *image;

/* How long the peer waits for the end, in milliseconds. */
static int64_t after_success(const struct transfer *t)
{
	int sv[2];
	struct reader reader;
	if (!pair_of_kind(t->kind, sv, 0))
		return 0;
	struct snapsend_request request = make_request(sv[0], file, 0, t->length);
	request.flags = t->flags;
	reader_start_keep(&reader, sv[1], t->length);
	CHECK_EQ(call_done(ctx, t->call, request).status, 0);
	close(sv[0]);
	reader_join(&reader);
	int64_t begin = now_ms();
	expect_eof(sv[1], WAIT_MS);
	int64_t took = now_ms() - begin;
	CHECK(t->length == 0 || memcmp(reader.data, image, t->length) == 0);
	reader_free(&reader);
	close(sv[1]);
	return took;
}

static int64_t after_failure(const struct transfer *t)
{
	int sv[2];
	struct reader reader;
	struct snapsend_completion done;
	if (!pair_of_kind(t->kind, sv, 32 * 1024)) /* so that not all of it fits */
		return 0;
	struct snapsend_request request = make_request(sv[0], file, t->failure == TOO_SHORT ? 1 : 0, LENGTH);
	request.flags = t->flags;
	request.timeout_ms = t->failure == TIMED_OUT ? 30 : 0;
	uint64_t id = submit_ok(ctx, &request);
	usleep((useconds_t)(rand() % 5000));
	if (t->failure == CANCELLED)
		CHECK_EQ(snapsend_cancel(ctx, id), 0);
	wait_done(ctx, id, &done);
	CHECK_LT(done.status, 0);
	close(sv[0]);
	reader_init(&reader, sv[1], UINT64_MAX);
	int64_t begin = now_ms();
	reader_go(&reader);
	reader_join(&reader);
	int64_t took = now_ms() - begin;
	CHECK(reader.eof);
	close(sv[1]);
	return took;
}

static void in_time(int64_t (*transfer)(const struct transfer *), const struct transfer *t, int64_t limit_ms)
{
	int64_t took = 0;
	for (int i = 0; i < ATTEMPTS; i++) {
		took = transfer(t);
		if (took <= limit_ms)
			return;
	}
	fail("the end comes late, %d times, the last time after %" PRId64
	     " ms: %s, flags %u, call %d, %zu bytes, failure %d",
	     ATTEMPTS, took, kind_name[t->kind], t->flags, t->call, t->length, t->failure);
}

int main(void)
{
	static const size_t lengths[] = { 0, 10, 100000, LENGTH };
	ctx = create_ctx();
	file = temp_file(LENGTH, 65);
	image = image_of(0, LENGTH, 65);
	srand(65);
	doing("after success");
	for (size_t i = 0; i < KINDS * CALLS * COUNT_OF(flags) * COUNT_OF(lengths); i++) {
		struct transfer t = { .kind = (enum kind)(i % KINDS), .call = (enum call)(i / KINDS % CALLS) };
		t.flags = flags[i / KINDS / CALLS % COUNT_OF(flags)];
		t.length = lengths[i / KINDS / CALLS / COUNT_OF(flags)];
		in_time(after_success, &t, END_WITHIN_MS);
	}
	doing("after failure");
	for (size_t i = 0; i < 5 * KINDS * FAILURES * COUNT_OF(flags); i++) {
		struct transfer t = { .kind = (enum kind)(i % KINDS), .failure = (enum failure)(i / KINDS % FAILURES) };
		t.flags = flags[i / KINDS / FAILURES % COUNT_OF(flags)];
		in_time(after_failure, &t, END_WITHIN_READ_MS);
	}
	free(image);
	destroy_ctx(ctx);
	return 0;
}
