/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* 100,000 registrations one after the other, and as many at once as there may be descriptors, cost no memory that
 * does not come back, also where each is used; and while very many are registered, operations go on as ever. */
#include "registered.h"

#define ROUNDS 5
#define EACH   20000

static snapsend_t *ctx;
static int file;

/* One after the other: each handle sends once, by turns through each call, or is not used at all. */
static void in_turn(int sv[2])
{
	struct ends ends = { .ctx = ctx, .sv = { sv[0], sv[1] }, .file = file };
	char got[100];
	for (int i = 0; i < EACH; i++) {
		ends_register(&ends);
		if (i % 16 == 0) {
			struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, sizeof got);
			CHECK_EQ(call_done(ctx, (enum call)(i / 16 % CALLS), request).status, 0);
			CHECK_UEQ(read_all(sv[1], got, sizeof got), sizeof got);
		}
		unregister_socket_ok(ctx, ends.socket_handle);
		unregister_file_ok(ctx, ends.file_handle);
	}
}

/* All at once: connections, and handles of the same one. */
static void at_once(int (*pairs)[2], int count, int *sockets, int handles)
{
	char got[100];
	int from = register_file_ok(ctx, file);
	for (int i = 0; i < handles; i++)
		sockets[i] = register_socket_ok(ctx, pairs[i % count][0]);
	for (int i = 0; i < count; i++) {
		struct snapsend_request request = make_request(sockets[i * 7919 % count], from, 0, sizeof got);
		request.flags = SNAPSEND_REGISTERED_SOCKET | SNAPSEND_REGISTERED_FILE;
		CHECK_EQ(call_done(ctx, (enum call)(i % CALLS), request).status, 0);
		CHECK_UEQ(read_all(pairs[i * 7919 % count][1], got, sizeof got), sizeof got);
	}
	unregister_file_ok(ctx, from);
	for (int i = 0; i < handles; i++)
		unregister_socket_ok(ctx, sockets[i]);
}

/* What is allocated once the library has been idle for so long that it frees memory. */
static long settled_kib(void)
{
	sleep_ms(1500);
	return allocated_kib();
}

int main(int argc, char **argv)
{
	(void)argc;
	start_without_caches(argv);
	time_limit(110);
	struct rlimit limit;
	raise_fd_limit(9000);
	SYS(getrlimit(RLIMIT_NOFILE, &limit));
	int count = (int)(limit.rlim_cur < 20000 ? limit.rlim_cur : 20000) / 2 - 200, handles = 5 * EACH, sv[2];
	int(*pairs)[2] = calloc((size_t)count, sizeof *pairs), *sockets = calloc((size_t)handles, sizeof *sockets);
	CHECK(pairs != NULL && sockets != NULL);
	memset(sockets, 1, (size_t)handles * sizeof *sockets);
	ctx = create_ctx();
	file = temp_file(1000, 39);
	for (int i = 0; i < count; i++)
		unix_pair(pairs[i]);
	tcp_pair(sv);

	in_turn(sv);
	long first = settled_kib();
	for (int round = 1; round < ROUNDS; round++)
		in_turn(sv);
	long last = settled_kib();
	printf("in turn: %ld KiB after the first %d, %ld KiB after %d\n", first, EACH, last, ROUNDS * EACH);
	CHECK_LE(last, first + 64);

	for (int round = 0; round < 3; round++) {
		at_once(pairs, count, sockets, handles);
		long now = settled_kib();
		printf("%d connections, %d handles at once: %ld KiB afterwards\n", count, handles, now);
		CHECK_LE(now, last + 64);
	}
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	CHECK_UEQ(stats.in_flight, 0);
	destroy_ctx(ctx);
	return 0;
}
