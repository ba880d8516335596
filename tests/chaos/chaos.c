/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Chaos: several threads call everything at random on one context, while connections are closed too early, reset
 * and shut down, files cut and grown, descriptors registered and unregistered, and the process forks; again and
 * again with another context. Each accepted operation must give exactly one DONE, for a reason, and SENT at most
 * once, before it; what the peer of each connection has read must be, byte for byte, what the completions account
 * for; and nothing may stay behind: memory, mappings, descriptors, threads.
 *
 *   chaos [--operations n] [--seed n]     the default is 200,000
 */
#include "streams.h"

#include <malloc.h>

#define ACTORS           4
#define POLLERS          2
#define ROUND_OPERATIONS 20000 /* at most */
#define ROUNDS_LEAST     16
#define FORK_EVERY       4000
#define WARM_UP          8 /* rounds after which nothing grows any more */

struct tally {
	_Atomic uint64_t accepted, refused, done, snapshots, sents, cancels, cancels_late, forks, closes, resets,
		half_closes, cuts, direct, lost, bytes, ok, registered, lent_bytes, library_resets;
};

static struct tally tally;
static struct stream streams[STREAMS];
static _Atomic int file_handles[FILES]; /* 0: not registered */
static _Atomic int stale_handle;        /* one that has been unregistered, perhaps with another context */
static bool small_pool;
static _Atomic uint64_t tickets;
static _Atomic int64_t to_submit; /* in this round */
static _Atomic uint64_t accepted_now, done_now, wire_now;
static atomic_bool polling, forking;
static _Atomic uint64_t next_fork;
static _Thread_local bool was_refused;

/* ---- completions ------------------------------------------------------------------------------------- */

static uint64_t pack(const struct stream *s, int op)
{
	return (uint64_t)s->generation << 32 | (uint64_t)s->number << 16 | (uint64_t)op;
}

/* With the stream's lock held. */
static void op_done(struct stream *s, struct op *op, const struct snapsend_completion *done, uint64_t polled)
{
	if (op->done)
		fail("a second DONE for operation %" PRIu64, done->id);
	CHECK_UEQ(done->id, op->id);
	CHECK_ULE(done->file_bytes, done->wire_bytes);
	op->done = true;
	op->done_at = atomic_fetch_add(&tickets, 1) + 1;
	op->completion = *done;
	op->polled = polled;
	s->pending--;
	if (done->status < 0 && done->wire_bytes > 0) {
		stream_close(s);
		atomic_fetch_add(&tally.cuts, 1);
	}
	atomic_fetch_add(&tally.ok, done->status == 0);
	atomic_fetch_add(&tally.done, 1);
	atomic_fetch_add(&done_now, 1);
	atomic_fetch_add(&wire_now, done->wire_bytes);
}

/* With the stream's lock held. Its DONE may have been taken meanwhile by another thread, but not before this event
 * was asked for. */
static void op_sent(struct op *op, const struct snapsend_completion *sent, uint64_t polled)
{
	CHECK((op->flags & SNAPSEND_NOTIFY_SENT) != 0 && !op->sent_told);
	CHECK_UEQ(sent->id, op->id);
	if (op->done && op->done_at <= polled)
		fail("SENT behind DONE of operation %" PRIu64, sent->id);
	op->sent_told = true;
	atomic_fetch_add(&tally.sents, 1);
}

static void take(const struct snapsend_completion *event, uint64_t polled)
{
	struct stream *s = &streams[event->user_data >> 16 & 0xffff];
	PTHREAD(pthread_mutex_lock(&s->lock));
	struct op *op = &s->ops[event->user_data & 0xffff];
	if (event->event == SNAPSEND_EVENT_DONE) {
		if (s->generation != event->user_data >> 32)
			fail("a DONE of a connection that was over");
		op_done(s, op, event, polled);
	} else if (s->generation != event->user_data >> 32) {
		/* DONE has been taken, and the connection is another one by now */
	} else if (event->event == SNAPSEND_EVENT_SENT) {
		op_sent(op, event, polled);
	} else {
		CHECK_EQ(event->event, SNAPSEND_EVENT_SNAPSHOT);
		CHECK((op->flags & SNAPSEND_NOTIFY_SNAPSHOT) != 0 && !op->snapshot_told);
		op->snapshot_told = true;
		atomic_fetch_add(&tally.snapshots, 1);
	}
	PTHREAD(pthread_mutex_unlock(&s->lock));
}

