/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Children of children, each with a context of its own and those of its ancestors; and programs started by posix_spawn,
 * vfork and system, which share or drop the parent's memory: the parent's operations in flight notice nothing. */
#include "manners_common.h"

#include <spawn.h>

#define DEPTH  5
#define LENGTH (6 * MIB)

extern char **environ;

static snapsend_t *contexts[DEPTH];
static int file;

static void one_transfer(snapsend_t *ctx)
{
	int sv[2];
	struct reader reader;
	struct snapsend_completion done;
	unix_pair(sv);
	reader_start_check(&reader, sv[1], LENGTH, 0, 105);
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK_EQ(done.status, 0);
	reader_join(&reader);
	close_pair(sv);
}

static void generation(int depth)
{
	struct snapsend_completion done;
	int status;
	for (int i = 0; i < depth; i++)
		CHECK_ERR(snapsend_poll(contexts[i], &done, 1, 0), ECHILD);
	contexts[depth] = create_ctx();
	one_transfer(contexts[depth]);
	if (depth + 1 < DEPTH) {
		pid_t pid = (pid_t)SYS(fork());
		if (pid == 0) {
			time_limit(30);
			generation(depth + 1);
			test_leave(0);
		}
		SYS(waitpid(pid, &status, 0));
		CHECK(ended_well(status));
	}
	one_transfer(contexts[depth]);
	for (int i = depth; i >= 0; i -= 2) /* every second one: nobody has to */
		destroy_ctx(contexts[i]);
}

/* On its own: locals do not always survive vfork(). */
__attribute__((noinline)) static pid_t by_vfork(char *const argv[])
{
	pid_t pid = vfork();
	if (pid == 0) {
		execvp("true", argv);
		_exit(1);
	}
	return pid;
}

static void other_programs(void)
{
	int sv[2], status;
	struct reader reader;
	struct snapsend_completion done;
	char *const argv[] = { (char *)(uintptr_t) "true", NULL };
	snapsend_t *ctx = create_ctx();
	unix_pair(sv);
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	uint64_t id = submit_ok(ctx, &request);
	for (int i = 0; i < 60; i++) {
		pid_t pid;
		if (i % 3 == 0) {
			CHECK_EQ(posix_spawnp(&pid, "true", NULL, NULL, argv, environ), 0);
		} else if (i % 3 == 1) {
			CHECK_EQ(system("true"), 0);
			continue;
		} else {
			pid = (pid_t)SYS(by_vfork(argv));
		}
		SYS(waitpid(pid, &status, 0));
		CHECK(ended_well(status));
		CHECK_GE(snapsend_event_fd(ctx), 0);
		CHECK_EQ(snapsend_poll(ctx, &done, 1, 0), 0);
	}
	reader_start_check(&reader, sv[1], LENGTH, 0, 105);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	reader_join(&reader);
	destroy_ctx(ctx);
}

int main(void)
{
	file = temp_file(LENGTH, 105);
	doing("generations");
	generation(0);
	doing("other programs");
	other_programs();
	return 0;
}
