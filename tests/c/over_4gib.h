/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the tests of ranges of more than 4 GiB share, beyond data_common.h: a file of holes with marks at some places.
 *
 *   write_marks  fills the file
 *   marks_ok     one operation to a peer that finds each mark in its place, and nothing else
 */
#ifndef SNAPSEND_TESTS_OVER_4GIB_H
#define SNAPSEND_TESTS_OVER_4GIB_H

#include "data_common.h"

#define START    4095ULL
#define LENGTH   (4 * GIB + 3 * MIB + 12345)
#define MARK_MAX (2 * MIB)
#define LOOK     4096 /* bytes that are compared now and then between the marks */
#define SEED     6

struct marks {
	int file, socket;       /* the socket is the peer's */
	const uint64_t *places; /* the first is START; the last mark ends the range */
	size_t count;
	size_t length; /* bytes of pattern at each place */
};

static inline void write_marks(const struct marks *marks)
{
	if (ftruncate(marks->file, (off_t)(START + LENGTH + 4097)) != 0)
		skip("no files of this size here");
	for (size_t i = 0; i < marks->count; i++)
		pattern_write(marks->file, marks->places[i], marks->length, SEED);
}

/* Thrown away inside the kernel: copying would take most of the time. */
static inline void discard(int fd, uint64_t length)
{
	while (length > 0) {
		ssize_t n = recv(fd, NULL, length < MIB ? length : MIB, MSG_TRUNC);
		CHECK_GT(n, 0);
		length -= (uint64_t)n;
	}
}

static inline void *read_marks(void *argument)
{
	static unsigned char got[MARK_MAX], zeros[LOOK];
	const struct marks *marks = argument;
	uint64_t at = START;
	for (size_t i = 0; i < marks->count; i++) {
		while (marks->places[i] - at > 64 * MIB) {
			discard(marks->socket, 64 * MIB - LOOK);
			CHECK_UEQ(read_all(marks->socket, got, LOOK), LOOK);
			CHECK(memcmp(got, zeros, LOOK) == 0);
			at += 64 * MIB;
			/* What has been passed leaves the page cache: no machine needs 4 GiB for this test. */
			posix_fadvise(marks->file, 0, (off_t)(at & ~(MIB - 1)), POSIX_FADV_DONTNEED);
		}
		discard(marks->socket, marks->places[i] - at);
		CHECK_UEQ(read_all(marks->socket, got, marks->length), marks->length);
		CHECK_UEQ(pattern_bad(got, marks->places[i], marks->length, SEED), SIZE_MAX);
		at = marks->places[i] + marks->length;
	}
	CHECK_UEQ(at, START + LENGTH);
	return NULL;
}

static inline void marks_ok(snapsend_t *ctx, struct marks *marks, const struct snapsend_request *request)
{
	struct snapsend_completion done;
	pthread_t thread;
	PTHREAD(pthread_create(&thread, NULL, read_marks, marks));
	wait_done_ms(ctx, submit_ok(ctx, request), &done, 55000);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.file_bytes, LENGTH);
	CHECK_UEQ(done.wire_bytes, LENGTH);
	PTHREAD(pthread_join(thread, NULL));
	CHECK_EQ(unread(marks->socket), 0);
}

#endif