static void poll_some(int timeout_ms)
{
	struct snapsend_completion events[32];
	uint64_t polled = atomic_load(&tickets);
	int n = snapsend_poll(ctx, events, 1 + (uint32_t)random_below(COUNT_OF(events)), timeout_ms);
	CHECK_GE(n, 0);
	for (int i = 0; i < n; i++) {
		for (int before = 0; before < i; before++)
			CHECK(events[before].event != SNAPSEND_EVENT_DONE || events[before].id != events[i].id);
		take(&events[i], polled);
	}
}

static void *poller_main(void *argument)
{
	random_state = *(uint64_t *)argument;
	while (atomic_load(&polling))
		poll_some(5);
	return NULL;
}

/* ---- operations -------------------------------------------------------------------------------------- */

static uint64_t random_length(void)
{
	static const uint64_t limits[] = { 1, 100, 300, 1000, 5000, 5000, 5000, 40000, 40000, 140000 };
	return random_below((one_in(100) ? FILE_BYTES : limits[random_below(COUNT_OF(limits))]) + 1);
}

static uint32_t random_flags(uint64_t length)
{
	uint32_t flags = 0;
	if (one_in(3))
		flags |= one_in(2) ? SNAPSEND_EAGER : SNAPSEND_EXACT;
	else if (one_in(2))
		flags |= SNAPSEND_ZEROCOPY;
	if (one_in(4))
		flags |= SNAPSEND_NOTIFY_SENT;
	if (one_in(4))
		flags |= SNAPSEND_NOTIFY_SNAPSHOT;
	if (one_in(10))
		flags |= SNAPSEND_MORE;
	if (one_in(6) && length != SNAPSEND_TO_EOF && (flags & SNAPSEND_EXACT) == 0)
		flags |= SNAPSEND_ZERO_PAD;
	return flags;
}

/* Names what is registered by its handle, mostly. */
static void use_handles(struct stream *s, struct op *op, struct snapsend_request *request)
{
	if (s->handle > 0 && !one_in(4)) {
		request->socket_fd = s->handle;
		request->flags |= SNAPSEND_REGISTERED_SOCKET;
	}
	if (op->file >= 0 && !one_in(4))
		op->file_handle = atomic_load(&file_handles[op->file]);
	if (op->file_handle > 0) {
		request->file_fd = op->file_handle;
		request->flags |= SNAPSEND_REGISTERED_FILE;
	}
}

/* The stream's next operation, and the request for it. */
static struct op *make_op(struct stream *s, int ahead, struct iovec edges[2], struct snapsend_request *request)
{
	struct op *op = &s->ops[s->count + ahead];
	memset(op, 0, sizeof *op);
	op->file = one_in(20) ? -1 : (int)random_below(FILES);
	op->length = op->file < 0 ? 0 : one_in(30) ? SNAPSEND_TO_EOF : random_length();
	op->offset = op->file < 0 ? 0 : random_below(one_in(4) ? FILE_BYTES + 1000 : FILE_BYTES / 2);
	op->flags = random_flags(op->length);
	op->timeout_ms = one_in(10) ? 1 + (uint32_t)random_below(40) : 0;
	op->header = one_in(2) ? (uint32_t)random_below(small_pool || one_in(2) ? 100 : EDGE_MAX) : 0;
	op->trailer = one_in(4) ? (uint32_t)random_below(200) : 0;
	op->edge = (size_t)random_below(IMAGE_BYTES - 2 * EDGE_MAX);
	edges[0] = (struct iovec){ image + op->edge, op->header };
	edges[1] = (struct iovec){ image + op->edge + EDGE_MAX, op->trailer };
	*request = make_request(s->sv[0], op->file < 0 ? -1 : files[op->file], op->offset, op->length);
	request->header = &edges[0], request->header_count = 1;
	request->trailer = &edges[1], request->trailer_count = 1;
	request->flags = op->flags;
	request->timeout_ms = op->timeout_ms;
	request->user_data = pack(s, s->count + ahead);
	use_handles(s, op, request);
	return op;
}

