/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A file server that answers nothing at all, or only slowly the questions for attributes and the closes: submit and
 * try_send come back at once, others go on, what is cancelled ends, and destroy comes back. */
#include "data_fuse.h"

#define SIZE (MIB)
#define SOON 500

NO_LEAK_CHECK

static int64_t worst;

static void in_time(int64_t begin)
{
	worst = now_ms() - begin > worst ? now_ms() - begin : worst;
	CHECK_LE(now_ms() - begin, SOON * slowness());
}

static void others(snapsend_t *ctx, int warm, int sv[2], int count)
{
	static unsigned char got[4096];
	for (int i = 0; i < count; i++) {
		int64_t begin = now_ms();
		struct snapsend_request request = make_request(sv[0], warm, 0, sizeof got);
		wait_done(ctx, submit_ok(ctx, &request), NULL);
		CHECK_UEQ(read_all(sv[1], got, sizeof got), sizeof got);
		in_time(begin);
		sleep_ms(1);
	}
}

/* One that the server keeps from going on, by submit or try_send. */
static uint64_t kept(snapsend_t *ctx, int file, int sv[2], bool try, uint64_t length)
{
	uint64_t id;
	struct snapsend_completion done;
	struct snapsend_request request = make_request(sv[0], file, 0, length);
	int64_t begin = now_ms();
	if (try) {
		CHECK_EQ(snapsend_try_send(ctx, &request, sizeof request, &done), 0);
		id = done.id;
	} else {
		id = submit_ok(ctx, &request);
	}
	in_time(begin);
	return id;
}

static void stopped(const char *path)
{
	for (int i = 0; i < 4; i++) {
		snapsend_t *ctx = create_ctx();
		int file = fuse_open(path, i & 1), warm = temp_file(4096, 3), sv[2], to_warm[2];
		struct snapsend_completion done;
		unix_pair(sv);
		unix_pair(to_warm);
		SYS(kill(fuse_pid, SIGSTOP));
		uint64_t id = kept(ctx, file, sv, i & 2, SNAPSEND_TO_EOF);
		others(ctx, warm, to_warm, 50);
		int64_t begin = now_ms();
		CHECK_EQ(snapsend_cancel(ctx, id), 0);
		wait_done(ctx, id, &done);
		CHECK_EQ(done.status, -ECANCELED);
		in_time(begin);
		kept(ctx, file, sv, i & 2, SIZE);
		others(ctx, warm, to_warm, 5);
		begin = now_ms();
		destroy_ctx(ctx);
		CHECK_LE(now_ms() - begin, 1000 * slowness());
		SYS(kill(fuse_pid, SIGCONT));
		close(file);
		close(warm);
		close_pair(sv);
		close_pair(to_warm);
	}
}

static void slow(const char *path, atomic_int *what, bool direct)
{
	static unsigned char got[SIZE];
	snapsend_t *ctx = create_ctx();
	int file = fuse_open(path, direct), warm = temp_file(4096, 3), sv[2], to_warm[2];
	unix_pair(sv);
	unix_pair(to_warm);
	SYS(pread(file, got, SIZE, 0));
	for (int i = 0; i < 2; i++) {
		struct reader reader;
		struct snapsend_completion done;
		reader_start_check(&reader, sv[1], SIZE, 0, 92);
		atomic_store(what, 300);
		uint64_t id = kept(ctx, file, sv, i, SNAPSEND_TO_EOF);
		others(ctx, warm, to_warm, 300);
		wait_done(ctx, id, &done);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.wire_bytes, SIZE);
		reader_join(&reader);
		atomic_store(what, 0);
	}
	close(file);
	close(warm);
	close_pair(sv);
	close_pair(to_warm);
	destroy_ctx(ctx);
}

int main(void)
{
	fuse_init_flags |= FUSE_AUTO_INVAL_DATA;
	const char *path = fuse_mount(SIZE, 92, 8);
	for (int direct = 0; direct < 2; direct++) {
		doing("slow attributes");
		slow(path, &fuse->attr_delay_ms, direct);
		doing("slow closes");
		slow(path, &fuse->flush_delay_ms, direct);
	}
	doing("stopped");
	stopped(path);
	printf("the slowest took %d ms\n", (int)worst);
	return 0;
}
