/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* file_fd closed right after submit and its number used again for another file: -EBADF, or whole with the
 * right data; never a byte of the other file. */
#include "data_common.h"

#define LENGTH (3 * MIB)
#define ROUNDS 3000

static unsigned char *right;
static unsigned char got[LENGTH];

static void one(snapsend_t *ctx, int sv[2], int file, int other, int round, int outcomes[2])
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, 0 };
	struct snapsend_completion done;
	bool big = round % 16 == 0; /* then the peer reads meanwhile */
	size_t length = big ? LENGTH - 4097 : 1 + (size_t)rand() % (round % 2 ? 4000 : 150000);
	uint64_t offset = (uint64_t)rand() % 4096;
	int number = (int)SYS(fcntl(file, F_DUPFD_CLOEXEC, 900)); /* a number that nobody else takes */
	if (round % 7 == 0)
		drop_cache(file);
	struct snapsend_request request = make_request(sv[0], number, offset, length);
	request.flags = flags[round / 3 % 4];
	uint64_t id = submit_ok(ctx, &request);
	reuse_number(round, number, other);
	size_t taken = 0;
	while (!wait_event(ctx, id, SNAPSEND_EVENT_DONE, &done, big ? 0 : 2))
		if (unread(sv[1]) > 0)
			taken += (size_t)SYS(recv(sv[1], got + taken, 65536, MSG_DONTWAIT));
	CHECK(done.status == 0 || done.status == -EBADF);
	outcomes[done.status == 0]++;
	CHECK_UEQ(read_all(sv[1], got + taken, done.wire_bytes - taken), done.wire_bytes - taken);
	if (memcmp(got, right + offset, done.wire_bytes) != 0)
		fail("round %d: wrong bytes (status %d, %zu bytes, flags %u)", round, done.status,
		     (size_t)done.wire_bytes, request.flags);
	CHECK(done.status != 0 || done.wire_bytes == length);
	CHECK_EQ(unread(sv[1]), 0);
	if (round % 3 != 2)
		close(number);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 57), other = temp_file(LENGTH, 58), sv[2], outcomes[2] = { 0, 0 };
	right = image_of(0, LENGTH, 57);
	srand(57);
	for (int kind = 0; kind < KINDS; kind++) {
		if (!pair_of_kind((enum kind)kind, sv, SHOT_SNDBUF))
			continue;
		for (int round = 0; round < ROUNDS / KINDS; round++)
			one(ctx, sv, file, other, round, outcomes);
		close_pair(sv);
	}
	printf("%d times -EBADF, %d times whole\n", outcomes[0], outcomes[1]);
	destroy_ctx(ctx);
	return 0;
}
