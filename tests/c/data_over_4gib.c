/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* More than 4 GiB in one operation: the count is exact and every mark stands where it should. */
#include "data_common.h"

#define START  4095ULL
#define LENGTH (4 * GIB + 3 * MIB + 12345)
#define MARK   4096 /* bytes of pattern at each place */

static const uint64_t places[] = {
	START, MIB - 7, 2 * GIB - 2048, 4 * GIB - 2048, 4 * GIB + MIB, START + LENGTH - MARK
};

static int file;

/* Thrown away inside the kernel: copying would take most of the time. */
static void discard(int fd, uint64_t length)
{
	while (length > 0) {
		ssize_t n = recv(fd, NULL, length < MIB ? length : MIB, MSG_TRUNC);
		CHECK_GT(n, 0);
		length -= (uint64_t)n;
	}
}

static void *read_marks(void *argument)
{
	static unsigned char got[MARK], zeros[MARK];
	int fd = *(int *)argument;
	uint64_t at = START;
	for (size_t i = 0; i < COUNT_OF(places); i++) {
		while (places[i] - at > 64 * MIB) { /* a look at what lies between, too */
			discard(fd, 64 * MIB - MARK);
			CHECK_UEQ(read_all(fd, got, MARK), MARK);
			CHECK(memcmp(got, zeros, MARK) == 0);
			at += 64 * MIB;
			/* What has been passed leaves the page cache: no machine needs 4 GiB for this test. */
			posix_fadvise(file, 0, (off_t)(at & ~(MIB - 1)), POSIX_FADV_DONTNEED);
		}
		discard(fd, places[i] - at);
		CHECK_UEQ(read_all(fd, got, MARK), MARK);
		CHECK_UEQ(pattern_bad(got, places[i], MARK, 6), SIZE_MAX);
		at = places[i] + MARK;
	}
	CHECK_UEQ(at, START + LENGTH);
	return NULL;
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	struct snapsend_completion done;
	int sv[2];
	file = temp_file(0, 0);
	if (ftruncate(file, (off_t)(START + LENGTH + 4097)) != 0)
		skip("no files of this size here");
	for (size_t i = 0; i < COUNT_OF(places); i++)
		pattern_write(file, places[i], MARK, 6);
	tcp_pair(sv);
	pthread_t thread;
	PTHREAD(pthread_create(&thread, NULL, read_marks, &sv[1]));
	struct snapsend_request request = make_request(sv[0], file, START, LENGTH);
	wait_done_ms(ctx, submit_ok(ctx, &request), &done, 55000);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.file_bytes, LENGTH);
	CHECK_UEQ(done.wire_bytes, LENGTH);
	PTHREAD(pthread_join(thread, NULL));
	CHECK_EQ(unread(sv[1]), 0);
	destroy_ctx(ctx);
	return 0;
}
