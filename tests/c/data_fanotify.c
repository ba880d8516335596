/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A virus scanner (fanotify(7), FAN_ACCESS_PERM) that takes its time over a file: other files of the same file
 * system go at once, and what is to be sent of that file can be cancelled, runs out of time, and is destroyed. */
#include "data_common.h"

#include <sys/fanotify.h>
#include <sys/prctl.h>

#define SIZE 100000
#define SOON 700

NO_LEAK_CHECK

/* Looks at each read of the file until the pipe ends, and only then says yes. */
static void scanner(const char *path, int ready, int until)
{
	char byte = 0;
	int group = fanotify_init(FAN_CLASS_CONTENT | FAN_NONBLOCK, O_RDONLY);
	if (group < 0 || fanotify_mark(group, FAN_MARK_ADD, FAN_ACCESS_PERM, AT_FDCWD, path) != 0)
		byte = 1;
	SYS(write(ready, &byte, 1));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(until, &byte, 1) < 0)
		;
	_exit(0); /* with the group all its questions are answered */
}

static pid_t scan(const char *path, int *until)
{
	int ready[2], end[2];
	char byte = 1;
	SYS(pipe2(ready, O_CLOEXEC));
	SYS(pipe2(end, O_CLOEXEC));
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0) {
		close(end[1]);
		scanner(path, ready[1], end[0]);
	}
	close(end[0]);
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	if (byte != 0)
		skip("no fanotify here");
	close_pair(ready);
	*until = end[1];
	return pid;
}

static void one(int scanned, int until, pid_t pid, int count)
{
	snapsend_t *ctx = create_ctx();
	struct snapsend_completion done;
	int sv[40][2], other[2];
	uint64_t ids[40];
	for (int i = 0; i < count; i++) {
		unix_pair(sv[i]);
		struct snapsend_request request = make_request(sv[i][0], scanned, 0, SIZE);
		request.timeout_ms = i % 2 ? 200 : 0;
		ids[i] = submit_ok(ctx, &request);
	}
	sleep_ms(50);
	for (int i = 0; i < 20; i++) { /* files that nobody has read before, each by submit and by send */
		int file = temp_file(SIZE, 7);
		struct reader reader;
		unix_pair(other);
		reader_start_check(&reader, other[1], SIZE, 0, 7);
		int64_t begin = now_ms();
		CHECK_EQ(call_done(ctx, (enum call)(i % 2), make_request(other[0], file, 0, SIZE)).status, 0);
		CHECK_LE(now_ms() - begin, SOON * slowness());
		reader_join(&reader);
		close_pair(other);
		close(file);
	}
	int64_t begin = now_ms();
	for (int i = 0; i < count; i += 2)
		CHECK_EQ(snapsend_cancel(ctx, ids[i]), 0);
	for (int i = 0; i < count; i++) {
		wait_done(ctx, ids[i], &done);
		CHECK_EQ(done.status, i % 2 ? -ETIMEDOUT : -ECANCELED);
		CHECK_UEQ(done.wire_bytes, 0);
	}
	CHECK_LE(now_ms() - begin, SOON * slowness());
	struct snapsend_request request = make_request(sv[0][0], scanned, 0, SIZE);
	submit_ok(ctx, &request); /* destroyed */
	sleep_ms(20);
	begin = now_ms();
	destroy_ctx(ctx);
	CHECK_LE(now_ms() - begin, 1000 * slowness());
	close(until);
	SYS(waitpid(pid, NULL, 0));
	for (int i = 0; i < count; i++)
		close_pair(sv[i]);
}

int main(void)
{
	static const int counts[] = { 1, 40 };
	root_or_skip();
	for (size_t i = 0; i < COUNT_OF(counts); i++) {
		char path[PATH_MAX];
		int until, made = temp_file_path(SIZE, 6, path);
		pid_t pid = scan(path, &until);
		int file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC)); /* those opened before are not looked at */
		close(made);
		one(file, until, pid, counts[i]);
		/* Once it has been looked at it is sent like any other. */
		snapsend_t *ctx = create_ctx();
		int sv[2];
		unsigned char *image = image_of(0, SIZE, 6);
		tcp_pair(sv);
		transfer_ok(ctx, sv, make_request(-1, file, 0, SIZE), image, SIZE);
		free(image);
		close_pair(sv);
		close(file);
		destroy_ctx(ctx);
	}
	return 0;
}
