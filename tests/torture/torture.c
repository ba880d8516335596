/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Snapshot torture: files on four file systems are overwritten, truncated, extended, punched and unlinked the
 * very moment DONE or the SNAPSHOT event allows it, while hundreds of peers, many of them slow or stalled or
 * behind a tiny window, have not read the data and 5 % of the segments are lost and sent again. Every byte is
 * compared with what the file held. Each way that data can go is driven on each engine; then the same files,
 * connections and readers with sendfile and with splice, and with files lent (ZEROCOPY) that change at SENT, before
 * DONE allows it. These must be caught.
 *
 * What a run must have shown only grows: bytes that went the way it is to drive, lost segments, bytes of each file
 * system, wrong ones of each for sendfile and splice. A run goes on until all of it has been shown, because how soon
 * that is depends on the machine: a thread that lacks a processor for 20 ms makes the library read through helper
 * threads and the pool for some seconds, and a journal that commits keeps one file system back.
 *
 *   torture [--megabytes n] [--seconds n] [--seed n] [--way name]
 *
 * --megabytes: sent in each round, shared out among the runs (default 10000). --seconds: more rounds until then.
 * --way: only the runs of this way, for example page-cache, and the controls.
 */
#include "readers.h"

#define CONNECTIONS 192
#define SLOTS_EACH  2 /* operations queued on a connection */
#define SLOTS       (CONNECTIONS * SLOTS_EACH)
#define WRITERS     3
#define READERS     2
#define EDGE_MAX    500 /* bytes of header, and of trailer */

#define CONTROL_CONNECTIONS 24

#define WAY_SHARE     10  /* one part in so many of a run's bytes must go the way that it drives */
#define FS_SHARE      50  /* and come from each file system */
#define LOST_LEAST    100 /* segments sent again, */
#define LOST_SHARE    50  /* and one of so many sent: 5 % are lost; without loss less than 1 % are sent again */
#define CHANGES_LEAST 10  /* of each kind on each file system; 10,000 megabytes bring about thousands */
#define SHOWN_WITHIN  600 /* seconds for a run */
#define TIME_LIMIT    900 /* the same, with the end of all that is under way */

/* LENT: the file's own pages are in the socket. LENT_EARLY: the same, but the file is changed too early, at SENT. */
enum method { INLINE, MAPPED, POOLED, ZERO_COPY, LENT, LENT_EARLY, BLOCKING, SENDFILE, SPLICE, WAYS };
static const char *const way_name[WAYS] = { "inline",  "mapped",        "pooled",   "zero-copy", "page-cache",
					    "at SENT", "snapsend_send", "sendfile", "splice" };

struct slot {
	struct connection *connection;
	struct file file;
	int handle; /* of the registered file, 0: it is not registered */
	pthread_mutex_t lock;
	uint64_t id;
	bool changed; /* at its SNAPSHOT */
	bool sent;    /* SENT has been reported */
	uint64_t total, length;
};

struct run {
	uint32_t engine;
	enum method way;
	uint64_t goal; /* bytes */
	snapsend_t *ctx;
	_Atomic uint64_t started;
	_Atomic uint64_t sent_owed; /* SENT events that have not been reported */
	atomic_int active;
	uint64_t pool_peak;
	struct segments before;
	int64_t began_ms;
};

static struct network network;
static struct connection connections[CONNECTIONS];
static struct slot slots[SLOTS];
static struct run run;

/* The pages of the files themselves are sent. */
static bool lends(void)
{
	return run.way == LENT || run.way == LENT_EARLY;
}

/* The library sends. */
static bool is_library(void)
{
	return run.way < SENDFILE;
}

/* Changed bytes must arrive. */
static bool is_control(void)
{
	return run.way == LENT_EARLY || !is_library();
}

/* ---- what a run must show ------------------------------------------------------------------------------ */

static _Atomic uint64_t bytes_mapped;

/* In place of libc's, for libsnapsend.so as well: nothing else here maps files for reading only. */
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	long map = syscall(SYS_mmap, address, length, protection, flags, fd, offset);
	if (map != -1 && fd >= 0 && protection == PROT_READ)
		atomic_fetch_add(&bytes_mapped, length);
	return (void *)map;
}

