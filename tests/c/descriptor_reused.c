/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Descriptors closed before the DONE, their numbers given to another file or socket: -EBADF, or 0 with the
 * right data; never a byte from or to the other one. */
#include "common.h"

#define LENGTH (6 * MIB)

/* Ends well with all of the right data, or -EBADF with what wire_bytes says of it. */
static void ended(const struct snapsend_completion *completion, const struct reader *reader, uint64_t filled)
{
	if (completion->status == 0)
		CHECK_UEQ(completion->wire_bytes, LENGTH);
	else
		CHECK_EQ(completion->status, -EBADF);
	CHECK_UEQ(atomic_load(&reader->got), filled + completion->wire_bytes);
}

static void round_(snapsend_t *ctx, int family, bool the_file, bool full, bool reuse, uint32_t flags)
{
	int sv[2], other[2];
	struct snapsend_completion completion;
	struct reader reader;
	if (!pair_sized(family, sv, 0, 0))
		return;
	unix_pair(other);
	int twin = (int)SYS(dup(sv[0])); /* keeps the connection open for the reader's count */
	int file = temp_file(LENGTH, 1), wrong = temp_file(LENGTH, 2);
	uint64_t filled = full ? fill_socket(sv[0]) : 0;
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = flags;
	uint64_t id = submit_ok(ctx, &request);
	int number = the_file ? file : sv[0];
	if (reuse)
		SYS(dup2(the_file ? wrong : other[0], number));
	else
		close(number);

	reader_init(&reader, sv[1], UINT64_MAX);
	reader.check = true;
	reader.skip = filled;
	reader.seed = 1;
	reader_go(&reader);
	wait_done(ctx, id, &completion);
	SYS(shutdown(twin, SHUT_WR));
	reader_join(&reader); /* fails at the first byte of the other file */
	ended(&completion, &reader, filled);
	CHECK_UEQ(drain(other[1], 10), 0);
	CHECK_EQ(send(other[0], "x", 1, MSG_NOSIGNAL), 1); /* the other one is as it was */
	if (the_file || reuse)
		close(sv[0]);
	if (!the_file || reuse)
		close(file);
	close(sv[1]);
	close(twin);
	close(wrong);
	close(other[0]);
	close(other[1]);
}

int main(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	snapsend_t *ctx = create_ctx();
	int fds = count_fds();
	for (size_t f = 0; f < COUNT_OF(flags); f++)
		for (unsigned bits = 0; bits < 16; bits++)
			round_(ctx, bits & 1 ? AF_INET : AF_UNIX, bits & 2, bits & 4 && !(bits & 1), bits & 8,
			       flags[f]);
	expect_nothing(ctx, 20);
	CHECK_EQ(count_fds(), fds);

	/* Cancel after the close does no harm. */
	int sv[2];
	struct snapsend_completion completion;
	unix_pair(sv);
	fill_socket(sv[0]);
	int file = temp_file(LENGTH, 1);
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	uint64_t id = submit_ok(ctx, &request);
	close(sv[0]);
	close(file);
	int result = snapsend_cancel(ctx, id);
	CHECK(result == 0 || result == -ENOENT);
	wait_done(ctx, id, &completion);
	CHECK(completion.status == -ECANCELED || completion.status == -EBADF || completion.status == -EPIPE);
	destroy_ctx(ctx);
	return 0;
}
