/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Forks while other threads are inside each of the calls, create, destroy and snapsend_sendfile included: no lock
 * that they hold at that moment is held for ever in the child, and the parent does not notice. */
#include "manners_common.h"

#define FORKS  300
#define LENGTH 100000

enum inside {
	SUBMIT_AND_POLL,
	POLL,
	CANCEL,
	CANCEL_SOCKET,
	TRY_SEND,
	SEND,
	STATS,
	EVENT_FD,
	MAKE_AND_DESTROY,
	SENDFILE,
	INSIDES
};

static snapsend_t *ctx;
static int file, sv[INSIDES][2];
static atomic_bool enough;
static atomic_uint rounds[INSIDES];

/* Or there is no room before the main thread, between two forks, takes completions. */
static void queued(int result)
{
	if (result == -EAGAIN)
		sleep_ms(1);
	else
		CHECK_GE(result, 0);
}

static void one_round(enum inside inside)
{
	struct snapsend_request request = make_request(sv[inside][0], file, 0, LENGTH);
	struct snapsend_completion done;
	struct snapsend_stats stats;
	uint64_t id = 0;
	off_t offset = 0;
	switch (inside) {
	case SUBMIT_AND_POLL:
		wait_done(ctx, submit_ok(ctx, &request), &done);
		CHECK_EQ(done.status, 0);
		break;
	case POLL: CHECK_GE(snapsend_poll(ctx, &done, 1, 0), 0); break; /* takes none: see main */
	case CANCEL:
		queued(snapsend_submit(ctx, &request, sizeof request, &id));
		(void)snapsend_cancel(ctx, id);
		break;
	case CANCEL_SOCKET:
		queued(snapsend_submit(ctx, &request, sizeof request, &id));
		CHECK_GE(snapsend_cancel_socket(ctx, sv[inside][0]), 0);
		break;
	case TRY_SEND:
		request.length = 1000;
		queued(snapsend_try_send(ctx, &request, sizeof request, &done));
		break;
	case SEND:
		CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &done), 0);
		CHECK_EQ(done.status, 0);
		break;
	case STATS: CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0); break;
	case EVENT_FD: CHECK_GE(snapsend_event_fd(ctx), 0); break;
	case MAKE_AND_DESTROY: destroy_ctx(create_ctx_with(10, 1 << 20, 0)); break;
	case SENDFILE: CHECK_GT(snapsend_sendfile(sv[inside][0], file, &offset, 3000), 0); break;
	default: break;
	}
}

static void *inside_main(void *argument)
{
	enum inside inside = (enum inside)(intptr_t)argument;
	while (!atomic_load(&enough)) {
		one_round(inside);
		atomic_fetch_add(&rounds[inside], 1);
	}
	return NULL;
}

static void in_the_child(int number)
{
	unsigned char got[3000];
	struct snapsend_request request = make_request(sv[0][0], file, 0, 1000);
	struct snapsend_completion done;
	int pair[2];
	time_limit(15);
	doing("an inherited context");
	CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, NULL), ECHILD);
	CHECK_ERR(snapsend_poll(ctx, &done, 1, -1), ECHILD);
	CHECK_ERR(snapsend_cancel(ctx, 1), ECHILD);
	CHECK_ERR(snapsend_try_send(ctx, &request, sizeof request, &done), ECHILD);
	doing("its destroy");
	CHECK_EQ(snapsend_destroy(ctx), 0);
	doing("snapsend_sendfile in the child");
	unix_pair(pair);
	off_t offset = 5;
	CHECK_EQ(snapsend_sendfile(pair[0], file, &offset, sizeof got), sizeof got);
	CHECK_UEQ(read_all(pair[1], got, sizeof got), sizeof got);
	CHECK_UEQ(pattern_bad(got, 5, sizeof got, 87), SIZE_MAX);
	if (number % 5 == 0) {
		doing("a context of the child's own");
		snapsend_t *own = create_ctx_with(10, 1 << 20, 0);
		request.socket_fd = pair[0];
		CHECK_EQ(snapsend_send(own, &request, sizeof request, &done), 0);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(read_all(pair[1], got, 1000), 1000);
		CHECK_UEQ(pattern_bad(got, 0, 1000, 87), SIZE_MAX);
		destroy_ctx(own);
	}
}

/* One of the calls at a time, or fork would rarely meet it. */
static void during(enum inside inside, int forks)
{
	pthread_t threads[2];
	int status, count = inside == MAKE_AND_DESTROY || inside == SENDFILE ? 2 : 1;
	struct snapsend_completion done;
	struct reader reader;
	ctx = create_ctx();
	reader_init(&reader, sv[inside][1], UINT64_MAX);
	reader_go(&reader);
	atomic_store(&enough, false);
	for (int i = 0; i < count; i++)
		PTHREAD(pthread_create(&threads[i], NULL, inside_main, (void *)(intptr_t)inside));
	while (atomic_load(&rounds[inside]) == 0)
		sleep_ms(1);
	for (int i = 0; i < forks; i++) {
		pid_t pid = (pid_t)SYS(fork());
		if (pid == 0) {
			in_the_child(i);
			_exit(0);
		}
		SYS(waitpid(pid, &status, 0));
		if (!ended_well(status))
			fail("the child of fork %d during call %d: status %x", i, (int)inside, (unsigned)status);
		for (int n = 1; inside != SUBMIT_AND_POLL && n > 0;) /* of what was cancelled or queued */
			n = snapsend_poll(ctx, &done, 1, 0);
	}
	atomic_store(&enough, true);
	for (int i = 0; i < count; i++)
		PTHREAD(pthread_join(threads[i], NULL));
	destroy_ctx(ctx);
	SYS(shutdown(sv[inside][0], SHUT_WR));
	PTHREAD(pthread_join(reader.thread, NULL));
}

int main(void)
{
	time_limit(110);
#ifdef __SANITIZE_ADDRESS__
	skip("the sanitizer's allocator does not survive fork() in a process of several threads");
#endif
	file = temp_file(LENGTH, 87);
	for (int inside = 0; inside < INSIDES; inside++) {
		unix_pair(sv[inside]);
		during((enum inside)inside, FORKS);
		printf("call %d: %u times\n", inside, atomic_load(&rounds[inside]));
	}
	return 0;
}