static void op_accepted(struct stream *s, struct op *op, uint64_t id)
{
	CHECK_UNE(id, 0);
	op->id = id;
	op->ticket = atomic_fetch_add(&tickets, 1) + 1;
	s->count++;
	s->pending++;
	s->asked_for += op->header + op->trailer + (op->length == SNAPSEND_TO_EOF ? FILE_BYTES : op->length);
	atomic_fetch_sub(&to_submit, 1);
	atomic_fetch_add(&tally.accepted, 1);
	atomic_fetch_add(&accepted_now, 1);
}

/* EBADF: another thread has unregistered the file. ENOTCONN: the library has reset the connection. */
static void op_refused(const struct stream *s, const struct op *op, int result)
{
	bool unregistered = op->file_handle > 0 && atomic_load(&file_handles[op->file]) != op->file_handle;
	if (result != -EAGAIN && !(result == -EMSGSIZE && (op->flags & SNAPSEND_EXACT) != 0) &&
	    !(result == -EBADF && unregistered) && !(result == -ENOTCONN && s->far))
		fail("refused: %d (%s), flags 0x%x, length %" PRIu64, result, strerror(-result), op->flags, op->length);
	atomic_fetch_add(&tally.refused, 1);
	was_refused = true;
}

static void submit(struct stream *s)
{
	struct iovec edges[2];
	struct snapsend_request request;
	uint64_t id = 0;
	struct op *op = make_op(s, 0, edges, &request);
	int result = snapsend_submit(ctx, &request, sizeof request, &id);
	if (result == 0)
		op_accepted(s, op, id);
	else
		op_refused(s, op, result);
}

#define MANY 6

static void submit_many(struct stream *s)
{
	struct iovec edges[MANY][2];
	struct snapsend_request requests[MANY];
	uint64_t ids[MANY];
	struct op *first = &s->ops[s->count];
	if (s->count + MANY > OPS_EACH)
		return;
	for (int i = 0; i < MANY; i++)
		make_op(s, i, edges[i], &requests[i]);
	int result = snapsend_submit_many(ctx, requests, sizeof requests[0], MANY, ids);
	if (result < 0)
		op_refused(s, first, result);
	for (int i = 0; i < result; i++)
		op_accepted(s, &first[i], ids[i]);
}

static void try_send(struct stream *s)
{
	struct iovec edges[2];
	struct snapsend_request request;
	struct snapsend_completion completion;
	struct op *op = make_op(s, 0, edges, &request);
	int result = snapsend_try_send(ctx, &request, sizeof request, &completion);
	if (result < 0) {
		op_refused(s, op, result);
		return;
	}
	op_accepted(s, op, completion.id);
	if (result == 1) {
		op->direct = true;
		atomic_fetch_add(&tally.direct, 1);
		op_done(s, op, &completion, atomic_load(&tickets));
	}
}

/* The stream stays locked meanwhile, so not for long. */
static void send_waiting(struct stream *s)
{
	struct iovec edges[2];
	struct snapsend_request request;
	struct snapsend_completion completion;
	struct op *op = make_op(s, 0, edges, &request);
	request.timeout_ms = op->timeout_ms = 1 + (uint32_t)random_below(10);
	int result = snapsend_send(ctx, &request, sizeof request, &completion);
	if (result < 0) {
		op_refused(s, op, result);
		return;
	}
	op_accepted(s, op, completion.id);
	op->direct = true;
	atomic_fetch_add(&tally.direct, 1);
	op_done(s, op, &completion, atomic_load(&tickets));
}

/* ---- disturbances ------------------------------------------------------------------------------------ */

static void cancel_one(struct stream *s)
{
	if (s->count == 0)
		return;
	int last = s->count < 8 ? s->count : 8;
	struct op *op = &s->ops[s->count - 1 - (int)random_below((uint64_t)last)];
	int result = snapsend_cancel(ctx, op->id);
	CHECK(result == 0 || result == -ENOENT);
	if (result == 0)
		op->cancel_asked = true;
	if (result == 0 && op->done)
		fail("cancel says that operation %" PRIu64 " will end, whose DONE has been taken", op->id);
	atomic_fetch_add(result == 0 ? &tally.cancels : &tally.cancels_late, 1);
}

