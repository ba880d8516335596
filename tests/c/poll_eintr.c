/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A signal handler ends the wait of snapsend_poll with -EINTR, SA_RESTART or not. */
#include "common.h"

static atomic_bool returned;
static atomic_int handled;
static pthread_t waiter;

static void handler(int sig)
{
	(void)sig;
	atomic_fetch_add(&handled, 1);
}

/* Signals again and again: the first one may come before the wait begins. */
static void *signaller(void *unused)
{
	(void)unused;
	while (!atomic_load(&returned)) {
		sleep_ms(30);
		pthread_kill(waiter, SIGUSR1);
	}
	return NULL;
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	struct snapsend_completion completion;
	waiter = pthread_self();
	for (int i = 0; i < 4; i++) {
		struct sigaction sa;
		pthread_t thread;
		memset(&sa, 0, sizeof sa);
		sa.sa_handler = handler;
		sa.sa_flags = i & 1 ? SA_RESTART : 0;
		SYS(sigaction(SIGUSR1, &sa, NULL));
		atomic_store(&returned, false);
		atomic_store(&handled, 0);
		doing(i & 1 ? "SA_RESTART" : "no SA_RESTART");
		PTHREAD(pthread_create(&thread, NULL, signaller, NULL));
		CHECK_ERR(snapsend_poll(ctx, &completion, 1, i & 2 ? 10000 : -1), EINTR);
		atomic_store(&returned, true);
		PTHREAD(pthread_join(thread, NULL));
		CHECK_GE(atomic_load(&handled), 1);
	}

	/* What waits already is given, signal or not. */
	int sv[2];
	unix_pair(sv);
	struct snapsend_request request = make_request(sv[0], -1, 0, 0);
	submit_ok(ctx, &request);
	struct pollfd p = { .fd = snapsend_event_fd(ctx), .events = POLLIN };
	CHECK_EQ(poll(&p, 1, WAIT_MS), 1);
	pthread_kill(waiter, SIGUSR1);
	CHECK_EQ(snapsend_poll(ctx, &completion, 1, -1), 1);
	destroy_ctx(ctx);
	return 0;
}
