/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A registered file on a file system that answers late: no call waits for its reads, and none, nor an operation with
 * another file, for its close, which unregistering and destroy ask for. */
#include "data_fuse.h"
#include "registered.h"

#define SIZE    (3 * MIB)
#define LATE_MS 3000
#define SOON_MS 1000

static int64_t begun;

static void begin(void)
{
	begun = now_ms();
}

static void soon(const char *what)
{
	int64_t took = now_ms() - begun;
	if (took > SOON_MS * slowness())
		fail("%s took %d ms", what, (int)took);
}

/* Reads are not answered at all. */
static void reads(snapsend_t *ctx, int file)
{
	struct ends ends;
	struct reader reader;
	struct snapsend_completion done;
	ends_open(&ends, ctx, UNIX, file);
	struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, SIZE);
	atomic_store(&fuse->hold, true);
	begin();
	CHECK_EQ(snapsend_try_send(ctx, &request, sizeof request, &done), 0);
	soon("try_send");
	uint64_t id = done.id, second = submit_ok(ctx, &request);
	soon("submit");
	expect_nothing(ctx, 20);
	atomic_store(&fuse->hold, false);
	reader_start_check(&reader, ends.sv[1], SIZE, 0, 42);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	reader_join(&reader);
	reader_start_check(&reader, ends.sv[1], SIZE, 0, 42);
	wait_done(ctx, second, &done);
	CHECK_EQ(done.status, 0);
	reader_join(&reader);
	ends_close(&ends);
}

static void closes(snapsend_t *ctx, int file, bool used)
{
	struct ends slow, quick;
	char got[1000];
	int local = temp_file(sizeof got, 42);
	ends_open(&slow, ctx, UNIX, file);
	ends_open(&quick, ctx, UNIX, local);
	struct snapsend_request request = ends_request(&slow, BY_HANDLE, 0, sizeof got);
	if (used) {
		CHECK_EQ(call_done(ctx, CALL_SUBMIT, request).status, 0);
		swallow(slow.sv[1], sizeof got);
	}
	atomic_store(&fuse->flush_delay_ms, LATE_MS);
	begin();
	unregister_file_ok(ctx, slow.file_handle);
	request = ends_request(&quick, BY_HANDLE, 0, sizeof got);
	CHECK_EQ(call_done(ctx, CALL_SUBMIT, request).status, 0);
	soon("an operation with another file");
	swallow(quick.sv[1], sizeof got);
	slow.file_handle = register_file_ok(ctx, file);
	soon("registering anew");
	atomic_store(&fuse->flush_delay_ms, 0);
	ends_close(&slow);
	ends_close(&quick);
	close(local);
}

static void destroyed(int file, bool used)
{
	struct ends ends;
	snapsend_t *ctx = create_ctx();
	ends_open(&ends, ctx, UNIX, file);
	struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, 1000);
	if (used)
		CHECK_EQ(call_done(ctx, CALL_SUBMIT, request).status, 0);
	atomic_store(&fuse->flush_delay_ms, LATE_MS);
	begin();
	destroy_ctx(ctx);
	soon("destroy");
	atomic_store(&fuse->flush_delay_ms, 0);
	close_pair(ends.sv);
}

int main(void)
{
	const char *path = fuse_mount(SIZE, 42, 16);
	snapsend_t *ctx = create_ctx();
	for (int direct = 0; direct < 2; direct++) {
		int file = fuse_open(path, direct);
		doing(direct ? "direct" : "with the page cache");
		reads(ctx, file);
		for (int used = 0; used < 2; used++) {
			closes(ctx, file, used);
			destroyed(file, used);
		}
		close(file);
	}
	destroy_ctx(ctx);
	return 0;
}
