/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* pthread_cancel of a thread in each function, deferred and asynchronous: pending when the function is called, and
 * sent while it runs or waits. snapsend_poll is a cancellation point and takes nothing; no other function is one. The
 * context goes on: nothing is locked, lost or kept. */
#include "common.h"

#include "random.h"

#include <sched.h>

#define LENGTH       4096
#define STORM_ROUNDS 60

static snapsend_t *ctx;
static int file, sv[2], stalled[2], out_of_way[2];
static _Atomic long last_result;
static atomic_bool came_back;
static _Atomic uint64_t taken;

static long call_send(void)
{
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	struct snapsend_completion done;
	return snapsend_send(ctx, &request, sizeof request, &done);
}

static long call_send_stalled(void)
{
	struct snapsend_request request = make_request(stalled[0], file, 0, LENGTH);
	struct snapsend_completion done;
	return snapsend_send(ctx, &request, sizeof request, &done);
}

static long call_try_send(void)
{
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	struct snapsend_completion done;
	long result = snapsend_try_send(ctx, &request, sizeof request, &done);
	return result == 1 || result == -EAGAIN ? 0 : result;
}

static long call_submit(void)
{
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	long result = snapsend_submit(ctx, &request, sizeof request, NULL);
	return result == -EAGAIN ? 0 : result;
}

static long call_submit_many(void)
{
	struct snapsend_request requests[3];
	for (int i = 0; i < 3; i++)
		requests[i] = make_request(sv[0], file, 0, LENGTH);
	long result = snapsend_submit_many(ctx, requests, sizeof requests[0], 3, NULL);
	return result == -EAGAIN || result > 0 ? 0 : result;
}

static long call_cancel(void)
{
	long result = snapsend_cancel(ctx, 1);
	return result == -ENOENT ? 0 : result;
}

static long call_cancel_socket(void)
{
	return snapsend_cancel_socket(ctx, out_of_way[0]);
}

static long call_event_fd(void)
{
	return snapsend_event_fd(ctx) < 0;
}

static long call_get_info(void)
{
	struct snapsend_info info;
	return snapsend_get_info(ctx, &info, sizeof info);
}

static long call_get_stats(void)
{
	struct snapsend_stats stats;
	return snapsend_get_stats(ctx, &stats, sizeof stats);
}

static long call_sendfile(void)
{
	off_t offset = 0;
	return snapsend_sendfile(sv[0], file, &offset, LENGTH) - LENGTH;
}

static long call_create_destroy(void)
{
	snapsend_t *other = NULL;
	long result = snapsend_create(NULL, 0, &other);
	return result != 0 ? result : snapsend_destroy(other);
}

static long call_poll_now(void)
{
	struct snapsend_completion done[8];
	int n = snapsend_poll(ctx, done, 8, 0);
	for (int i = 0; i < n; i++)
		taken += done[i].event == SNAPSEND_EVENT_DONE;
	return n < 0 ? n : 0;
}

static const struct function {
	const char *name;
	long (*call)(void);
} functions[] = {
	{ "send", call_send },
	{ "try_send", call_try_send },
	{ "submit", call_submit },
	{ "submit_many", call_submit_many },
	{ "cancel", call_cancel },
	{ "cancel_socket", call_cancel_socket },
	{ "event_fd", call_event_fd },
	{ "get_info", call_get_info },
	{ "get_stats", call_get_stats },
	{ "sendfile", call_sendfile },
	{ "create and destroy", call_create_destroy },
};

static uint64_t done_so_far(struct snapsend_stats *stats)
{
	CHECK_EQ(snapsend_get_stats(ctx, stats, sizeof *stats), 0);
	return stats->done_ok + stats->done_error + stats->cancelled;
}

