/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* On each of several sockets one thread uses try_send and another submits, to peers with little room: each message
 * goes out whole, though part of it may go from the calling thread and the rest from the ring thread, and each
 * ends. */
#include "data_common.h"

#define SOCKETS     6
#define RUN_MS      4000
#define MESSAGE_MAX 30000

static snapsend_t *ctx;
static int file;
static unsigned char *image;
static int64_t end_ms;

struct side {
	int sv[2];
	bool tries;
	uint64_t sent;
	_Atomic int *senders;
	pthread_t thread;
};

static void *sender_main(void *argument)
{
	struct side *side = argument;
	unsigned random = 7 * (unsigned)side->sv[0] + side->tries;
	while (now_ms() < end_ms) {
		struct snapsend_completion done;
		random = random * 1664525u + 1013904223u;
		uint32_t length = 1 + (random >> 8) % (random >> 28 ? 500 : MESSAGE_MAX);
		struct iovec header = { &length, sizeof length };
		struct snapsend_request request = make_request(side->sv[0], file, 0, length);
		request.header = &header, request.header_count = 1;
		uint64_t id = 0;
		if (!side->tries) {
			id = submit_ok(ctx, &request);
		} else {
			int result = snapsend_try_send(ctx, &request, sizeof request, &done);
			CHECK(result == 0 || result == 1);
			id = result == 0 ? done.id : 0;
		}
		if (id != 0)
			wait_done_ms(ctx, id, &done, 10000);
		CHECK_EQ(done.status, 0);
		side->sent++;
	}
	if (atomic_fetch_sub(side->senders, 1) == 1)
		SYS(shutdown(side->sv[0], SHUT_WR));
	return NULL;
}

static void *reader_of_messages(void *argument)
{
	int fd = *(int *)argument;
	unsigned char got[MESSAGE_MAX];
	uint64_t messages = 0;
	for (uint32_t length; read_all(fd, &length, sizeof length) == sizeof length; messages++) {
		if (length == 0 || length > MESSAGE_MAX)
			fail("message %" PRIu64 " is not whole: a length of %u", messages, length);
		CHECK_UEQ(read_all(fd, got, length), length);
		if (memcmp(got, image, length) != 0)
			fail("message %" PRIu64 " is not whole", messages);
	}
	return NULL;
}

int main(void)
{
	struct side sides[SOCKETS][2];
	_Atomic int senders[SOCKETS];
	pthread_t readers[SOCKETS];
	uint64_t total = 0;
	ctx = create_ctx();
	file = temp_file(MESSAGE_MAX, 3);
	image = image_of(0, MESSAGE_MAX, 3);
	end_ms = now_ms() + RUN_MS;
	for (int i = 0; i < SOCKETS; i++) {
		int sv[2];
		CHECK(pair_sized(i % 2 ? AF_UNIX : AF_INET, sv, 8192, 8192));
		atomic_store(&senders[i], 2);
		for (int k = 0; k < 2; k++) {
			sides[i][k] = (struct side){ .sv = { sv[0], sv[1] }, .tries = k == 0, .senders = &senders[i] };
			PTHREAD(pthread_create(&sides[i][k].thread, NULL, sender_main, &sides[i][k]));
		}
		PTHREAD(pthread_create(&readers[i], NULL, reader_of_messages, &sides[i][0].sv[1]));
	}
	for (int i = 0; i < SOCKETS; i++) {
		for (int k = 0; k < 2; k++) {
			PTHREAD(pthread_join(sides[i][k].thread, NULL));
			total += sides[i][k].sent;
		}
		PTHREAD(pthread_join(readers[i], NULL));
		close_pair(sides[i][0].sv);
	}
	printf("%" PRIu64 " messages\n", total);
	free(image);
	close(file);
	destroy_ctx(ctx);
	return 0;
}