static void cancel_all(struct stream *s)
{
	int result = snapsend_cancel_socket(ctx, s->sv[0]);
	CHECK_GE(result, 0);
	CHECK_LE(result, s->pending); /* those whose DONE waits to be taken are not counted */
	s->all_cancelled |= result > 0;
	atomic_fetch_add(&tally.cancels, (uint64_t)result);
}

static void half_close(struct stream *s)
{
	if (one_in(2)) {
		s->broken = true;
		s->closing = true;
		SYS(shutdown(s->sv[0], SHUT_WR));
	} else if (atomic_load(&s->reading) == READS) {
		(void)shutdown(s->sv[1], SHUT_WR); /* the peer's other direction: no matter */
	}
	atomic_fetch_add(&tally.half_closes, 1);
}

static void disturb_file(void)
{
	int file = files[CONSTANT_FILES + random_below(FILES - CONSTANT_FILES)];
	int number = 0;
	while (files[number] != file)
		number++;
	off_t at = (off_t)random_below(FILE_BYTES);
	switch (random_below(4)) {
	case 0: SYS(ftruncate(file, at)); break;
	case 1: SYS(ftruncate(file, FILE_BYTES)); break;
	case 2: SYS(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 50000)); break;
	default: file_put(file, 0, image + (size_t)number * 4096, FILE_BYTES); break;
	}
}

static void register_file(int file)
{
	int handle = snapsend_register_file(ctx, files[file], 0), none = 0;
	CHECK_GT(handle, 0);
	if (!atomic_compare_exchange_strong(&file_handles[file], &none, handle)) /* another thread was first */
		CHECK_EQ(snapsend_unregister_file(ctx, handle), 0);
	atomic_fetch_add(&tally.registered, 1);
}

/* With operations in flight, which go on. */
static void unregister_file(int file)
{
	int handle = atomic_exchange(&file_handles[file], 0);
	if (handle == 0)
		return;
	CHECK_EQ(snapsend_unregister_file(ctx, handle), 0);
	CHECK_EQ(snapsend_unregister_file(ctx, handle), -EBADF);
	atomic_store(&stale_handle, handle);
}

static void register_socket(struct stream *s)
{
	int handle = snapsend_register_socket(ctx, s->sv[0], 0);
	/* A connection that has been reset is none any more. */
	CHECK(handle > 0 || (handle == -ENOTCONN && (s->far || s->broken || s->reset_wanted)));
	s->handle = handle > 0 ? handle : 0;
	atomic_fetch_add(&tally.registered, 1);
}

static void submit_stale(const struct stream *s)
{
	int handle = atomic_load(&stale_handle);
	struct snapsend_request request = make_request(s->sv[0], handle, 0, 1);
	request.flags = SNAPSEND_REGISTERED_FILE;
	if (handle > 0)
		CHECK_EQ(snapsend_submit(ctx, &request, sizeof request, NULL), -EBADF);
}

static void register_something(struct stream *s)
{
	int file = (int)random_below(FILES);
	if (one_in(3))
		unregister_file(file);
	else if (one_in(2))
		register_file(file);
	else if (one_in(8))
		submit_stale(s);
	else if (s->handle > 0)
		stream_unregister(s);
	else
		register_socket(s);
}

/* In the child the context is of no use, and says so; destroying it there leaves the parent's alone. */
static void fork_child(void)
{
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0) {
		struct snapsend_completion completion;
		struct snapsend_request request = make_request(0, files[0], 0, 1);
		bool right = snapsend_submit(ctx, &request, sizeof request, NULL) == -ECHILD &&
			     snapsend_poll(ctx, &completion, 1, 0) == -ECHILD && snapsend_cancel(ctx, 1) == -ECHILD &&
			     snapsend_register_file(ctx, files[0], 0) == -ECHILD &&
			     snapsend_unregister_socket(ctx, 1) == -ECHILD && snapsend_destroy(ctx) == 0;
		_exit(right ? 0 : 1);
	}
	int status;
	SYS(waitpid(pid, &status, 0));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail("a forked child: status 0x%x", status);
	atomic_fetch_add(&tally.forks, 1);
}

static void renew(struct stream *s)
{
	stream_verify(s);
	atomic_fetch_add(&tally.bytes, s->got_bytes);
	stream_open(s);
}

