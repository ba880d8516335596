/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* As many registrations as RLIMIT_NOFILE allows, then -EMFILE, and as many again after they are unregistered; also
 * after a limit that was lowered meanwhile made the kernel drop descriptors on their way: operations with those
 * handles give -EMFILE. */
#include "registered.h"

#define LIMIT  300
#define HIGH   (LIMIT + 100)
#define LENGTH 1000

static int handles[HIGH + 1];

static void limit_to(rlim_t soft)
{
	struct rlimit limit;
	SYS(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = soft;
	SYS(setrlimit(RLIMIT_NOFILE, &limit));
}

/* Registers a file until that is refused; how many were accepted. */
static int fill(snapsend_t *ctx, int file)
{
	for (int i = 0; i < HIGH; i++) {
		handles[i] = snapsend_register_file(ctx, file, 0);
		if (handles[i] > 0)
			continue;
		CHECK_EQ(handles[i], -EMFILE);
		return i;
	}
	fail("more registrations than descriptors");
}

static void empty(snapsend_t *ctx, int count)
{
	for (int i = 0; i < count; i++)
		unregister_file_ok(ctx, handles[i]);
}

static void settle(snapsend_t *ctx, int socket)
{
	(void)snapsend_cancel_socket(ctx, socket); /* the ring thread has read what came before */
}

static int transfer(snapsend_t *ctx, int sv[2], int handle)
{
	static unsigned char got[LENGTH];
	struct snapsend_completion done;
	uint64_t id;
	struct snapsend_request request = make_request(sv[0], handle, 0, LENGTH);
	request.flags = SNAPSEND_REGISTERED_FILE;
	int result = snapsend_submit(ctx, &request, sizeof request, &id);
	if (result != 0)
		return result;
	wait_done(ctx, id, &done);
	if (done.status == 0)
		CHECK_UEQ(read_all(sv[1], got, LENGTH), LENGTH);
	return done.status;
}

int main(void)
{
	int sv[2], file = temp_file(LENGTH, 1), spare;
	if (!has_statmount())
		skip("without statmount(2) a helper thread may close what was unregistered, and the room comes later");
	raise_fd_limit(LIMIT);
	limit_to(LIMIT);
	snapsend_t *ctx = create_ctx();
	unix_pair(sv);
	int count = fill(ctx, file);
	printf("%d registrations with a limit of %d descriptors\n", count, LIMIT);
	CHECK_GE(count, LIMIT - 40);
	CHECK_LT(count, LIMIT);
	CHECK_ERR(snapsend_register_socket(ctx, sv[0], 0), EMFILE);
	for (int round = 0; round < 20; round++) {
		empty(ctx, count);
		settle(ctx, sv[0]);
		CHECK_EQ(fill(ctx, file), count);
	}
	CHECK_EQ(transfer(ctx, sv, handles[0]), -EMFILE); /* no room for the socket */
	unregister_file_ok(ctx, handles[--count]);
	settle(ctx, sv[0]);
	CHECK_EQ(transfer(ctx, sv, handles[0]), 0);
	CHECK_EQ(transfer(ctx, sv, handles[count - 1]), 0);
	unregister_file_ok(ctx, handles[--count]);
	settle(ctx, sv[0]);
	empty(ctx, count);
	settle(ctx, sv[0]);

	doing("a limit lowered in between");
	for (int round = 0; round < 3; round++) {
		limit_to(32); /* the library still goes by the old limit */
		for (int i = 0; i < LIMIT / 2; i++)
			handles[i] = register_file_ok(ctx, file);
		spare = register_socket_ok(ctx, sv[0]);
		settle(ctx, sv[0]);
		CHECK_EQ(transfer(ctx, sv, handles[LIMIT / 2 - 1]), -EMFILE);
		limit_to(LIMIT);
		CHECK_EQ(transfer(ctx, sv, handles[0]), 0);
		empty(ctx, LIMIT / 2);
		unregister_socket_ok(ctx, spare);
		settle(ctx, sv[0]);
	}
	count = fill(ctx, file);
	CHECK_GE(count, LIMIT - 40);
	empty(ctx, count);
	destroy_ctx(ctx);
	return 0;
}
