/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Header and trailer of 1 to IOV_MAX pieces, some empty, up to 1 MiB in all, around a range; they are
 * copied before submit returns. */
#include "data_common.h"

#define FILE_LENGTH 200001

static unsigned char *want;   /* header, range, trailer as they must arrive */
static unsigned char *memory; /* header and trailer as the caller has them */
static struct iovec head[IOV_MAX], tail[IOV_MAX];

/* length bytes from memory in count pieces, every third of them empty. */
static void cut(struct iovec *pieces, unsigned count, unsigned char *from, size_t length)
{
	for (unsigned i = 0; i < count; i++) {
		size_t n = i + 1 == count ? length : i % 3 == 1 ? 0 : length / (count - i);
		pieces[i].iov_base = n == 0 && i % 2 ? NULL : from;
		pieces[i].iov_len = n;
		from += n, length -= n;
	}
}

static void one(snapsend_t *ctx, enum kind kind, int file, unsigned count, size_t length, uint32_t flags)
{
	int sv[2];
	struct reader reader;
	struct snapsend_completion done;
	if (!pair_of_kind(kind, sv, 0))
		return;
	memcpy(memory, want, length);
	memcpy(memory + length, want + length + FILE_LENGTH, length);
	cut(head, count, memory, length);
	cut(tail, count, memory + length, length);
	struct snapsend_request request = make_request(sv[0], file, 0, FILE_LENGTH);
	request.header = head, request.trailer = tail;
	request.header_count = request.trailer_count = count;
	request.flags = flags;
	uint64_t before = stuff_socket(sv[0]); /* so that nothing can go out before the next lines */
	uint64_t id = submit_ok(ctx, &request);
	memset(memory, 0xee, 2 * length);
	memset(head, 0xee, sizeof head);
	memset(tail, 0xee, sizeof tail);
	swallow(sv[1], before);
	size_t total = FILE_LENGTH + 2 * length;
	reader_start_keep(&reader, sv[1], total);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, total);
	CHECK_UEQ(done.file_bytes, FILE_LENGTH);
	reader_join(&reader);
	CHECK(memcmp(reader.data, want, length + FILE_LENGTH) == 0);
	CHECK(memcmp(reader.data + length + FILE_LENGTH, want + length + FILE_LENGTH, length) == 0);
	CHECK_EQ(unread(sv[1]), 0);
	reader_free(&reader);
	close_pair(sv);
}

int main(void)
{
	static const unsigned counts[] = { 1, 2, 3, 16, 17, 255, IOV_MAX - 1, IOV_MAX };
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	snapsend_t *ctx = create_ctx();
	int file = temp_file(FILE_LENGTH, 10);
	want = malloc(FILE_LENGTH + MIB);
	memory = malloc(MIB);
	CHECK(want != NULL && memory != NULL);
	for (size_t i = 0; i < COUNT_OF(counts); i++)
		for (int big = 0; big < 2; big++) {
			size_t length = big ? MIB / 2 : counts[i] * 7 + 1;
			pattern_fill(want, 0, length, 11);
			pattern_fill(want + length, 0, FILE_LENGTH, 10);
			pattern_fill(want + length + FILE_LENGTH, 0, length, 12);
			one(ctx, (enum kind)(i % KINDS), file, counts[i], length, flags[(i + (size_t)big) % 3]);
		}
	destroy_ctx(ctx);
	return 0;
}
