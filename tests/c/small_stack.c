/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Every function on a thread with a stack of 64 KiB, as servers with many threads have them. */
#include "common.h"

static snapsend_t *ctx;
static int sv[2], file;
static unsigned char *memory;
static struct iovec pieces[IOV_MAX];

static void *all(void *unused)
{
	struct snapsend_completion completion;
	struct snapsend_stats stats;
	struct snapsend_info info;
	(void)unused;
	struct snapsend_request request = make_request(sv[0], file, 0, MIB);
	request.header = pieces; /* many, and nearly 1 MiB */
	request.header_count = IOV_MAX;
	CHECK_EQ(snapsend_submit(ctx, &request, sizeof request, NULL), 0);
	CHECK_EQ(snapsend_poll(ctx, &completion, 1, WAIT_MS), 1);
	CHECK_EQ(completion.status, 0);
	CHECK_EQ(snapsend_submit_many(ctx, &request, sizeof request, 1, NULL), 1);
	CHECK_EQ(snapsend_poll(ctx, &completion, 1, WAIT_MS), 1);
	CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
	if (snapsend_try_send(ctx, &request, sizeof request, &completion) == 0)
		CHECK_EQ(snapsend_poll(ctx, &completion, 1, WAIT_MS), 1);
	CHECK_EQ(completion.status, 0);
	request = make_request(sv[0], file, 0, 1000); /* small enough to be done inline */
	if (snapsend_try_send(ctx, &request, sizeof request, &completion) == 0)
		CHECK_EQ(snapsend_poll(ctx, &completion, 1, WAIT_MS), 1);
	CHECK_EQ(completion.status, 0);
	off_t offset = 0;
	CHECK_EQ(snapsend_sendfile(sv[0], file, &offset, MIB), MIB);
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	CHECK_ERR(snapsend_cancel(ctx, completion.id), ENOENT);
	CHECK_EQ(snapsend_cancel_socket(ctx, sv[0]), 0);
	snapsend_t *other = create_ctx();
	destroy_ctx(other);
	return NULL;
}

int main(void)
{
	pthread_attr_t attributes;
	pthread_t thread;
	struct reader reader;
	ctx = create_ctx();
	unix_pair(sv);
	file = temp_file(MIB, 1);
	memory = malloc(MIB);
	CHECK(memory != NULL);
	memset(memory, 'h', MIB);
	for (size_t i = 0; i < IOV_MAX; i++)
		pieces[i] = (struct iovec){ memory + i * 1000, 1000 };
	reader_init(&reader, sv[1], 4 * (MIB + IOV_MAX * 1000) + 1000 + MIB);
	reader_go(&reader);
	PTHREAD(pthread_attr_init(&attributes));
	PTHREAD(pthread_attr_setstacksize(&attributes, 64 * 1024));
	PTHREAD(pthread_create(&thread, &attributes, all, NULL));
	PTHREAD(pthread_join(thread, NULL));
	reader_join(&reader);
	destroy_ctx(ctx);
	free(memory);
	return 0;
}