/* ---- threads that act -------------------------------------------------------------------------------- */

static void disturb(struct stream *s)
{
	uint64_t what = random_below(100);
	if (what < 60) {
		cancel_one(s);
	} else if (what < 70) {
		cancel_all(s);
	} else if (what < 80) {
		stream_close(s);
		atomic_fetch_add(&tally.closes, 1);
	} else if (what < 85) {
		atomic_store(&s->reset_wanted, true);
		s->closing = true;
		atomic_fetch_add(&tally.resets, 1);
	} else if (what < 90) {
		half_close(s);
	} else {
		disturb_file();
	}
}

/* With the stream's lock held. */
static void act(struct stream *s)
{
	if (stream_is_over(s))
		renew(s);
	if (s->closing) {
		if (s->pending == 0 || one_in(20))
			stream_close(s);
		return;
	}
	if (s->count == OPS_EACH || s->asked_for > BYTES_EACH) {
		s->closing = true;
		return;
	}
	uint64_t what = random_below(100);
	if (what < 65)
		submit(s);
	else if (what < 70)
		submit_many(s);
	else if (what < 86)
		try_send(s);
	else if (what < 87)
		send_waiting(s);
	else if (what < 90)
		register_something(s);
	else
		disturb(s);
}

static void *actor_main(void *argument)
{
	random_state = *(uint64_t *)argument;
	while (atomic_load(&to_submit) > 0) {
		struct stream *s = &streams[random_below(STREAMS)];
		if (pthread_mutex_trylock(&s->lock) != 0)
			continue;
		was_refused = false;
		act(s);
		PTHREAD(pthread_mutex_unlock(&s->lock));
		if (was_refused || one_in(30))
			poll_some(was_refused ? 1 : 0);
		if (atomic_load(&tally.accepted) >= atomic_load(&next_fork) && !atomic_exchange(&forking, true)) {
			fork_child();
			atomic_store(&next_fork, atomic_load(&tally.accepted) + FORK_EVERY);
			atomic_store(&forking, false);
		}
	}
	return NULL;
}

/* ---- a round: one context ---------------------------------------------------------------------------- */

static void create_context(void)
{
	static const uint64_t pools[] = { 0, 0, 64 * KIB, 256 * KIB, MIB, 8 * MIB };
	static const uint64_t chunks[] = { 0, 0, 4096, 100000 };
	struct snapsend_options options;
	memset(&options, 0, sizeof options);
	options.engine = one_in(2) ? SNAPSEND_ENGINE_URING : SNAPSEND_ENGINE_PORTABLE;
	options.max_ops = one_in(3) ? 100 : 0;
	options.pool_bytes = pools[random_below(COUNT_OF(pools))];
	options.chunk_bytes = chunks[random_below(COUNT_OF(chunks))];
	options.window_bytes = one_in(3) ? 4 * MIB : 0;
	small_pool = options.pool_bytes == 64 * KIB;
	peers_rest = one_in(4); /* which takes time */
	int result = snapsend_create(&options, sizeof options, &ctx);
	if (result != 0)
		fail("snapsend_create: %s", strerror(-result));
}

static void start(pthread_t *threads, uint64_t *seeds, size_t count, void *(*body)(void *))
{
	for (size_t i = 0; i < count; i++) {
		seeds[i] = random_number();
		PTHREAD(pthread_create(&threads[i], NULL, body, &seeds[i]));
	}
}

static void join(pthread_t *threads, size_t count)
{
	for (size_t i = 0; i < count; i++)
		PTHREAD(pthread_join(threads[i], NULL));
}

static void check_stats(void)
{
	struct snapsend_stats stats;
	int64_t end = now_ms() + WAIT_MS * slowness();
	do { /* the last notifications of zero-copy sends */
		CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
		sleep_ms(1);
	} while (stats.pool_in_use > 0 && now_ms() < end);
	CHECK_ULE(atomic_load(&library_resets), stats.connections_reset);
	atomic_fetch_add(&tally.lent_bytes, stats.bytes_page_cache);
	atomic_fetch_add(&tally.library_resets, stats.connections_reset);
	CHECK_UEQ(stats.submitted, atomic_load(&accepted_now));
	CHECK_UEQ(stats.done_ok + stats.done_error + stats.cancelled, atomic_load(&accepted_now));
	CHECK_UEQ(stats.wire_bytes, atomic_load(&wire_now));
	CHECK_UEQ(stats.in_flight, 0);
	CHECK_UEQ(stats.pool_in_use, 0);
}

