/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Operations on one socket go out whole, and those of a thread in its order, through handles and descriptors mixed
 * at random, by every call: from one thread, and from several. */
#include "registered.h"

#define THREADS  4
#define MESSAGES 400
#define GROUP    9

struct frame { /* goes out as the header */
	uint32_t thread, sequence;
	uint64_t offset, length;
};

struct part {
	pthread_t thread;
	uint32_t number;
	unsigned random;
	uint32_t next;
	uint64_t ids[MESSAGES];
};

static struct ends ends;

static struct snapsend_request next_request(struct part *part, struct frame *frame, struct iovec *head)
{
	static const uint32_t flags[] = { 0, 0, 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_MORE };
	uint32_t sequence = part->next++;
	uint64_t length = rand_r(&part->random) % 40 == 0 ? 300000 : (unsigned)rand_r(&part->random) % 9000;
	*frame = (struct frame){ part->number, sequence, sequence * 10u + part->number, length };
	*head = (struct iovec){ frame, sizeof *frame };
	struct snapsend_request request = ends_request(&ends, rand_r(&part->random) % 4, frame->offset, frame->length);
	request.flags |= flags[(unsigned)rand_r(&part->random) % COUNT_OF(flags)];
	request.header = head;
	request.header_count = 1;
	return request;
}

static void send_one(struct part *part)
{
	struct frame frame;
	struct iovec head;
	struct snapsend_completion done;
	uint32_t at = part->next;
	struct snapsend_request request = next_request(part, &frame, &head);
	switch (rand_r(&part->random) % 6) {
	case 0:
		CHECK_EQ(snapsend_send(ends.ctx, &request, sizeof request, &done), 0);
		CHECK_EQ(done.status, 0);
		break;
	case 1:
	case 2: {
		int result = snapsend_try_send(ends.ctx, &request, sizeof request, &done);
		CHECK(result == 0 || result == 1);
		if (result == 1)
			CHECK_EQ(done.status, 0);
		else
			part->ids[at] = done.id;
		break;
	}
	default: part->ids[at] = submit_ok(ends.ctx, &request);
	}
}

/* Registered and not in one call. */
static void send_group(struct part *part)
{
	struct frame frames[GROUP];
	struct iovec heads[GROUP];
	struct snapsend_request requests[GROUP];
	uint32_t at = part->next;
	for (int i = 0; i < GROUP; i++)
		requests[i] = next_request(part, &frames[i], &heads[i]);
	CHECK_EQ(snapsend_submit_many(ends.ctx, requests, sizeof requests[0], GROUP, part->ids + at), GROUP);
}

static void *sender(void *argument)
{
	struct part *part = argument;
	while (part->next < MESSAGES) {
		if (part->next + GROUP <= MESSAGES && rand_r(&part->random) % 5 == 0)
			send_group(part);
		else
			send_one(part);
		if (rand_r(&part->random) % 50 == 0) /* so that the ring thread falls asleep */
			usleep((useconds_t)rand_r(&part->random) % 3000);
	}
	for (uint32_t i = 0; i < MESSAGES; i++) {
		struct snapsend_completion done;
		if (part->ids[i] == 0)
			continue;
		wait_done(ends.ctx, part->ids[i], &done);
		CHECK_EQ(done.status, 0);
	}
	return NULL;
}

static void receive(int threads)
{
	static unsigned char data[300000];
	uint32_t next[THREADS] = { 0 };
	for (int i = 0; i < threads * MESSAGES; i++) {
		struct frame frame;
		CHECK_EQ(read_all(ends.sv[1], &frame, sizeof frame), sizeof frame);
		if (frame.thread >= THREADS || frame.sequence >= MESSAGES || frame.length > sizeof data)
			fail("message %d: not a frame", i);
		CHECK_UEQ(frame.sequence, next[frame.thread]);
		next[frame.thread]++;
		CHECK_EQ(read_all(ends.sv[1], data, frame.length), frame.length);
		CHECK(pattern_bad(data, frame.offset, frame.length, 32) == SIZE_MAX);
	}
}

int main(void)
{
	static struct part parts[THREADS];
	allow_few_descriptors();
	snapsend_t *ctx = create_ctx();
	int file = temp_file(310000, 32), room = room_for_registrations(ctx, file);
	for (int round = 0; round < 8; round++) {
		int threads = round % 4 < 2 ? 1 : THREADS;
		ends_open(&ends, ctx, round % 2 ? TCP4 : UNIX, file);
		for (int i = 0; i < threads; i++) {
			memset(&parts[i], 0, sizeof parts[i]);
			parts[i].number = (uint32_t)i;
			parts[i].random = (unsigned)(round * THREADS + i);
			PTHREAD(pthread_create(&parts[i].thread, NULL, sender, &parts[i]));
		}
		receive(threads);
		for (int i = 0; i < threads; i++)
			PTHREAD(pthread_join(parts[i].thread, NULL));
		CHECK_UEQ(drain(ends.sv[1], 20), 0);
		ends_close(&ends);
	}
	CHECK_EQ(room_for_registrations(ctx, file), room);
	destroy_soon(ctx);
	return 0;
}
