/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* ZEROCOPY with a range of more than 4 GiB: the count is exact and every mark stands where it should. What is in the page
 * cache, around the marks, is sent from there. */
#include "lent.h"

#define START  4095ULL
#define LENGTH (4 * GIB + 3 * MIB + 12345)
#define MARK   (2 * MIB) /* bytes of pattern at each place */

static const uint64_t places[] = { START, 2 * GIB - MIB - 7, 4 * GIB - MIB - 7, START + LENGTH - MARK };

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
	static unsigned char got[MARK];
	int fd = *(int *)argument;
	uint64_t at = START;
	for (size_t i = 0; i < COUNT_OF(places); i++) {
		discard(fd, places[i] - at);
		CHECK_UEQ(read_all(fd, got, MARK), MARK);
		CHECK_UEQ(pattern_bad(got, places[i], MARK, 99), SIZE_MAX);
		at = places[i] + MARK;
	}
	CHECK_UEQ(at, START + LENGTH);
	return NULL;
}

int main(void)
{
	static struct network net;
	struct snapsend_completion done;
	pthread_t thread;
	int sv[2];
	lending_network(&net);
	/* On tmpfs holes take no memory. */
	int file = file_in(private_mounts(), 0, 0);
	SYS(ftruncate(file, (off_t)(START + LENGTH + 4097)));
	for (size_t i = 0; i < COUNT_OF(places); i++)
		pattern_write(file, places[i], MARK, 99);
	snapsend_t *ctx = create_ctx();
	connect_over(&net, PATH_VETH, 4 * MIB, sv);
	PTHREAD(pthread_create(&thread, NULL, read_marks, &sv[1]));
	struct snapsend_request request = lend_request(sv[0], file, START, LENGTH);
	wait_done_ms(ctx, submit_ok(ctx, &request), &done, 55000);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.file_bytes, LENGTH);
	CHECK_UEQ(done.wire_bytes, LENGTH);
	PTHREAD(pthread_join(thread, NULL));
	CHECK_EQ(unread(sv[1]), 0);
	printf("%.1f MiB from the page cache\n", (double)lent_bytes(ctx) / MIB);
	CHECK_UGE(lent_bytes(ctx), 2 * MARK);
	destroy_ctx(ctx);
	return 0;
}
