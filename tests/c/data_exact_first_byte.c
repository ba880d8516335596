/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* EXACT: the whole range was snapshotted before its first byte went out. The peer changes the file as soon
 * as it sees one; nothing that arrives later may be changed. Without EXACT the same is allowed to arrive
 * changed, and does with sendfile. */
#include "data_common.h"

#define LENGTH (6 * MIB)

/* How many bytes arrived changed. With ctx NULL: sendfile from another thread. */
struct other {
	int to, file;
};

static void *send_by_sendfile(void *argument)
{
	struct other *o = argument;
	sendfile_all(o->to, o->file, 0, LENGTH);
	return NULL;
}

static size_t changed(snapsend_t *ctx, enum kind kind, int file, const unsigned char *image)
{
	int sv[2];
	struct snapsend_completion done;
	struct reader reader;
	pthread_t thread;
	uint64_t id = 0;
	if (!pair_of_kind(kind, sv, 0))
		return 0;
	file_put(file, 0, image, LENGTH);
	struct other o = { sv[0], file };
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = SNAPSEND_EXACT;
	if (ctx != NULL)
		id = submit_ok(ctx, &request);
	else
		PTHREAD(pthread_create(&thread, NULL, send_by_sendfile, &o));
	while (unread(sv[1]) == 0) /* not poll: every microsecond counts */
		;
	file_spoil(file, 0, image, LENGTH);
	reader_start_keep(&reader, sv[1], LENGTH);
	if (ctx != NULL) {
		wait_done(ctx, id, &done);
		CHECK_EQ(done.status, 0);
	} else {
		PTHREAD(pthread_join(thread, NULL));
	}
	reader_join(&reader);
	size_t n = count_different(reader.data, image, LENGTH);
	reader_free(&reader);
	close_pair(sv);
	return n;
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 17);
	unsigned char *image = image_of(0, LENGTH, 17);
	for (int kind = 0; kind < KINDS; kind++) {
		for (int i = 0; i < 10; i++)
			CHECK_UEQ(changed(ctx, (enum kind)kind, file, image), 0);
		if (kind_exists((enum kind)kind))
			CHECK_UNE(changed(NULL, (enum kind)kind, file, image), 0);
	}
	destroy_ctx(ctx);
	return 0;
}
