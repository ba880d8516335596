/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A process bombarded with every signal that can be handled, to the process and to each of its threads: handlers run on
 * the host's threads only, snapsend_poll says -EINTR, snapsend_send is not disturbed, snapsend_sendfile stops
 * short or says EINTR as sendfile(2) does, and every byte is right. */
#include "manners_common.h"

#include <sys/sendfile.h>

#define LENGTH  (8 * MIB)
#define SECONDS 6
#define THREADS 5

static volatile pid_t hosts[THREADS]; /* thread ids; [0] is the main thread */
static atomic_uint handled[THREADS], elsewhere, eintr, sends, shorts[2], eintrs[2], operations;
static atomic_int first_elsewhere;
static atomic_bool enough;
static snapsend_t *ctx;
static int file;

static void handler(int sig, siginfo_t *info, void *context)
{
	int kept = errno;
	pid_t self = (pid_t)syscall(SYS_gettid);
	(void)sig, (void)info, (void)context;
	for (int i = 0; i < THREADS; i++) {
		if (hosts[i] == self) {
			atomic_fetch_add(&handled[i], 1);
			errno = kept;
			return;
		}
	}
	atomic_fetch_add(&elsewhere, 1);
	atomic_store(&first_elsewhere, self);
	errno = kept;
}

static bool usable(int sig)
{
	return sig != SIGKILL && sig != SIGSTOP && sig != SIGALRM && (sig < 32 || sig >= SIGRTMIN);
}

/* Every second one with SA_RESTART; none on a stack of its own. */
static void handlers(void)
{
	struct sigaction action;
	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		memset(&action, 0, sizeof action);
		action.sa_sigaction = handler;
		action.sa_flags = SA_SIGINFO | (sig % 2 ? SA_RESTART : 0);
		if (usable(sig))
			SYS(sigaction(sig, &action, NULL));
	}
}

static void bombard(pid_t target)
{
	unsigned seed = 7;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int sig = 1;; sig = sig % SIGRTMAX + 1) {
		if (!usable(sig))
			continue;
		if (kill(target, sig) != 0 && errno == ESRCH)
			_exit(0);
		int which = (int)((unsigned)rand_r(&seed) % THREADS);
		(void)syscall(SYS_tgkill, target, hosts[which], sig);
		usleep((useconds_t)rand_r(&seed) % 400);
	}
}

static void shake(int number)
{
	hosts[number] = (pid_t)syscall(SYS_gettid);
}

/* The test's own readers take no signals, so that a handler elsewhere can only be on a thread of the library's. */
static void quietly(struct reader *reader)
{
	sigset_t all, old;
	sigfillset(&all);
	PTHREAD(pthread_sigmask(SIG_SETMASK, &all, &old));
	reader_go(reader);
	PTHREAD(pthread_sigmask(SIG_SETMASK, &old, NULL));
}

static int slow_peer(int sv[2], struct reader *reader, uint64_t want)
{
	unix_pair(sv);
	reader_init(reader, sv[1], want);
	reader->check = true, reader->seed = 103;
	reader->step = 64 * 1024, reader->pause_us = 100;
	quietly(reader);
	return sv[0];
}

static void *sender(void *unused)
{
	(void)unused;
	shake(1);
	while (!atomic_load(&enough)) {
		int sv[2];
		struct reader reader;
		struct snapsend_completion done;
		struct snapsend_request request = make_request(slow_peer(sv, &reader, LENGTH), file, 0, LENGTH);
		CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &done), 0);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.wire_bytes, LENGTH);
		reader_join(&reader);
		close_pair(sv);
		atomic_fetch_add(&sends, 1);
	}
	return NULL;
}

/* ours 1: snapsend_sendfile, 0: sendfile. */
static void *file_sender(void *argument)
{
	int ours = (int)(intptr_t)argument;
	shake(2 + ours);
	while (!atomic_load(&enough)) {
		int sv[2];
		struct reader reader;
		off_t at = 0;
		slow_peer(sv, &reader, LENGTH);
		while (at < (off_t)LENGTH) {
			off_t before = at;
			ssize_t n = (ours ? snapsend_sendfile : sendfile)(sv[0], file, &at, LENGTH - (uint64_t)at);
			if (n < 0)
				CHECK_EQ(errno, EINTR);
			CHECK_EQ(at - before, n < 0 ? 0 : n);
			atomic_fetch_add(n < 0 ? &eintrs[ours] : &shorts[ours], n < 0 || at < (off_t)LENGTH);
		}
		reader_join(&reader);
		close_pair(sv);
	}
	return NULL;
}