/* Each accepted operation ends, and the context goes on. */
static void settle(void)
{
	struct snapsend_stats stats;
	struct snapsend_completion done;
	int64_t end = now_ms() + WAIT_MS;
	while (done_so_far(&stats) != stats.submitted || stats.in_flight != 0)
		CHECK(now_ms() < end && snapsend_poll(ctx, &done, 1, 10) >= 0);
	while (snapsend_poll(ctx, &done, 1, 0) > 0)
		;
	CHECK_UEQ(stats.pool_in_use, 0);
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK_EQ(done.status, 0);
	expect_nothing(ctx, 0);
}

/* ---- pending when the function is called -------------------------------------------------------- */

static void *pending_deferred(void *argument)
{
	const struct function *function = argument;
	PTHREAD(pthread_cancel(pthread_self()));
	last_result = function->call();
	came_back = true;
	pthread_testcancel();
	return NULL;
}

static void *pending_asynchronous(void *argument)
{
	const struct function *function = argument;
	int state, type;
	PTHREAD(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL));
	PTHREAD(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
	PTHREAD(pthread_cancel(pthread_self()));
	last_result = function->call();
	CHECK_EQ(call_poll_now(), 0); /* where cancellation is disabled, it is none either */
	came_back = true;
	PTHREAD(pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type));
	CHECK_EQ(type, PTHREAD_CANCEL_ASYNCHRONOUS);
	PTHREAD(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state));
	CHECK_EQ(state, PTHREAD_CANCEL_DISABLE);
	pthread_testcancel();
	return NULL;
}

static void join_cancelled(pthread_t thread)
{
	void *end = NULL;
	PTHREAD(pthread_join(thread, &end));
	CHECK(end == PTHREAD_CANCELED);
}

static void pending(void *(*body)(void *))
{
	for (size_t i = 0; i < COUNT_OF(functions); i++) {
		pthread_t thread;
		doing(functions[i].name);
		came_back = false;
		PTHREAD(pthread_create(&thread, NULL, body, (void *)&functions[i]));
		join_cancelled(thread);
		CHECK(came_back);
		CHECK_EQ(last_result, 0);
		settle();
	}
}

static void *pending_in_poll(void *unused)
{
	struct snapsend_completion done;
	PTHREAD(pthread_cancel(pthread_self()));
	snapsend_poll(ctx, &done, 1, 0);
	came_back = true;
	return unused;
}

/* The thread ends there, and the completion is still to be had. */
static void pending_poll(void)
{
	struct snapsend_completion done;
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	pthread_t thread;
	struct pollfd ready = { .fd = snapsend_event_fd(ctx), .events = POLLIN };
	uint64_t id = submit_ok(ctx, &request);
	CHECK_EQ(poll(&ready, 1, WAIT_MS), 1);
	came_back = false;
	PTHREAD(pthread_create(&thread, NULL, pending_in_poll, NULL));
	join_cancelled(thread);
	CHECK(!came_back);
	wait_done(ctx, id, &done);
	settle();
}

/* ---- sent while it waits -------------------------------------------------------------------------- */

static void *waits_in_poll(void *type)
{
	struct snapsend_completion done;
	PTHREAD(pthread_setcanceltype(type != NULL ? PTHREAD_CANCEL_ASYNCHRONOUS : PTHREAD_CANCEL_DEFERRED, NULL));
	for (;;) {
		int n = snapsend_poll(ctx, &done, 1, -1);
		CHECK_EQ(n, 1);
		taken++;
	}
}

static void cancelled_in_poll(bool asynchronous)
{
	pthread_t thread;
	PTHREAD(pthread_create(&thread, NULL, waits_in_poll, asynchronous ? &file : NULL));
	sleep_ms(50);
	PTHREAD(pthread_cancel(thread));
	join_cancelled(thread);
	settle();
}

static void taken_until(uint64_t count)
{
	for (int64_t end = now_ms() + WAIT_MS; taken < count; sched_yield())
		CHECK_LT(now_ms(), end);
}