static void show_pending(const struct stream *s)
{
	for (int i = 0; i < s->count; i++) {
		const struct op *op = &s->ops[i];
		if (!op->done)
			fprintf(stderr,
				"connection %d%s%s%s, operation %d of %d (id %" PRIu64 "): file %d, %u + %" PRIu64
				" at %" PRIu64 " + %u bytes, flags 0x%x, timeout %u ms%s\n",
				s->number, s->open ? "" : ", closed", s->broken ? ", broken" : "",
				s->reset ? ", reset" : "", i, s->count, op->id, op->file, op->header, op->length,
				op->offset, op->trailer, op->flags, op->timeout_ms,
				op->cancel_asked   ? ", cancelled"
				: s->all_cancelled ? ", perhaps cancelled"
						   : "");
	}
}

/* All DONEs are taken, then the accounts are checked. */
static void await_all_done(void)
{
	int64_t end = now_ms() + 3 * WAIT_MS;
	while (atomic_load(&done_now) < atomic_load(&accepted_now)) {
		for (int i = 0; i < STREAMS && now_ms() > end; i++)
			show_pending(&streams[i]);
		if (now_ms() > end)
			fail("%" PRIu64 " operations without a DONE",
			     atomic_load(&accepted_now) - atomic_load(&done_now));
		sleep_ms(1);
	}
	check_stats();
}

/* All events have been taken: each SENT that was asked for has come, unless DONE was handed over directly. */
static void check_sent(const struct stream *s)
{
	for (int i = 0; i < s->count; i++) {
		const struct op *op = &s->ops[i];
		if ((op->flags & SNAPSEND_NOTIFY_SENT) != 0 && op->completion.status == 0 && !op->direct)
			CHECK(op->sent_told);
	}
}

/* Verified, unless the context was destroyed with operations in flight. */
static void end_streams(bool drained)
{
	for (int i = 0; i < STREAMS; i++) {
		struct stream *s = &streams[i];
		if (drained) {
			stream_verify(s);
			check_sent(s);
		}
		atomic_fetch_add(&tally.lost, (uint64_t)s->pending);
		atomic_fetch_add(&tally.bytes, s->got_bytes);
		free(s->got);
		s->got = NULL;
		s->got_bytes = s->got_capacity = 0;
	}
}

static void round_of(int64_t operations)
{
	struct peers peers = { streams, random_number() };
	pthread_t actors[ACTORS], pollers[POLLERS], peer;
	uint64_t seeds[ACTORS + POLLERS];
	bool drained = !one_in(4);
	create_context();
	atomic_store(&to_submit, operations);
	atomic_store(&accepted_now, 0), atomic_store(&done_now, 0), atomic_store(&wire_now, 0);
	atomic_store(&polling, true), atomic_store(&peers_over, false), atomic_store(&library_resets, 0);
	for (int i = 0; i < STREAMS; i++)
		stream_open(&streams[i]);
	for (int i = 0; i < FILES; i += 2)
		register_file(i);
	PTHREAD(pthread_create(&peer, NULL, peers_main, &peers));
	start(pollers, seeds, POLLERS, poller_main);
	start(actors, seeds + POLLERS, ACTORS, actor_main);
	join(actors, ACTORS);
	if (drained)
		await_all_done();
	atomic_store(&polling, false);
	join(pollers, POLLERS);
	if (!drained)
		destroy_ctx(ctx);
	for (int i = 0; i < STREAMS; i++) {
		streams[i].handle = drained ? streams[i].handle : 0; /* all are gone with their context */
		stream_close(&streams[i]);
	}
	for (int i = 0; i < FILES; i++)
		atomic_store(&file_handles[i], 0);
	atomic_store(&peers_over, true);
	join(&peer, 1); /* only when no one holds the connections any more do their peers see the end */
	end_streams(drained);
	if (drained)
		destroy_ctx(ctx);
}

/* ---- what stays behind ------------------------------------------------------------------------------- */