static struct snapsend_stats stats_now(void)
{
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(run.ctx, &stats, sizeof stats), 0);
	return stats;
}

/* Bytes that have gone the way that is to be driven, if that can be told. */
static uint64_t driven(void)
{
	switch (run.way) {
	case INLINE: return stats_now().bytes_inline;
	case MAPPED: return atomic_load(&bytes_mapped);
	case ZERO_COPY: return stats_now().bytes_zerocopy;
	case LENT: return stats_now().bytes_page_cache;
	default: return UINT64_MAX;
	}
}

static struct segments segments_of_run(void)
{
	struct segments now = segments_now();
	return (struct segments){ now.sent - run.before.sent, now.again - run.before.again };
}

/* Writes what has not been shown yet; false: nothing. */
static bool missing(char *text, size_t size)
{
	uint64_t way = driven();
	struct segments segments = segments_of_run();
	if (way < run.goal / WAY_SHARE) {
		snprintf(text, size, "%" PRIu64 " of %" PRIu64 " bytes went this way", way, run.goal);
		return true;
	}
	if (segments.again < LOST_LEAST || segments.again < segments.sent / LOST_SHARE) {
		snprintf(text, size, "%" PRIu64 " of %" PRIu64 " segments were sent again", segments.again,
			 segments.sent);
		return true;
	}
	for (int fs = 0; fs < FSES; fs++) {
		uint64_t got = atomic_load(&bytes_got[fs]), wrong_ones = atomic_load(&bytes_wrong[fs]);
		if (got < run.goal / FS_SHARE || (is_control() && wrong_ones == 0)) {
			snprintf(text, size, "%" PRIu64 " bytes came from %s, of which %" PRIu64 " were wrong", got,
				 fs_name[fs], wrong_ones);
			return true;
		}
	}
	return false;
}

/* Whether the run may end. */
static bool all_shown(void)
{
	char text[128];
	if (atomic_load(&run.started) < run.goal)
		return false;
	if (!missing(text, sizeof text))
		return true;
	if (now_ms() - run.began_ms > INT64_C(1000) * SHOWN_WITHIN * slowness())
		fail("%s proves nothing: after %d s only %s", way_name[run.way], SHOWN_WITHIN * slowness(), text);
	return false;
}

/* ---- slots that may start their next operation ------------------------------------------------------- */

static struct slot *ready[SLOTS];
static size_t ready_first, ready_count;
static pthread_mutex_t ready_lock = PTHREAD_MUTEX_INITIALIZER;

static void ready_push(struct slot *s)
{
	PTHREAD(pthread_mutex_lock(&ready_lock));
	CHECK_ULE(ready_count + 1, SLOTS);
	ready[(ready_first + ready_count++) % SLOTS] = s;
	PTHREAD(pthread_mutex_unlock(&ready_lock));
}

static struct slot *ready_pop(void)
{
	struct slot *s = NULL;
	PTHREAD(pthread_mutex_lock(&ready_lock));
	if (ready_count > 0) {
		s = ready[ready_first];
		ready_first = (ready_first + 1) % SLOTS, ready_count--;
	}
	PTHREAD(pthread_mutex_unlock(&ready_lock));
	return s;
}

/* ---- registered descriptors ------------------------------------------------------------------------------ */

static void unregister_file(struct slot *s)
{
	if (s->handle > 0)
		CHECK_EQ(snapsend_unregister_file(run.ctx, s->handle), 0);
	s->handle = 0;
}

/* Half of the connections are registered as long as they last, and the file of every second operation is. */
static void use_handles(struct slot *s, struct snapsend_request *request)
{
	if (s->connection->handle > 0) {
		request->socket_fd = s->connection->handle;
		request->flags |= SNAPSEND_REGISTERED_SOCKET;
	}
	if (one_in(2))
		return;
	if (s->handle == 0)
		s->handle = snapsend_register_file(run.ctx, s->file.fd, 0);
	CHECK_GT(s->handle, 0);
	request->file_fd = s->handle;
	request->flags |= SNAPSEND_REGISTERED_FILE;
}

/* The file may change, and does. A handle is of the file that it was made for, not of its name. */
static void change_file(struct slot *s)
{
	file_change(&s->file);
	if (s->file.unlinked_fd >= 0)
		unregister_file(s);
}

