/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A process that ends, in any way, while its operations wait for a file server that does not answer and for peers
 * that do not read: it ends at once, with its own status. (Where the page cache is not used, the kernel itself keeps
 * any process with a read until the server answers it: at once after that.) */
#include "data_fuse.h"

#include "manners_common.h"

NO_LEAK_CHECK

#define SIZE (8 * MIB)
#define OPS  24

enum end { BY_RETURN, BY_EXIT, BY_QUICK_EXIT, BY_UNDERSCORE_EXIT, FROM_A_THREAD, BY_ABORT, WAYS };
static const char *const names[WAYS] = { "return", "exit", "quick_exit", "_exit", "exit from a thread", "abort" };

static void *ends_it(void *unused)
{
	(void)unused;
	exit(40 + FROM_A_THREAD);
}

static int in_flight_and_end(const char *path, enum end way, bool direct)
{
	snapsend_t *ctx = create_ctx();
	int file = fuse_open(path, direct), warm = temp_file(SIZE, 1);
	pthread_t thread;
	posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	atomic_store(&fuse->reads, 0);
	atomic_store(&fuse->hold, true);
	for (int i = 0; i < OPS; i++) {
		int sv[2];
		pair_of_kind(i % 2 ? TCP4 : UNIX, sv, 0);
		struct snapsend_request request =
			make_request(sv[0], i % 3 == 2 ? warm : file, (uint64_t)i * 1000, MIB * 2);
		request.flags = i % 3 == 1 ? SNAPSEND_EAGER : 0;
		submit_ok(ctx, &request);
	}
	for (int i = 0; i < 2000 && atomic_load(&fuse->reads) == 0; i++)
		sleep_ms(1);
	CHECK_GT(atomic_load(&fuse->reads), 0); /* some wait already */
	sleep_ms(30);
	switch (way) {
	case BY_EXIT: exit(40 + way);
	case BY_QUICK_EXIT: quick_exit(40 + way);
	case BY_UNDERSCORE_EXIT: _exit(40 + way);
	case BY_ABORT: signal(SIGABRT, SIG_DFL); abort();
	case FROM_A_THREAD:
		PTHREAD(pthread_create(&thread, NULL, ends_it, NULL));
		pause();
		break;
	default: break;
	}
	return 40 + way;
}

int main(void)
{
	const char *path = fuse_mount(SIZE, 96, 32);
	for (int i = 0; i < 2 * WAYS; i++) {
		enum end way = (enum end)(i / 2);
		int status;
		doing(names[way]);
		pid_t pid = (pid_t)SYS(fork());
		if (pid == 0) {
			alarm(40);
			return in_flight_and_end(path, way, i % 2);
		}
		int64_t begin = now_ms();
		while (SYS(waitpid(pid, &status, WNOHANG)) == 0) {
			int64_t took = now_ms() - begin;
			if (took > 400 && i % 2)
				atomic_store(&fuse->hold, false);
			if (took > 5000 * slowness()) {
				atomic_store(&fuse->hold, false); /* or it could never end */
				fail("does not end");
			}
			sleep_ms(2);
		}
		atomic_store(&fuse->hold, false);
		if (way == BY_ABORT)
			CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
		else
			CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 40 + (int)way);
	}
	return 0;
}