/* Submits, cancels and looks: none of that waits, so none says EINTR. */
static void *submitter(void *unused)
{
	int sv[2];
	struct reader reader;
	struct snapsend_stats stats;
	(void)unused;
	shake(4);
	unix_pair(sv);
	reader_init(&reader, sv[1], UINT64_MAX);
	quietly(&reader);
	while (!atomic_load(&enough)) {
		struct snapsend_request request = make_request(sv[0], file, 0, 1000);
		int result = snapsend_submit(ctx, &request, sizeof request, NULL);
		if (result == 0)
			atomic_fetch_add(&operations, 1);
		CHECK(result == 0 || result == -EAGAIN);
		CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
		CHECK_GE(snapsend_event_fd(ctx), 0);
		CHECK_ERR(snapsend_cancel(ctx, UINT64_MAX), ENOENT);
		usleep(500);
	}
	SYS(shutdown(sv[0], SHUT_WR));
	reader_join(&reader);
	return NULL;
}

/* Nobody but the library's threads could take them now. */
static void all_blocked(void)
{
	sigset_t all;
	unsigned before = atomic_load(&handled[0]);
	sigfillset(&all);
	PTHREAD(pthread_sigmask(SIG_SETMASK, &all, NULL));
	for (int i = 0; i < 30; i++) {
		int sv[2];
		struct reader reader;
		struct snapsend_completion done;
		struct snapsend_request request = make_request(slow_peer(sv, &reader, LENGTH / 8), file, 0, LENGTH / 8);
		request.flags = i % 3 == 1 ? SNAPSEND_EAGER : 0;
		if (i % 2)
			posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
		uint64_t id = submit_ok(ctx, &request);
		for (int sig = 1; sig <= SIGRTMAX; sig++)
			if (usable(sig))
				SYS(kill(getpid(), sig));
		wait_done(ctx, id, &done);
		CHECK_EQ(done.status, 0);
		reader_join(&reader);
		close_pair(sv);
	}
	CHECK_UEQ(atomic_load(&handled[0]), before);
}

int main(void)
{
	pthread_t threads[4];
	struct snapsend_completion done;
	file = temp_file(LENGTH, 103);
	shake(0);
	ctx = create_ctx();
	handlers();
	PTHREAD(pthread_create(&threads[0], NULL, sender, NULL));
	PTHREAD(pthread_create(&threads[1], NULL, file_sender, (void *)0));
	PTHREAD(pthread_create(&threads[2], NULL, file_sender, (void *)1));
	PTHREAD(pthread_create(&threads[3], NULL, submitter, NULL));
	for (int i = 0; i < THREADS; i++)
		while (hosts[i] == 0)
			sleep_ms(1);
	pid_t self = getpid(), child = (pid_t)SYS(fork());
	if (child == 0)
		bombard(self);
	unsigned taken = 0;
	int64_t begin = now_ms();
	while (now_ms() - begin < SECONDS * 1000) {
		if (now_ms() % 16 == 0)
			posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED); /* threads that read start meanwhile */
		int n = snapsend_poll(ctx, &done, 1, 50);
		CHECK(n >= 0 || n == -EINTR);
		if (n < 0)
			atomic_fetch_add(&eintr, 1);
		if (n == 1) {
			CHECK_EQ(done.status, 0);
			taken++;
		}
	}
	SYS(kill(child, SIGKILL));
	while (waitpid(child, NULL, 0) < 0)
		CHECK_EQ(errno, EINTR);
	atomic_store(&enough, true);
	for (int i = 0; i < 4; i++)
		PTHREAD(pthread_join(threads[i], NULL));
	while (taken < atomic_load(&operations)) {
		int n = snapsend_poll(ctx, &done, 1, WAIT_MS);
		CHECK(n == 1 || n == -EINTR);
		taken += n == 1;
	}
	printf("handled: main %u, send %u, sendfile %u, snapsend_sendfile %u, submit %u; elsewhere %u\n", handled[0],
	       handled[1], handled[2], handled[3], handled[4], elsewhere);
	printf("poll -EINTR %u, sends %u; sendfile short %u, EINTR %u; snapsend_sendfile short %u, EINTR %u\n", eintr,
	       sends, shorts[0], eintrs[0], shorts[1], eintrs[1]);
	all_blocked();
	if (atomic_load(&elsewhere) > 0)
		fail("handlers ran %u times on a thread that is not the host's (%d)", elsewhere, first_elsewhere);
	for (int i = 0; i < THREADS; i++)
		CHECK_UGE(atomic_load(&handled[i]), 20);
	CHECK_UGE(eintr, 1);
	CHECK_UGE(sends, 1);
	CHECK_UGE(shorts[1] + eintrs[1], 1);
	destroy_ctx(ctx);
	return 0;
}
