/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Several threads submit framed messages to one socket, by every way there is: each goes out whole, and
 * those of one thread in its order. */
#include "common.h"

#define THREADS  5
#define MESSAGES 300

struct frame { /* goes out as the header */
	uint32_t thread, sequence;
	uint64_t offset, length;
};

static snapsend_t *ctx;
static int sv[2];
static int file;

static void *sender(void *argument)
{
	uint32_t number = *(uint32_t *)argument;
	uint64_t ids[MESSAGES];
	for (uint32_t i = 0; i < MESSAGES; i++) {
		uint64_t length = i % 40 == 7 ? 300000 : (i * 131u) % 9000;
		struct frame frame = { number, i, i * 10u + number, length };
		struct iovec head = { &frame, sizeof frame }, tail = { "end", 3 };
		struct snapsend_request request = make_request(sv[0], file, frame.offset, length);
		struct snapsend_completion completion = { 0 };
		request.header = &head;
		request.header_count = 1;
		request.trailer = &tail;
		request.trailer_count = 1;
		static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_MORE };
		request.flags = flags[i % 4];
		ids[i] = 0;
		if (i % 7 == 3) {
			CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
		} else if (i % 7 == 5) {
			int result = snapsend_try_send(ctx, &request, sizeof request, &completion);
			CHECK_GE(result, 0);
			if (result == 0)
				ids[i] = completion.id;
		} else {
			ids[i] = submit_ok(ctx, &request);
		}
		if (ids[i] == 0)
			CHECK_EQ(completion.status, 0);
		memset(&frame, 0xff, sizeof frame); /* copied at submit */
	}
	for (uint32_t i = 0; i < MESSAGES; i++) {
		struct snapsend_completion completion;
		if (ids[i] == 0)
			continue;
		wait_done(ctx, ids[i], &completion);
		CHECK_EQ(completion.status, 0);
	}
	return NULL;
}

static void receive(void)
{
	static unsigned char data[300000];
	uint32_t next[THREADS] = { 0 };
	char end[3];
	for (int i = 0; i < THREADS * MESSAGES; i++) {
		struct frame frame;
		CHECK_EQ(read_all(sv[1], &frame, sizeof frame), sizeof frame);
		if (frame.thread >= THREADS || frame.sequence >= MESSAGES || frame.length > sizeof data)
			fail("message %d: not a frame", i);
		CHECK_UEQ(frame.sequence, next[frame.thread]);
		next[frame.thread]++;
		CHECK_EQ(read_all(sv[1], data, frame.length), frame.length);
		CHECK(pattern_bad(data, frame.offset, frame.length, 1) == SIZE_MAX);
		CHECK_EQ(read_all(sv[1], end, 3), 3);
		CHECK(memcmp(end, "end", 3) == 0);
	}
}

int main(void)
{
	pthread_t threads[THREADS];
	uint32_t numbers[THREADS];
	ctx = create_ctx();
	file = temp_file(310000, 1);
	for (int family = 0; family < 2; family++) {
		if (family == 0)
			tcp_pair(sv);
		else
			unix_pair(sv);
		for (uint32_t i = 0; i < THREADS; i++) {
			numbers[i] = i;
			PTHREAD(pthread_create(&threads[i], NULL, sender, &numbers[i]));
		}
		receive();
		for (int i = 0; i < THREADS; i++)
			PTHREAD(pthread_join(threads[i], NULL));
		CHECK_UEQ(drain(sv[1], 20), 0);
		close(sv[0]);
		close(sv[1]);
	}
	destroy_ctx(ctx);
	return 0;
}
