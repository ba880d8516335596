/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* snapsend_sendfile raises SIGPIPE with EPIPE as sendfile(2) does: on the calling thread, once for each
 * call, and not where it is blocked or ignored. */
#include "common.h"
#include <sys/sendfile.h>

typedef ssize_t function(int out_fd, int in_fd, off_t *offset, size_t count);

static atomic_int signals, elsewhere;
static pthread_t caller;

static void handler(int sig)
{
	(void)sig;
	atomic_fetch_add(&signals, 1);
	if (!pthread_equal(pthread_self(), caller))
		atomic_fetch_add(&elsewhere, 1);
}

/* What one call did: signals handled, whether one is pending afterwards. */
static void call(function *f, int out, int file, int handled, int pending)
{
	sigset_t set;
	off_t offset = 0;
	atomic_store(&signals, 0);
	errno = 0;
	CHECK_EQ(f(out, file, &offset, 1000), -1);
	CHECK_EQ(errno, EPIPE);
	CHECK_EQ(offset, 0);
	CHECK_EQ(atomic_load(&signals), handled);
	SYS(sigpending(&set));
	CHECK_EQ(sigismember(&set, SIGPIPE), pending);
	if (pending) { /* take it away, so that the next call starts clean */
		struct timespec none = { 0, 0 };
		SYS(sigemptyset(&set));
		SYS(sigaddset(&set, SIGPIPE));
		CHECK_EQ(sigtimedwait(&set, NULL, &none), SIGPIPE);
	}
}

static void each(function *f, int kind, int file)
{
	int sv[2];
	struct sigaction sa;
	sigset_t set;
	if (kind == 0) {
		unix_pair(sv);
		close(sv[1]);
	} else if (kind == 1) {
		tcp_pair(sv);
		SYS(shutdown(sv[0], SHUT_WR));
	} else {
		SYS(pipe(sv));
		close(sv[0]);
		sv[0] = sv[1];
	}
	memset(&sa, 0, sizeof sa);
	sa.sa_handler = handler;
	SYS(sigaction(SIGPIPE, &sa, NULL));
	call(f, sv[0], file, 1, 0);
	call(f, sv[0], file, 1, 0);

	SYS(sigemptyset(&set));
	SYS(sigaddset(&set, SIGPIPE));
	PTHREAD(pthread_sigmask(SIG_BLOCK, &set, NULL));
	call(f, sv[0], file, 0, 1);
	PTHREAD(pthread_sigmask(SIG_UNBLOCK, &set, NULL));

	sa.sa_handler = SIG_IGN;
	SYS(sigaction(SIGPIPE, &sa, NULL));
	call(f, sv[0], file, 0, 0);
	close(sv[0]);
}

int main(void)
{
	int file = temp_file(1000, 1);
	caller = pthread_self();
	for (int kind = 0; kind < 3; kind++) {
		doing("sendfile(2)");
		each(sendfile, kind, file);
		doing("snapsend_sendfile");
		each(snapsend_sendfile, kind, file);
	}
	CHECK_EQ(atomic_load(&elsewhere), 0);
	return 0;
}