/* ---- one operation --------------------------------------------------------------------------------------- */

/* Lengths for which the library takes the way that is to be driven. */
static size_t choose_length(const struct connection *c)
{
	if (c->pace == TINY_WINDOW)
		return random_length(run.way == MAPPED ? 33000 : run.way == ZERO_COPY ? 256 * KIB : 1, 64 * KIB);
	switch (run.way) {
	case INLINE: return random_length(1, 256 * KIB);
	case MAPPED: /* from 256 KiB on zero-copy is tried where the peer is elsewhere */
		return random_length(33000, c->path == PATH_VETH ? 250 * KIB : 2 * MIB);
	case ZERO_COPY: return random_length(256 * KIB, 2 * MIB);
	case LENT:
	case LENT_EARLY: return random_length(one_in(8) ? 1 : 64 * KIB, 2 * MIB);
	default: return random_length(1, MIB);
	}
}

static uint32_t choose_flags(const struct connection *c)
{
	uint32_t flags = one_in(2) && run.way != LENT_EARLY ? SNAPSEND_NOTIFY_SNAPSHOT : 0;
	if (run.way == POOLED)
		flags |= one_in(2) ? SNAPSEND_EAGER : one_in(2) ? SNAPSEND_EXACT : 0;
	if (lends() || (run.way == MAPPED && c->path != PATH_VETH && one_in(2)))
		flags |= SNAPSEND_ZEROCOPY; /* of no effect to a peer on this machine */
	if (run.way == LENT_EARLY || one_in(3))
		flags |= SNAPSEND_NOTIFY_SENT;
	return one_in(8) ? flags | SNAPSEND_MORE : flags;
}

/* Header, range and trailer; with what they will bring, which is told to the reader. */
static struct snapsend_request make_operation(struct slot *s, struct iovec edges[2])
{
	struct connection *c = s->connection;
	size_t length = choose_length(c), offset = one_in(2) ? 0 : (size_t)random_below(8192);
	file_prepare(&s->file, offset + length);
	struct snapsend_request request = make_request(c->sv[0], s->file.fd, offset, length);
	request.flags = choose_flags(c);
	request.user_data = (uint64_t)(s - slots);
	if (run.way == POOLED) {
		if ((request.flags & (SNAPSEND_EAGER | SNAPSEND_EXACT)) == 0 || one_in(4))
			request.length = SNAPSEND_TO_EOF;
		if (one_in(4))
			file_cool(&s->file);
	}
	if (lends())
		use_handles(s, &request);
	for (int i = 0; i < 2; i++) {
		edges[i].iov_len = one_in(3) ? (size_t)random_below(EDGE_MAX + 1) : 0;
		edges[i].iov_base = (void *)(uintptr_t)image_piece(EDGE_MAX);
	}
	request.header = &edges[0], request.header_count = edges[0].iov_len > 0;
	request.trailer = &edges[1], request.trailer_count = edges[1].iov_len > 0;
	s->length = length;
	s->total = length + edges[0].iov_len + edges[1].iov_len;
	s->changed = s->sent = false;
	return request;
}

static void expect_operation(struct slot *s, const struct snapsend_request *request)
{
	struct connection *c = s->connection;
	expect(c, request->header->iov_base, request->header->iov_len);
	expect(c, s->file.content + request->offset, (size_t)s->length);
	expect(c, request->trailer->iov_base, request->trailer->iov_len);
	atomic_fetch_add(&run.started, s->total);
}

static void check_done(const struct slot *s, const struct snapsend_completion *done)
{
	if (done->status != 0 || done->wire_bytes != s->total || done->file_bytes != s->length)
		fail("DONE with status %d (%s), %" PRIu64 " bytes of %" PRIu64 " and %" PRIu64 " of the file's %" PRIu64
		     ", over %s, file on %s",
		     done->status, strerror(-done->status), done->wire_bytes, s->total, done->file_bytes, s->length,
		     path_name[s->connection->path], fs_name[s->file.fs]);
}

