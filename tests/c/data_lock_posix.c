/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* POSIX record locks of the caller are still held when DONE comes, and after destroy: the process has not
 * closed any descriptor of the file. A forked child looks. */
#include "data_common.h"

#define LENGTH (2 * MIB)

struct state {
	int file;
	short type;
};

/* 0 when another process finds the lock. */
static int held_by_parent(struct state *s)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 50 };
	if (fcntl(s->file, F_GETLK, &lock) != 0)
		return 2;
	return lock.l_type == s->type && lock.l_pid == getppid() && lock.l_start == 100 ? 0 : 1;
}

static void check(void *argument)
{
	struct state *s = argument;
	int status;
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0)
		_exit(held_by_parent(s));
	SYS(waitpid(pid, &status, 0));
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	struct state s = { .file = temp_file(LENGTH, 52) };
	unsigned char *image = image_of(0, LENGTH, 52);
	int sv[2], status;
	for (int i = 0; i < 2; i++) {
		s.type = i ? F_RDLCK : F_WRLCK;
		struct flock lock = { .l_type = s.type, .l_whence = SEEK_SET, .l_start = 100, .l_len = 50 };
		SYS(fcntl(s.file, F_SETLK, &lock));
		check(&s);
		tcp_pair(sv);
		every_way(ctx, sv, s.file, image, LENGTH, NULL, check, &s);
		close_pair(sv);
	}
	/* A cancelled one, and the end of the context. */
	tcp_pair(sv);
	stuff_socket(sv[0]);
	uint64_t id = submit_range(ctx, sv[0], s.file, 0, LENGTH);
	sleep_ms(20);
	check(&s);
	CHECK_EQ(snapsend_cancel(ctx, id), 0);
	wait_done(ctx, id, NULL);
	check(&s);
	destroy_ctx(ctx);
	check(&s);
	/* The check can fail: a descriptor more, closed, and the lock is gone. */
	close((int)SYS(dup(s.file)));
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0)
		_exit(held_by_parent(&s));
	SYS(waitpid(pid, &status, 0));
	CHECK_EQ(WEXITSTATUS(status), 1);
	free(image);
	return 0;
}
