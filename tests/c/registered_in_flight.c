/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is unregistered with operations in flight, or closed by the caller, goes on to its end; then the library has
 * no copy any more: the peer sees the end of the stream, locks are released, the file system can be unmounted. */
#include "registered.h"

#define LENGTH (8 * MIB)

static int open_file(const char *dir)
{
	return file_in(dir, LENGTH, 34);
}

/* Three operations, of which only the first has begun; all of the caller's own is gone before the peer reads. */
static void closed_early(snapsend_t *ctx, const char *dir, enum kind kind, bool unregister_first)
{
	struct ends ends;
	struct reader readers[3];
	uint64_t ids[3];
	struct snapsend_completion done;
	ends_open(&ends, ctx, kind, open_file(dir));
	struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, LENGTH);
	for (int i = 0; i < 3; i++)
		ids[i] = submit_ok(ctx, &request);
	if (unregister_first) {
		unregister_socket_ok(ctx, ends.socket_handle);
		unregister_file_ok(ctx, ends.file_handle);
	}
	close(ends.sv[0]);
	close(ends.file);
	if (!unregister_first) {
		unregister_file_ok(ctx, ends.file_handle);
		unregister_socket_ok(ctx, ends.socket_handle);
	}
	CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, NULL), EBADF);
	expect_nothing(ctx, 20);
	for (int i = 0; i < 3; i++) {
		reader_start_check(&readers[i], ends.sv[1], LENGTH, 0, 34);
		wait_done(ctx, ids[i], &done);
		CHECK_EQ(done.status, 0);
		reader_join(&readers[i]);
	}
	expect_eof(ends.sv[1], WAIT_MS);
	close(ends.sv[1]);
}

/* Idle: the copies are closed by unregistering itself. */
static void closed_idle(snapsend_t *ctx, const char *dir, enum kind kind)
{
	struct ends ends;
	struct snapsend_completion done;
	struct reader reader;
	ends_open(&ends, ctx, kind, open_file(dir));
	close(ends.sv[0]);
	close(ends.file);
	struct snapsend_request request = ends_request(&ends, BY_HANDLE, 100, 1000);
	reader_start_check(&reader, ends.sv[1], 1000, 100, 34);
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK_EQ(done.status, 0);
	reader_join(&reader);
	sleep_ms(20);
	expect_silence(ends.sv[1]);
	unregister_file_ok(ctx, ends.file_handle);
	unregister_socket_ok(ctx, ends.socket_handle);
	expect_eof(ends.sv[1], 400 * slowness()); /* long before memory goes back */
	close(ends.sv[1]);
}

/* Another registration of the same socket keeps it. */
static void registered_twice(snapsend_t *ctx, const char *dir)
{
	struct ends first, second;
	struct snapsend_completion done;
	struct reader reader;
	ends_open(&first, ctx, UNIX, open_file(dir));
	second = first;
	ends_register(&second);
	CHECK_NE(first.socket_handle, second.socket_handle);
	CHECK_NE(first.file_handle, second.file_handle);
	close(first.sv[0]);
	close(first.file);
	unregister_socket_ok(ctx, first.socket_handle);
	unregister_file_ok(ctx, first.file_handle);
	for (int i = 0; i < 2; i++) {
		struct snapsend_request request = ends_request(&second, BY_HANDLE, 0, LENGTH);
		reader_start_check(&reader, second.sv[1], LENGTH, 0, 34);
		wait_done(ctx, submit_ok(ctx, &request), &done);
		CHECK_EQ(done.status, 0);
		reader_join(&reader);
		sleep_ms(20);
	}
	unregister_socket_ok(ctx, second.socket_handle);
	unregister_file_ok(ctx, second.file_handle);
	expect_eof(second.sv[1], WAIT_MS);
	close(second.sv[1]);
}

/* A lease for writing needs the only copy of the open file; a record lock goes when a copy in the same table does. */
static void nothing_is_kept(snapsend_t *ctx, const char *dir)
{
	char path[PATH_MAX];
	struct ends ends;
	struct snapsend_completion done;
	struct reader reader;
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	snprintf(path, sizeof path, "%s/locked", dir);
	int file = (int)SYS(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)), status;
	pattern_write(file, 0, LENGTH, 34);
	SYS(fcntl(file, F_SETLK, &lock));
	ends_open(&ends, ctx, UNIX, file);
	struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, LENGTH);
	uint64_t id = submit_ok(ctx, &request);
	unregister_file_ok(ctx, ends.file_handle);
	reader_start_check(&reader, ends.sv[1], LENGTH, 0, 34);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	reader_join(&reader);
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0)
		_exit(fcntl(file, F_SETLK, &lock) != 0 ? 0 : 1);
	SYS(waitpid(pid, &status, 0));
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0); /* the lock is still the parent's */
	lock.l_type = F_UNLCK;
	SYS(fcntl(file, F_SETLK, &lock));
	if (fcntl(file, F_SETLEASE, F_WRLCK) != 0)
		fail("the file is still open somewhere: %s", strerror(errno));
	SYS(fcntl(file, F_SETLEASE, F_UNLCK));
	close(file);
	unlink(path);
	unregister_socket_ok(ctx, ends.socket_handle);
	close_pair(ends.sv);
}

static void unmounted(snapsend_t *ctx, const char *dir)
{
	for (int i = 0; i < 2; i++) {
		struct ends ends;
		struct snapsend_completion done;
		struct reader reader;
		SYS(mount("none", dir, "tmpfs", 0, NULL));
		ends_open(&ends, ctx, TCP4, open_file(dir));
		close(ends.file);
		CHECK(umount2(dir, 0) != 0 && errno == EBUSY); /* registered */
		struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, LENGTH);
		uint64_t id = submit_ok(ctx, &request);
		if (i == 0)
			unregister_file_ok(ctx, ends.file_handle);
		reader_start_check(&reader, ends.sv[1], LENGTH, 0, 34);
		wait_done(ctx, id, &done);
		CHECK_EQ(done.status, 0);
		if (i == 1) {
			CHECK(umount2(dir, 0) != 0 && errno == EBUSY);
			unregister_file_ok(ctx, ends.file_handle);
			CHECK_EQ(snapsend_cancel_socket(ctx, ends.sv[0]), 0); /* the ring thread has read that */
		}
		if (umount2(dir, 0) != 0)
			fail("unmount after unregistering: %s", strerror(errno));
		reader_join(&reader);
		unregister_socket_ok(ctx, ends.socket_handle);
		close_pair(ends.sv);
	}
}

int main(void)
{
	const char *top = private_mounts();
	char dir[PATH_MAX];
	snprintf(dir, sizeof dir, "%s/here", top);
	SYS(mkdir(dir, 0700));
	snapsend_t *ctx = create_ctx();
	for (int kind = TCP4; kind < KINDS; kind++) {
		if (!kind_exists((enum kind)kind))
			continue;
		doing(kind_name[kind]);
		closed_early(ctx, top, (enum kind)kind, false);
		closed_early(ctx, top, (enum kind)kind, true);
		closed_idle(ctx, top, (enum kind)kind);
	}
	doing("registered twice");
	registered_twice(ctx, top);
	doing("nothing is kept");
	nothing_is_kept(ctx, top);
	doing("unmounted");
	unmounted(ctx, dir);
	destroy_ctx(ctx);
	return 0;
}