/* With its lock held: the file may change, and does. */
static void done_with(struct slot *s, const struct snapsend_completion *done)
{
	if (!s->changed)
		change_file(s);
	file_close_unlinked(&s->file);
	s->id = 0;
	check_done(s, done);
}

/* False: no more, everything has been shown. */
static bool start(struct slot *s)
{
	struct iovec edges[2];
	struct snapsend_completion done;
	int result;
	if (all_shown())
		return false;
	PTHREAD(pthread_mutex_lock(&s->lock));
	struct snapsend_request request = make_operation(s, edges);
	PTHREAD(pthread_mutex_lock(&s->connection->lock));
	expect_operation(s, &request);
	if (run.way == INLINE) {
		result = snapsend_try_send(run.ctx, &request, sizeof request, &done);
		s->id = done.id;
	} else {
		result = snapsend_submit(run.ctx, &request, sizeof request, &s->id);
	}
	if (result == 0 && (request.flags & SNAPSEND_NOTIFY_SENT) != 0)
		atomic_fetch_add(&run.sent_owed, 1);
	PTHREAD(pthread_mutex_unlock(&s->connection->lock));
	if (result < 0)
		fail("refused: %s", strerror(-result));
	if (result == 1)
		done_with(s, &done);
	PTHREAD(pthread_mutex_unlock(&s->lock));
	if (result == 1)
		ready_push(s);
	return true;
}

/* With its lock held, before its DONE has been taken. All is in the socket: the file may not change yet. */
static void sent(struct slot *s, const struct snapsend_completion *event)
{
	CHECK(!s->sent);
	CHECK_UEQ(event->wire_bytes, s->total);
	s->sent = true;
	if (run.way == LENT_EARLY)
		file_put(s->file.fd, 0, image_piece(s->file.size), s->file.size);
	else if (one_in(8)) /* the operation goes on */
		unregister_file(s);
}

static void take(const struct snapsend_completion *event)
{
	struct slot *s = &slots[event->user_data];
	PTHREAD(pthread_mutex_lock(&s->lock));
	bool done = event->event == SNAPSEND_EVENT_DONE;
	if (event->event == SNAPSEND_EVENT_SENT)
		atomic_fetch_sub(&run.sent_owed, 1);
	if (done) {
		CHECK_UEQ(event->id, s->id);
		done_with(s, event);
	} else if (event->id != s->id) {
		/* another thread has taken its DONE in the meantime */
	} else if (event->event == SNAPSEND_EVENT_SENT) {
		sent(s, event);
	} else {
		CHECK(!s->changed);
		change_file(s);
		s->changed = true;
	}
	PTHREAD(pthread_mutex_unlock(&s->lock));
	if (done)
		ready_push(s);
}

static void *writer_main(void *argument)
{
	struct snapsend_completion events[4];
	random_state = *(uint64_t *)argument;
	while (atomic_load(&run.active) > 0) {
		struct slot *s = ready_pop();
		if (s != NULL && !start(s))
			atomic_fetch_sub(&run.active, 1);
		int n = snapsend_poll(run.ctx, events, one_in(2) ? 1 : COUNT_OF(events), s != NULL ? 0 : 10);
		CHECK_GE(n, 0);
		for (int i = 0; i < n; i++)
			take(&events[i]);
		uint64_t pool = one_in(64) ? stats_now().pool_resident : 0;
		if (pool > run.pool_peak)
			run.pool_peak = pool; /* roughly: for the report */
	}
	return NULL;
}

/* ---- those that block: a thread for each connection ------------------------------------------------------ */

static void send_blocking(struct slot *s, const struct snapsend_request *request)
{
	struct snapsend_completion done;
	int to = s->connection->sv[0], from = s->file.fd;
	if (run.way == BLOCKING) {
		CHECK_EQ(snapsend_send(run.ctx, request, sizeof *request, &done), 0);
		check_done(s, &done);
		return;
	}
	CHECK_EQ(send(to, request->header->iov_base, request->header->iov_len, MSG_MORE), request->header->iov_len);
	if (run.way == SENDFILE)
		sendfile_all(to, from, request->offset, (size_t)request->length);
	else
		splice_all(to, from, request->offset, (size_t)request->length);
	CHECK_EQ(send(to, request->trailer->iov_base, request->trailer->iov_len, 0), request->trailer->iov_len);
}

