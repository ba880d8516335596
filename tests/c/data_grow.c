/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A file that grows during the operation: TO_EOF ends somewhere between the sizes, with the right bytes;
 * a range that was there at submit arrives whole; and what is written before submit is always in. */
#include "data_common.h"

#define START (2 * MIB + 100)
#define STEP  5000
#define STEPS 1000

struct grower {
	int file;
	const unsigned char *image;
	atomic_size_t size;
};

static void *grow(void *argument)
{
	struct grower *g = argument;
	size_t size = START;
	for (int i = 0; i < STEPS; i++, size += STEP) {
		file_put(g->file, size, g->image + size, STEP);
		atomic_store(&g->size, size + STEP);
		usleep(20);
	}
	return NULL;
}

static void one(snapsend_t *ctx, int sv[2], struct grower *g, bool to_eof)
{
	struct snapsend_completion done;
	struct reader reader;
	size_t least = atomic_load(&g->size);
	struct snapsend_request request = make_request(sv[0], g->file, 33, to_eof ? SNAPSEND_TO_EOF : least - 33);
	reader_start_keep(&reader, sv[1], UINT64_MAX);
	wait_done(ctx, submit_ok(ctx, &request), &done);
	size_t most = atomic_load(&g->size) + STEP; /* the grower may be between write and store */
	SYS(shutdown(sv[0], SHUT_WR));
	size_t got = reader_join(&reader);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, got);
	CHECK_UEQ(done.file_bytes, got);
	if (to_eof)
		CHECK(got >= least - 33 && got <= most - 33);
	else
		CHECK_UEQ(got, least - 33);
	CHECK(memcmp(reader.data, g->image + 33, got) == 0);
	reader_free(&reader);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int sv[2];
	struct grower g = { .file = temp_file(START, 5), .image = image_of(0, START + STEP * STEPS, 5), .size = START };
	pthread_t thread;
	PTHREAD(pthread_create(&thread, NULL, grow, &g));
	int rounds = 0;
	while (atomic_load(&g.size) < START + STEP * STEPS || rounds < 10) {
		tcp_pair(sv);
		one(ctx, sv, &g, rounds++ % 2);
		close_pair(sv);
	}
	PTHREAD(pthread_join(thread, NULL));
	destroy_ctx(ctx);
	return 0;
}
