/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Operations on one socket go out whole and in the order submitted, from whichever threads, also where the
 * threads use different descriptors of the socket, and whether warm or cold, small or large. */
#include "data_common.h"

#define THREADS     4
#define OPS         300
#define FILE_LENGTH (2 * MIB)

struct tag {
	uint32_t thread, number;
	uint64_t offset, length;
};

static snapsend_t *ctx;
static int file;
static struct sender {
	pthread_t thread;
	uint32_t index;
	int fd;
	uint64_t ids[OPS];
} senders[THREADS];

static void *submit_all(void *argument)
{
	static const uint32_t flags[] = { 0, 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	struct sender *s = argument;
	unsigned seed = s->index;
	for (uint32_t i = 0; i < OPS; i++) {
		struct tag tag = { s->index, i, (uint64_t)rand_r(&seed) % MIB, 0 };
		tag.length = rand_r(&seed) % 8 == 0 ? (uint64_t)rand_r(&seed) % MIB : (uint64_t)rand_r(&seed) % 20000;
		struct iovec head = { &tag, sizeof tag };
		struct snapsend_request request = make_request(s->fd, file, tag.offset, tag.length);
		request.header = &head, request.header_count = 1;
		request.flags = flags[rand_r(&seed) % 4];
		s->ids[i] = submit_ok(ctx, &request);
		if (i % 40 == 0)
			posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	}
	return NULL;
}

static void read_tagged(int fd, const unsigned char *image)
{
	uint32_t next[THREADS] = { 0 };
	static unsigned char data[MIB];
	for (int i = 0; i < THREADS * OPS; i++) {
		struct tag tag;
		CHECK_UEQ(read_all(fd, &tag, sizeof tag), sizeof tag);
		CHECK_ULE(tag.thread, THREADS - 1);
		CHECK_UEQ(tag.number, next[tag.thread]);
		CHECK(tag.length < MIB && tag.offset < MIB);
		next[tag.thread]++;
		CHECK_UEQ(read_all(fd, data, tag.length), tag.length);
		CHECK(memcmp(data, image + tag.offset, tag.length) == 0);
	}
}

int main(void)
{
	ctx = create_ctx();
	file = temp_file(FILE_LENGTH, 33);
	unsigned char *image = image_of(0, FILE_LENGTH, 33);
	for (int kind = 0; kind < KINDS; kind++) {
		int sv[2];
		struct snapsend_completion done;
		if (!pair_of_kind((enum kind)kind, sv, 0))
			continue;
		for (uint32_t i = 0; i < THREADS; i++) {
			senders[i].index = i;
			senders[i].fd = i % 2 ? (int)SYS(dup(sv[0])) : sv[0];
			PTHREAD(pthread_create(&senders[i].thread, NULL, submit_all, &senders[i]));
		}
		read_tagged(sv[1], image);
		for (int i = 0; i < THREADS; i++) {
			PTHREAD(pthread_join(senders[i].thread, NULL));
			for (int j = 0; j < OPS; j++) {
				wait_done(ctx, senders[i].ids[j], &done);
				CHECK_EQ(done.status, 0);
			}
			if (i % 2)
				close(senders[i].fd);
		}
		CHECK_EQ(unread(sv[1]), 0);
		close_pair(sv);
	}
	free(image);
	destroy_ctx(ctx);
	return 0;
}