static void *blocking_main(void *argument)
{
	struct slot *s = argument;
	random_state = (uint64_t)(s - slots) + 4711;
	while (!all_shown()) {
		struct iovec edges[2];
		struct snapsend_request request = make_operation(s, edges);
		PTHREAD(pthread_mutex_lock(&s->connection->lock));
		expect_operation(s, &request);
		PTHREAD(pthread_mutex_unlock(&s->connection->lock));
		send_blocking(s, &request);
		change_file(s);
		file_close_unlinked(&s->file);
	}
	return NULL;
}

/* ---- a run ------------------------------------------------------------------------------------------------ */

static enum path choose_path(size_t i)
{
	if (run.way == ZERO_COPY || lends())
		return PATH_VETH;
	if (run.way >= BLOCKING) /* nothing is lost on AF_UNIX, but much is unread */
		return i / FSES % 2 ? PATH_LOOP : PATH_VETH;
	return (enum path)(i / FSES % PATHS);
}

static void open_connection(struct connection *c, size_t i)
{
	memset(c, 0, sizeof *c);
	PTHREAD(pthread_mutex_init(&c->lock, NULL));
	c->fs = (enum fs)(i % FSES);
	c->path = choose_path(i);
	c->pace = (enum pace)(i / FSES / PATHS % PACES);
	if (c->pace == TINY_WINDOW && (run.way == ZERO_COPY || lends() || run.way >= BLOCKING))
		c->pace = SLOW; /* too slow for so much */
	connect_over(&network, c->path, c->pace == TINY_WINDOW ? 4096 : 0, c->sv);
	if (one_in(3)) { /* so much that DONE comes long before the peer has it */
		int bytes = 4 << 20;
		SYS(setsockopt(c->sv[0], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes));
	}
	if (lends() && one_in(2))
		CHECK_GT(c->handle = snapsend_register_socket(run.ctx, c->sv[0], 0), 0);
}

static void open_all(size_t count, size_t slots_each)
{
	for (size_t i = 0; i < count; i++) {
		open_connection(&connections[i], i);
		for (size_t k = 0; k < slots_each; k++) {
			struct slot *s = &slots[i * slots_each + k];
			memset(s, 0, sizeof *s);
			PTHREAD(pthread_mutex_init(&s->lock, NULL));
			s->connection = &connections[i];
			s->file.fs = connections[i].fs;
			file_new(&s->file);
		}
	}
}

static void create_context(void)
{
	static const uint64_t pools[] = { [INLINE] = 0, [MAPPED] = 0, [POOLED] = 6 * MIB, [ZERO_COPY] = 192 * MIB };
	struct snapsend_options options;
	memset(&options, 0, sizeof options);
	options.engine = run.engine;
	options.pool_bytes = run.way < COUNT_OF(pools) ? pools[run.way] : 0;
	options.window_bytes = lends() ? 64 * MIB : 0; /* less than the files have, so that windows go */
	int result = snapsend_create(&options, sizeof options, &run.ctx);
	if (result != 0)
		fail("snapsend_create: %s", strerror(-result));
}

static void send_all(size_t slot_count)
{
	pthread_t threads[SLOTS];
	uint64_t seeds[WRITERS];
	size_t count = run.way >= BLOCKING ? slot_count : WRITERS;
	for (size_t i = 0; i < slot_count && run.way < BLOCKING; i++)
		ready_push(&slots[i]);
	for (size_t i = 0; i < count; i++) {
		if (run.way < BLOCKING)
			seeds[i] = random_number();
		PTHREAD(run.way < BLOCKING ? pthread_create(&threads[i], NULL, writer_main, &seeds[i])
					   : pthread_create(&threads[i], NULL, blocking_main, &slots[i]));
	}
	for (size_t i = 0; i < count; i++)
		PTHREAD(pthread_join(threads[i], NULL));
}

