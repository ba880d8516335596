/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Several contexts in one process: the same file from all of them at once, the same socket from two of them one
 * after the other, and the end of one does not disturb the others. */
#include "data_common.h"

#define CONTEXTS 4
#define LENGTH   (2 * MIB + 1)

static unsigned char *image;
static int file;

static void *work(void *argument)
{
	snapsend_t *ctx = argument;
	int sv[2];
	tcp_pair(sv);
	for (unsigned i = 0; i < 40; i++) {
		uint64_t offset = i * 1001;
		struct snapsend_request request = make_request(-1, file, offset, LENGTH - offset);
		request.flags = i % 3 == 0 ? SNAPSEND_EAGER : i % 3 == 1 ? SNAPSEND_EXACT : 0;
		transfer_ok(ctx, sv, request, image + offset, LENGTH - offset);
	}
	close_pair(sv);
	return NULL;
}

int main(void)
{
	snapsend_t *ctx[CONTEXTS + 1];
	pthread_t threads[CONTEXTS];
	int sv[2];
	file = temp_file(LENGTH, 67);
	image = image_of(0, LENGTH, 67);
	for (int i = 0; i <= CONTEXTS; i++)
		ctx[i] = create_ctx();
	for (int i = 0; i < CONTEXTS; i++)
		PTHREAD(pthread_create(&threads[i], NULL, work, ctx[i]));
	tcp_pair(sv);
	submit_range(ctx[CONTEXTS], sv[0], file, 0, 5); /* its DONE is not taken */
	destroy_ctx(ctx[CONTEXTS]);
	close_pair(sv);
	for (int i = 0; i < CONTEXTS; i++)
		PTHREAD(pthread_join(threads[i], NULL));
	for (int kind = 0; kind < KINDS; kind++) {
		if (!pair_of_kind((enum kind)kind, sv, 0))
			continue;
		for (unsigned i = 0; i < 60; i++)
			transfer_ok(ctx[i % 2], sv, make_request(-1, file, i, 100000), image + i, 100000);
		destroy_ctx(ctx[kind == KINDS - 1 ? 0 : 2 + kind % 2]);
		ctx[kind == KINDS - 1 ? 0 : 2 + kind % 2] = create_ctx();
		transfer_ok(ctx[1], sv, make_request(-1, file, 9, LENGTH - 9), image + 9, LENGTH - 9);
		close_pair(sv);
	}
	for (int i = 0; i < CONTEXTS; i++)
		destroy_ctx(ctx[i]);
	return 0;
}
