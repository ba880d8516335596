/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* engine: one */
/* Loading the library starts no thread, opens nothing, changes no signal, and takes next to no memory: seen from a
 * constructor that runs after the library's, and in a process that has loaded it and does nothing. */
#include "manners_common.h"

static int threads_at_start, fds_at_start;
static char fds_found[2048];

/* Dependencies are initialised before the program is. */
__attribute__((constructor)) static void at_start(void)
{
	threads_at_start = count_threads();
	fds_at_start = count_fds();
	for (int fd = 3; fd < 1024; fd++) {
		char path[64], target[200];
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		ssize_t n = readlink(path, target, sizeof target - 1);
		if (n > 0 && strlen(fds_found) + (size_t)n + 10 < sizeof fds_found)
			sprintf(fds_found + strlen(fds_found), " %d: %.*s", fd, (int)n, target);
	}
}

int main(int argc, char **argv)
{
	if (argc == 1) { /* again, with nothing inherited beyond 0 to 2 */
		int status;
		pid_t pid = (pid_t)SYS(fork());
		if (pid == 0) {
			syscall(SYS_close_range, 3, ~0U, 0);
			sigset_t none;
			sigemptyset(&none);
			sigprocmask(SIG_SETMASK, &none, NULL);
			execl("/proc/self/exe", argv[0], "again", (char *)NULL);
			_exit(127);
		}
		SYS(waitpid(pid, &status, 0));
		return ended_well(status) ? 0 : 1;
	}
	struct sigaction old = { 0 };
	sigset_t mask;
	(void)old;
	CHECK_EQ(threads_at_start, 1);
	if (fds_at_start != 3)
		fail("%d descriptors are open at the start:%s", fds_at_start, fds_found);
#ifndef __SANITIZE_ADDRESS__ /* which installs some */
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		if (sig != SIGALRM && sigaction(sig, NULL, &old) == 0 && old.sa_handler != SIG_DFL &&
		    old.sa_handler != SIG_IGN)
			fail("signal %d has a handler", sig);
#endif
	SYS(sigprocmask(SIG_BLOCK, NULL, &mask));
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		CHECK_EQ(sigismember(&mask, sig) > 0, 0);
	CHECK_UEQ(snapsend_version(), SNAPSEND_VERSION); /* it is loaded */
	CHECK_GT(count_mappings(library_path()), 0);
	printf("%ld KiB of private memory\n", rss_kib());
#ifndef __SANITIZE_ADDRESS__
	CHECK_LE(rss_kib(), 1024);
#endif

	/* What needs no context makes none either. */
	int sv[2], file = temp_file(1000, 1);
	off_t offset = 0;
	unix_pair(sv);
	int fds = count_fds();
	CHECK_EQ(snapsend_sendfile(sv[0], file, &offset, 1000), 1000);
	CHECK_EQ(count_threads(), 1);
	CHECK_EQ(count_fds(), fds);
	return 0;
}