/* Sends until everything has been shown; every byte has been compared when it returns. */
static void send_and_read(size_t count, size_t slot_count)
{
	struct readers readers[READERS];
	atomic_store(&hurry, false);
	for (size_t i = 0; i < READERS; i++) {
		readers[i] = (struct readers){ connections, count * i / READERS, count * (i + 1) / READERS, 0 };
		PTHREAD(pthread_create(&readers[i].thread, NULL, readers_main, &readers[i]));
	}
	send_all(slot_count);
	atomic_store(&hurry, true);
	for (size_t i = 0; i < count; i++)
		SYS(shutdown(connections[i].sv[0], SHUT_WR));
	for (size_t i = 0; i < READERS; i++)
		PTHREAD(pthread_join(readers[i].thread, NULL));
}

static void close_all(size_t count, size_t slot_count)
{
	for (size_t i = 0; i < count; i++) {
		close_pair(connections[i].sv);
		free(connections[i].expected);
	}
	for (size_t i = 0; i < slot_count; i++)
		file_drop(&slots[i].file);
}

static uint64_t sum(_Atomic uint64_t *of)
{
	uint64_t total = 0;
	for (int fs = 0; fs < FSES; fs++)
		total += atomic_load(&of[fs]);
	return total;
}

/* What the library says of itself must agree with what was asked for. */
static struct snapsend_stats check_stats(void)
{
	struct snapsend_stats stats;
	int64_t end = now_ms() + WAIT_MS * slowness();
	do { /* the last notifications of zero-copy sends */
		stats = stats_now();
		sleep_ms(2);
	} while ((stats.pool_in_use > 0 || stats.in_flight > 0) && now_ms() < end);
	CHECK_UEQ(stats.pool_in_use, 0);
	CHECK_UEQ(stats.in_flight, 0);
	CHECK_UEQ(stats.submitted, stats.done_ok);
	CHECK_UEQ(stats.wire_bytes, atomic_load(&run.started));
	CHECK_UEQ(stats.connections_reset, 0);
	CHECK_UEQ(atomic_load(&run.sent_owed), 0);
	if (run.way != INLINE && run.way != BLOCKING)
		CHECK_UEQ(stats.bytes_inline, 0);
	return stats;
}

static double percent(uint64_t part, uint64_t whole)
{
	return 100.0 * (double)part / (double)whole;
}

static void report(const struct snapsend_stats *stats)
{
	static const char *const engines[] = { "", "uring", "portable" };
	int64_t ms = now_ms() - run.began_ms;
	printf("%-9s%-14s%7.0f MB %6.1f s", is_library() ? engines[run.engine] : "-", way_name[run.way],
	       (double)sum(bytes_got) / 1e6, (double)ms / 1e3);
	if (stats != NULL)
		printf("  inline %3.0f %%  zero-copy %3.0f %%  page cache %3.0f %%  mapped %3.0f %%  pool %5.1f MiB",
		       percent(stats->bytes_inline, stats->file_bytes),
		       percent(stats->bytes_zerocopy, stats->file_bytes),
		       percent(stats->bytes_page_cache, stats->file_bytes),
		       percent(atomic_load(&bytes_mapped), stats->file_bytes), (double)run.pool_peak / (double)MIB);
	struct segments segments = segments_of_run();
	printf("  resent %6" PRIu64 " (%2.0f %%)", segments.again, percent(segments.again, segments.sent));
	for (int fs = 0; fs < FSES; fs++) {
		printf("  %s %2.0f %%", fs_name[fs], percent(atomic_load(&bytes_got[fs]), sum(bytes_got)));
		if (is_control())
			printf(", wrong %" PRIu64, atomic_load(&bytes_wrong[fs]));
	}
	printf("\n");
}

static void run_one(uint32_t engine, enum method way, uint64_t goal)
{
	bool blocking = way >= BLOCKING, library = way < SENDFILE;
	size_t count = blocking || way == LENT_EARLY ? CONTROL_CONNECTIONS : CONNECTIONS;
	size_t each = blocking ? 1 : SLOTS_EACH;
	struct snapsend_stats stats;
	doing(way_name[way]);
	time_limit(TIME_LIMIT);
	memset(&run, 0, sizeof run);
	run.engine = engine, run.way = way, run.goal = goal;
	run.began_ms = now_ms(), run.before = segments_now();
	atomic_store(&bytes_mapped, 0);
	atomic_store(&run.active, (int)(count * each));
	wrong_is_fatal = !is_control();
	for (int fs = 0; fs < FSES; fs++)
		atomic_store(&bytes_got[fs], 0), atomic_store(&bytes_wrong[fs], 0);
	if (library)
		create_context();
	open_all(count, each);
	send_and_read(count, count * each);
	CHECK_UEQ(sum(bytes_got), atomic_load(&run.started));
	if (library)
		stats = check_stats();
	report(library ? &stats : NULL);
	if (library)
		destroy_ctx(run.ctx);
	close_all(count, count * each);
}

