/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* On a blocking socket snapsend_sendfile waits as sendfile(2) does: SO_SNDTIMEO, EINTR, SA_RESTART, and what
 * has gone out when it is interrupted. Both are measured. */
#include "common.h"
#include <sys/sendfile.h>

typedef ssize_t function(int out_fd, int in_fd, off_t *offset, size_t count);

static atomic_bool over;
static atomic_int handled;
static pthread_t waiter;
static int peer;

static void handler(int sig)
{
	(void)sig;
	atomic_fetch_add(&handled, 1);
}

static void *signaller(void *unused)
{
	(void)unused;
	for (int i = 0; !atomic_load(&over); i++) {
		sleep_ms(40);
		pthread_kill(waiter, SIGUSR1);
		if (i == 5) /* a restarted call goes on when there is room */
			drain(peer, 20);
	}
	return NULL;
}

static void timeout(function *f, int file)
{
	int sv[2];
	struct timeval t = { .tv_sec = 0, .tv_usec = 150000 };
	unix_pair(sv);
	SYS(setsockopt(sv[0], SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
	off_t offset = 0; /* more than fits: what went out until the time was over */
	ssize_t n = f(sv[0], file, &offset, 12 * MIB);
	CHECK_GE(n, 1);
	CHECK_LT(n, 12 * MIB);
	CHECK_EQ(offset, n);
	CHECK_UEQ(drain(sv[1], 20), n);
	fill_socket(sv[0]); /* nothing fits: EAGAIN after the time */
	offset = 0;
	int64_t begin = now_ms();
	CHECK_EQ(f(sv[0], file, &offset, 1000), -1);
	CHECK_EQ(errno, EAGAIN);
	CHECK_GE(now_ms() - begin, 140);
	CHECK_LE(now_ms() - begin, 5000);
	CHECK_EQ(offset, 0);
	close(sv[0]);
	close(sv[1]);
}

/* A handler runs while it waits. full: nothing could be sent; restart: SA_RESTART. */
static void interrupted(function *f, int file, bool full, bool restart)
{
	int sv[2];
	struct sigaction sa;
	pthread_t thread;
	unix_pair(sv);
	peer = sv[1];
	if (full)
		fill_socket(sv[0]);
	memset(&sa, 0, sizeof sa);
	sa.sa_handler = handler;
	sa.sa_flags = restart ? SA_RESTART : 0;
	SYS(sigaction(SIGUSR1, &sa, NULL));
	atomic_store(&over, false);
	atomic_store(&handled, 0);
	off_t offset = 0;
	PTHREAD(pthread_create(&thread, NULL, signaller, NULL));
	errno = 0;
	ssize_t n = f(sv[0], file, &offset, full ? 1000 : 12 * MIB);
	int error = errno;
	atomic_store(&over, true);
	PTHREAD(pthread_join(thread, NULL));
	CHECK_GE(atomic_load(&handled), 1);
	if (!full) { /* what went out */
		CHECK_GE(n, 1);
		CHECK_LT(n, 12 * MIB);
		CHECK_EQ(offset, n);
	} else if (restart) { /* goes on */
		CHECK_EQ(n, 1000);
		CHECK_EQ(offset, 1000);
	} else {
		CHECK_EQ(n, -1);
		CHECK_EQ(error, EINTR);
		CHECK_EQ(offset, 0);
	}
	close(sv[0]);
	close(sv[1]);
}

/* Before Linux 6.5 sendfile(2) adds a page to what a full Unix socket holds. */
static bool is_never_full(int file)
{
	int sv[2];
	off_t offset = 0;
	unix_pair(sv);
	fill_socket(sv[0]);
	set_nonblock(sv[0]);
	ssize_t n = sendfile(sv[0], file, &offset, 1000);
	close(sv[0]);
	close(sv[1]);
	return n == 1000;
}

int main(void)
{
	int file = temp_file(12 * MIB, 1);
	waiter = pthread_self();
	for (int ours = 0; ours < 2; ours++) {
		function *f = ours ? snapsend_sendfile : sendfile;
		if (!ours && is_never_full(file)) {
			printf("not compared with sendfile(2): for that no socket is full here\n");
			continue;
		}
		doing(ours ? "ours: SO_SNDTIMEO" : "sendfile: SO_SNDTIMEO");
		timeout(f, file);
		doing(ours ? "ours: EINTR" : "sendfile: EINTR");
		interrupted(f, file, true, false);
		doing(ours ? "ours: SA_RESTART" : "sendfile: SA_RESTART");
		interrupted(f, file, true, true);
		doing(ours ? "ours: part" : "sendfile: part");
		interrupted(f, file, false, false);
		interrupted(f, file, false, true);
	}
	return 0;
}