struct footprint {
	int fds, threads, mappings;
	size_t heap_kib; /* allocated and not freed */
	long resident_kib;
};

static struct footprint footprint(void)
{
	malloc_trim(0);
	struct mallinfo2 heap = mallinfo2();
	return (struct footprint){ count_fds(), wait_threads(1, 2000), count_mappings(NULL),
				   (heap.uordblks + heap.hblkhd) / 1024, rss_kib() };
}

static void check_footprint(const struct footprint *first, const struct footprint *now)
{
	CHECK_EQ(now->fds, first->fds);
	CHECK_EQ(now->threads, 1);
	CHECK_LE(now->mappings, first->mappings + 20); /* 16 rings may be kept */
	CHECK_LE(now->heap_kib, first->heap_kib + 256);
	CHECK_LE(now->resident_kib, first->resident_kib + 8 * 1024);
}

static void report(uint64_t seconds)
{
	printf("%" PRIu64 " operations accepted, %" PRIu64 " DONE (%" PRIu64 " with status 0, %" PRIu64
	       " cut off, %" PRIu64 " handed over directly), %" PRIu64 " SNAPSHOT, %" PRIu64 " SENT, %" PRIu64
	       " lost with their context, %" PRIu64 " s\n",
	       tally.accepted, tally.done, tally.ok, tally.cuts, tally.direct, tally.snapshots, tally.sents, tally.lost,
	       seconds);
	printf("%" PRIu64 " refused, %" PRIu64 " cancelled, %" PRIu64 " too late for it, %" PRIu64
	       " closed early, %" PRIu64 " reset, %" PRIu64 " half-closed, %" PRIu64 " forks, %" PRIu64
	       " MB received\n",
	       tally.refused, tally.cancels, tally.cancels_late, tally.closes, tally.resets, tally.half_closes,
	       tally.forks, tally.bytes / 1000000);
	printf("%" PRIu64 " registered, %" PRIu64 " MB from the page cache, %" PRIu64
	       " connections reset to take pages back\n",
	       tally.registered, tally.lent_bytes / 1000000, tally.library_resets);
}

static void set_up(void)
{
	has_network = network_try(&network);
	if (!has_network)
		printf("no network with XDP, so no file is lent\n");
	image = malloc(IMAGE_BYTES);
	CHECK(image != NULL);
	pattern_fill(image, 0, IMAGE_BYTES, 5);
	for (int i = 0; i < FILES; i++) {
		files[i] = temp_file(0, 0);
		file_put(files[i], 0, image + (size_t)i * 4096, FILE_BYTES);
	}
	for (int i = 0; i < STREAMS; i++) {
		PTHREAD(pthread_mutex_init(&streams[i].lock, NULL));
		streams[i].number = i;
	}
}

int main(int argc, char **argv)
{
	start_without_caches(argv);
	uint64_t operations = 200000, seed = (uint64_t)time(NULL);
	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t value = strtoull(argv[i + 1], NULL, 10);
		if (strcmp(argv[i], "--operations") == 0)
			operations = value;
		else if (strcmp(argv[i], "--seed") == 0)
			seed = value;
		else
			fail("no such option: %s", argv[i]);
	}
	printf("seed %" PRIu64 "\n", seed);
	int64_t began = now_ms();
	struct footprint first = { 0 }, now = { 0 };
	random_state = seed;
	set_up();
	for (int round = 0; tally.accepted < operations; round++) {
		time_limit(300);
		uint64_t share = operations / ROUNDS_LEAST;
		round_of((int64_t)(share < ROUND_OPERATIONS ? share : ROUND_OPERATIONS));
		now = footprint();
		if (round < WARM_UP)
			first = now;
		else
			check_footprint(&first, &now);
		if (round > 0 && round % 100 == 0)
			report((uint64_t)(now_ms() - began) / 1000);
	}
	report((uint64_t)(now_ms() - began) / 1000);
	CHECK(tally.lent_bytes > 0 || !has_network);
	printf("after %d rounds %d descriptors, %d mappings, %zu KiB allocated, %ld KiB resident; at the end %d, %d, %zu, %ld\n",
	       WARM_UP, first.fds, first.mappings, first.heap_kib, first.resident_kib, now.fds, now.mappings,
	       now.heap_kib, now.resident_kib);
	return 0;
}