/* ---- all ---------------------------------------------------------------------------------------------------- */

/* only: the runs of this way, WAYS: of all. */
static void one_round(uint64_t bytes, enum method only)
{
	static const struct {
		uint32_t engine;
		enum method way;
	} runs[] = {
		{ SNAPSEND_ENGINE_URING, INLINE },    { SNAPSEND_ENGINE_URING, MAPPED },
		{ SNAPSEND_ENGINE_URING, POOLED },    { SNAPSEND_ENGINE_URING, ZERO_COPY },
		{ SNAPSEND_ENGINE_URING, LENT },      { SNAPSEND_ENGINE_PORTABLE, INLINE },
		{ SNAPSEND_ENGINE_PORTABLE, MAPPED }, { SNAPSEND_ENGINE_PORTABLE, POOLED },
	};
	uint64_t least = bytes / 100 > 30 * MIB ? bytes / 100 : 30 * MIB, chosen = 0;
	for (size_t i = 0; i < COUNT_OF(runs); i++)
		chosen += only == WAYS || only == runs[i].way;
	for (size_t i = 0; i < COUNT_OF(runs); i++) {
		if (only != WAYS && only != runs[i].way)
			continue;
		if ((runs[i].way == ZERO_COPY || runs[i].way == LENT) && network.xdp < 0) {
			printf("SKIPPED  %s: no XDP program can be attached to a veth interface here\n",
			       way_name[runs[i].way]);
			continue;
		}
		run_one(runs[i].engine, runs[i].way, bytes / chosen);
	}
	if (network.xdp >= 0)
		run_one(SNAPSEND_ENGINE_URING, LENT_EARLY, least);
	/* The same with a thread for each connection; with sendfile and splice it must fail. */
	run_one(SNAPSEND_ENGINE_AUTO, BLOCKING, least);
	run_one(SNAPSEND_ENGINE_AUTO, SENDFILE, least);
	run_one(SNAPSEND_ENGINE_AUTO, SPLICE, least);
}

static void report_changes(void)
{
	for (int change = 0; change < CHANGES; change++) {
		printf("%-29s", change_name[change]);
		for (int fs = 0; fs < FSES; fs++) {
			uint64_t n = atomic_load(&changes_made[fs][change]);
			printf("  %s %7" PRIu64, fs_name[fs], n);
			CHECK_UGE(n, CHANGES_LEAST);
		}
		printf("\n");
	}
}

static enum method way_named(const char *name)
{
	for (int way = 0; way < LENT_EARLY; way++)
		if (strcmp(name, way_name[way]) == 0)
			return (enum method)way;
	fail("no such way: %s", name);
}

int main(int argc, char **argv)
{
	uint64_t megabytes = 10000, seconds = 0, seed = (uint64_t)time(NULL);
	enum method only = WAYS;
	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t value = strtoull(argv[i + 1], NULL, 10);
		if (strcmp(argv[i], "--megabytes") == 0)
			megabytes = value;
		else if (strcmp(argv[i], "--seconds") == 0)
			seconds = value;
		else if (strcmp(argv[i], "--seed") == 0)
			seed = value;
		else if (strcmp(argv[i], "--way") == 0)
			only = way_named(argv[i + 1]);
		else
			fail("no such option: %s", argv[i]);
	}
	printf("seed %" PRIu64 "\n", seed);
	random_state = seed;
	unsetenv("SNAPSEND_ENGINE");
	raise_fd_limit(4096);
	image_make();
	file_systems_set_up();
	network_set_up(&network);
	int64_t end = now_ms() + (int64_t)seconds * 1000;
	do
		one_round(megabytes * 1000000, only);
	while (now_ms() < end);
	report_changes();
	printf("every byte was as the file held it\n");
	return 0;
}