/* Of two that wait, one is cancelled while it is being woken: it has taken the completion, or the other takes it. */
static void cancelled_beside_another(void)
{
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	pthread_t stays, goes;
	PTHREAD(pthread_create(&stays, NULL, waits_in_poll, NULL));
	for (int i = 0; i < 200; i++) {
		uint64_t before = taken;
		PTHREAD(pthread_create(&goes, NULL, waits_in_poll, NULL));
		sleep_ms(1);
		submit_ok(ctx, &request); /* for the one that has waited longer, which then waits behind the other */
		taken_until(before + 1);
		sleep_ms(1);
		submit_ok(ctx, &request);
		for (uint64_t spin = random_below(40000); spin > 0; spin--)
			atomic_signal_fence(memory_order_seq_cst);
		PTHREAD(pthread_cancel(goes));
		join_cancelled(goes);
		taken_until(before + 2);
		CHECK_UEQ(taken, before + 2);
	}
	PTHREAD(pthread_cancel(stays));
	join_cancelled(stays);
	settle();
}

static void *waits_in_send(void *type)
{
	PTHREAD(pthread_setcanceltype(type != NULL ? PTHREAD_CANCEL_ASYNCHRONOUS : PTHREAD_CANCEL_DEFERRED, NULL));
	last_result = call_send_stalled();
	came_back = true;
	pthread_testcancel();
	return NULL;
}

static void cancelled_in_send(bool asynchronous)
{
	struct snapsend_stats stats;
	pthread_t thread;
	unix_pair(stalled);
	uint64_t filled = fill_socket(stalled[0]);
	came_back = false;
	PTHREAD(pthread_create(&thread, NULL, waits_in_send, asynchronous ? &file : NULL));
	for (int64_t end = now_ms() + WAIT_MS; (void)done_so_far(&stats), stats.in_flight == 0; sleep_ms(1))
		CHECK_LT(now_ms(), end);
	PTHREAD(pthread_cancel(thread));
	sleep_ms(50);
	CHECK(!came_back);
	done_so_far(&stats);
	CHECK_UEQ(stats.in_flight, 1); /* it goes on */
	static unsigned char junk[65536];
	for (uint64_t left = filled + LENGTH; left > 0;)
		left -= read_all(stalled[1], junk, left < sizeof junk ? left : sizeof junk);
	join_cancelled(thread);
	CHECK_EQ(came_back, !asynchronous); /* of an asynchronous one the library's way out is the end */
	settle();
	close(stalled[0]);
	close(stalled[1]);
}

/* ---- sent at any time ------------------------------------------------------------------------------ */

static void *call_for_ever(void *argument)
{
	const struct function *function = argument;
	for (;;) {
		CHECK_EQ(function->call(), 0);
		pthread_testcancel();
	}
}

static void storm(void)
{
	static const struct function poll_now = { "poll", call_poll_now };
	for (int i = 0; i < STORM_ROUNDS; i++)
		for (size_t f = 0; f <= COUNT_OF(functions); f++) {
			const struct function *function = f < COUNT_OF(functions) ? &functions[f] : &poll_now;
			pthread_t thread;
			doing(function->name);
			PTHREAD(pthread_create(&thread, NULL, call_for_ever, (void *)function));
			usleep(random_below(400));
			PTHREAD(pthread_cancel(thread));
			join_cancelled(thread);
			if (f % 4 == 0 || i % 8 == 0)
				settle();
		}
	settle();
}

int main(void)
{
	struct reader reader;
	file = temp_file(LENGTH, 1);
	unix_pair(sv);
	unix_pair(out_of_way);
	reader_init(&reader, sv[1], UINT64_MAX);
	reader_go(&reader);
	ctx = create_ctx_with(64, 0, 0);
	int fds = count_fds(), threads = count_threads();
	pending(pending_deferred);
	pending(pending_asynchronous);
	pending_poll();
	for (int asynchronous = 0; asynchronous < 2; asynchronous++) {
		cancelled_in_poll(asynchronous);
		cancelled_in_send(asynchronous);
	}
	cancelled_beside_another();
	storm();
	CHECK_EQ(wait_threads(threads, 3000), threads);
	CHECK_EQ(count_fds(), fds);
	destroy_ctx(ctx);
	return 0;
}
