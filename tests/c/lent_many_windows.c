/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A registered file with so many windows that unmapping them takes long beside other work. It is unregistered while an
 * operation of it is in flight: once that one's DONE is reported, nothing of the file is mapped. */
#include "lent.h"

enum { WINDOWS = 4000, LOADS = 4, LOAD_OPERATIONS = 100 };

#define WINDOW (2 * MIB)
#define PIECE  (16 * KIB)
#define LOAD   (8 * MIB)

static struct network net;
static char path[PATH_MAX];
static struct pair {
	int sv[2];
	pthread_t thread;
} loads[LOADS];

/* Reads until the stream ends. */
static void *discard(void *pair)
{
	static unsigned char sink[MIB];
	while (recv(((struct pair *)pair)->sv[1], sink, sizeof sink, MSG_TRUNC) > 0)
		;
	return NULL;
}

/* Long operations to peers that read at once: after each window the ring thread has others to serve. */
static void begin_load(snapsend_t *ctx)
{
	int file = temp_file(LOAD, 98);
	for (int i = 0; i < LOADS; i++) {
		CHECK(pair_of_kind(TCP4, loads[i].sv, 0));
		PTHREAD(pthread_create(&loads[i].thread, NULL, discard, &loads[i]));
		for (int k = 0; k < LOAD_OPERATIONS; k++) {
			struct snapsend_request request = make_request(loads[i].sv[0], file, 0, LOAD);
			submit_ok(ctx, &request);
		}
	}
	close(file);
}

static void end_load(void)
{
	for (int i = 0; i < LOADS; i++) {
		close(loads[i].sv[0]);
		PTHREAD(pthread_join(loads[i].thread, NULL));
		close(loads[i].sv[1]);
	}
}

/* One piece of each window, acknowledged. */
static void map_all(snapsend_t *ctx, int handle)
{
	struct snapsend_completion done;
	struct pair pair;
	connect_over(&net, PATH_VETH, 0, pair.sv);
	PTHREAD(pthread_create(&pair.thread, NULL, discard, &pair));
	for (uint64_t i = 0; i < WINDOWS; i++) {
		struct snapsend_request request = lend_request(pair.sv[0], handle, i * WINDOW, PIECE);
		request.flags |= SNAPSEND_REGISTERED_FILE;
		wait_done(ctx, submit_ok(ctx, &request), &done);
		CHECK_EQ(done.status, 0);
	}
	close(pair.sv[0]);
	PTHREAD(pthread_join(pair.thread, NULL));
	close(pair.sv[1]);
	printf("%d windows\n", count_mappings(path));
	CHECK_GE(count_mappings(path), WINDOWS / 2);
}

int main(void)
{
	snapsend_t *ctx;
	struct snapsend_completion done;
	int sv[2], file = temp_file_path(PIECE, 97, path);
	static unsigned char piece[PIECE];
	lending_network(&net);
	ctx = create_ctx();
	SYS(ftruncate(file, (off_t)(WINDOWS * WINDOW)));
	for (int i = 0; i < WINDOWS; i++)
		SYS(pread(file, piece, PIECE, (off_t)(i * WINDOW)));
	acquaint(ctx, file);
	int handle = snapsend_register_file(ctx, file, 0);
	CHECK_GE(handle, 0);
	map_all(ctx, handle);
	unix_pair(sv);
	struct snapsend_request request = make_request(sv[0], handle, 0, WINDOW);
	request.flags = SNAPSEND_REGISTERED_FILE;
	uint64_t id = submit_ok(ctx, &request);
	CHECK_EQ(snapsend_unregister_file(ctx, handle), 0);
	close(file);
	while (unread(sv[1]) == 0)
		sleep_ms(1);
	begin_load(ctx);
	int64_t begin = now_ms();
	CHECK_EQ(snapsend_cancel(ctx, id), 0);
	wait_done(ctx, id, &done);
	int left = count_mappings(path);
	printf("DONE after %lld ms, %d windows left\n", (long long)(now_ms() - begin), left);
	CHECK_EQ(done.status, -ECANCELED);
	CHECK_EQ(left, 0);
	destroy_ctx(ctx);
	end_load();
	close_pair(sv);
	return 0;
}
