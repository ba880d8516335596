/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* socket_fd closed right after submit and its number used again for another connection: -EBADF, or whole on
 * the right one; never a byte on the other, whose peer listens all the time. The first peer sees the end of
 * its stream soon after. */
#include "data_common.h"

#define LENGTH (2 * MIB)
#define ROUNDS 3000

static unsigned char *image;
static unsigned char got[LENGTH];

static void one(snapsend_t *ctx, enum kind kind, int file, int other[2], int round, int outcomes[2])
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, 0 };
	int sv[2];
	struct snapsend_completion done;
	if (!pair_of_kind(kind, sv, SHOT_SNDBUF))
		return;
	int number = (int)SYS(fcntl(sv[0], F_DUPFD_CLOEXEC, 900));
	close(sv[0]); /* so that the number is the only descriptor */
	bool big = round % 16 == 0;
	size_t length = big ? LENGTH : 1 + (size_t)rand() % (round % 2 ? 4000 : 150000);
	if (round % 7 == 0)
		drop_cache(file);
	struct snapsend_request request = make_request(number, file, 0, length);
	request.flags = flags[round / 3 % 4];
	uint64_t id = submit_ok(ctx, &request);
	reuse_number(round, number, other[0]);
	size_t taken = 0;
	while (!wait_event(ctx, id, SNAPSEND_EVENT_DONE, &done, big ? 0 : 2)) {
		ssize_t n = recv(sv[1], got + taken, LENGTH - taken, MSG_DONTWAIT);
		taken += n > 0 ? (size_t)n : 0;
	}
	CHECK(done.status == 0 || done.status == -EBADF);
	outcomes[done.status == 0]++;
	CHECK_ULE(taken, done.wire_bytes);
	CHECK_UEQ(read_all(sv[1], got + taken, done.wire_bytes - taken), done.wire_bytes - taken);
	CHECK(memcmp(got, image, done.wire_bytes) == 0);
	CHECK(done.status != 0 || done.wire_bytes == length);
	expect_eof(sv[1], 100); /* nobody holds the connection any more */
	expect_silence(other[1]);
	if (round % 3 != 2)
		close(number);
	close(sv[1]);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 61), other[2], outcomes[2] = { 0, 0 };
	image = image_of(0, LENGTH, 61);
	srand(61);
	tcp_pair(other);
	for (int round = 0; round < ROUNDS; round++) {
		if (round == ROUNDS / 2) {
			close_pair(other);
			unix_pair(other);
		}
		one(ctx, (enum kind)(rand() % KINDS), file, other, round, outcomes);
	}
	printf("%d times -EBADF, %d times whole\n", outcomes[0], outcomes[1]);
	expect_silence(other[1]);
	destroy_ctx(ctx);
	return 0;
}
