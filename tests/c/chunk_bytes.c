/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* chunk_bytes: no read and no send of the library's moves more, whichever call, way and flag; and not far
 * less where the range is long. */
#include "data_common.h"
#include "faults.h"

#define LENGTH (700 * KIB + 321)

static int sv[2], file;
static struct reader reader;

static void one(snapsend_t *ctx, int call, uint64_t length, uint32_t flags)
{
	struct snapsend_request request = make_request(sv[0], file, 0, length);
	struct snapsend_completion done;
	request.flags = flags;
	reader_start_check(&reader, sv[1], length, 0, 5);
	if (call == 0) {
		wait_done(ctx, submit_ok(ctx, &request), &done);
	} else if (call == 1) {
		int result = snapsend_try_send(ctx, &request, sizeof request, &done);
		CHECK_GE(result, 0);
		if (result == 0)
			wait_done(ctx, done.id, &done);
	} else {
		CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &done), 0);
	}
	CHECK_EQ(done.status, 0);
	reader_join(&reader);
}

int main(void)
{
	static const uint64_t chunks[] = { 4096, 50000, 96 * KIB, 512 * KIB };
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_ZERO_PAD };
	static const uint64_t lengths[] = { 60000, 110000, 250000, LENGTH };
	file = temp_file(LENGTH, 5);
	tcp_pair(sv);
	for (size_t i = 0; i < COUNT_OF(chunks); i++) {
		snapsend_t *ctx = create_ctx_with(0, 0, chunks[i]);
		for (int call = 0; call < 3; call++)
			for (size_t k = 0; k < COUNT_OF(flags); k++)
				for (size_t l = 0; l < COUNT_OF(lengths); l++) {
					if (call == 0)
						drop_cache(file);
					atomic_store(&fault_largest, 0);
					one(ctx, call, lengths[l], flags[k]);
					uint64_t largest = atomic_load(&fault_largest);
					if (largest > chunks[i])
						fail("chunk_bytes %" PRIu64 ", call %d, flags %u, %" PRIu64
						     " bytes: %" PRIu64 " at once",
						     chunks[i], call, flags[k], lengths[l], largest);
					if (lengths[l] >= chunks[i])
						CHECK_UGE(largest, chunks[i] < 8 * KIB ? chunks[i] : chunks[i] / 4);
				}
		destroy_ctx(ctx);
	}
	return 0;
}
