/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* EAGER within the pool: the SNAPSHOT comes although the peer reads nothing; then the file is changed,
 * then the peer reads, and gets what was there before. */
#include "data_common.h"

#define LENGTH (8 * MIB)

static void one(enum kind kind, int file, const unsigned char *image, bool cold, uint32_t flags)
{
	int sv[2];
	struct snapsend_completion event;
	struct reader reader;
	if (!pair_of_kind(kind, sv, 0))
		return;
	snapsend_t *ctx = create_ctx();
	file_put(file, 0, image, LENGTH);
	if (cold)
		drop_cache(file);
	uint64_t before = stuff_socket(sv[0]);
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = flags | SNAPSEND_NOTIFY_SNAPSHOT;
	uint64_t id = submit_ok(ctx, &request);
	if (!wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &event, WAIT_MS))
		fail("no SNAPSHOT while the peer does not read (%s)", cold ? "cold" : "warm");
	CHECK_EQ(event.status, 0);
	file_spoil(file, 0, image, LENGTH);
	expect_nothing(ctx, 50); /* the peer has read nothing, so DONE would be a lie */
	swallow(sv[1], before);
	reader_start_keep(&reader, sv[1], LENGTH);
	wait_done(ctx, id, &event);
	CHECK_EQ(event.status, 0);
	reader_join(&reader);
	CHECK_UEQ(count_different(reader.data, image, LENGTH), 0);
	reader_free(&reader);
	close_pair(sv);
	destroy_ctx(ctx);
}

int main(void)
{
	int file = temp_file(LENGTH + 10, 18);
	unsigned char *image = image_of(0, LENGTH, 18);
	for (int kind = 0; kind < KINDS; kind++)
		for (int cold = 0; cold < 2; cold++) {
			doing(kind_name[kind]);
			one((enum kind)kind, file, image, cold, SNAPSEND_EAGER);
			one((enum kind)kind, file, image, cold, SNAPSEND_EXACT);
		}
	return 0;
}
