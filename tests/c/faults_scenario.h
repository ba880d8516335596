/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One context's life, with every way that data can go, to be run with a fault somewhere: scenario_run(). It
 * checks what must hold whatever fails: nothing hangs, each accepted operation has exactly one DONE, the peers
 * get exactly the bytes that the completions tell, and what was taken is given back.
 */
#ifndef SNAPSEND_TESTS_FAULTS_SCENARIO_H
#define SNAPSEND_TESTS_FAULTS_SCENARIO_H

#include "../torture/network.h"
#include "faults.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#define STREAMS     16
#define OPERATIONS  24
#define FILE_LENGTH (2 * MIB)
#define FILE_SEED   77
#define HANG_MS     25000

struct operation {
	int stream;
	bool accepted, done, sent;
	uint64_t id;
	bool after_cut;         /* the DONE that told of a cut had been taken before */
	int expected;           /* its status when nothing fails */
	int expected_too;       /* or this */
	unsigned char *content; /* all it would send */
	size_t length;
	struct snapsend_completion completion;
};

struct stream {
	int sv[2];
	bool stalled; /* the peer does not read for now */
	bool reset;   /* by the library, to take lent pages back */
	unsigned char *got;
	size_t count, capacity;
};

struct scenario {
	bool far; /* peers seem far away, so that zero-copy is tried */
	bool has_network;
	struct network network; /* with peers that are far away, if there can be one */
	unsigned char *image;   /* what the files hold */
	int warm, cold;         /* files with the pattern; the second is dropped from the page cache at the start */
	snapsend_t *ctx;
	int event_fd;
	struct stream streams[STREAMS];
	int stream_count;
	struct operation operations[OPERATIONS];
	int operation_count;
	bool dead;      /* a call has said so */
	bool died;      /* in any of the runs so far */
	char what[160]; /* for messages */
};

/* ---- several processes share the work: a scenario mostly waits --------------------------------------- */

#define WORKERS 4

struct workers {
	int own; /* this process is one of 0 to WORKERS - 1; the first has started the others */
	pid_t others[WORKERS];
	struct worker_counts {
		atomic_uint runs, hits, deaths, left_out;
	} * counts; /* of all */
};

static inline struct workers start_workers(void)
{
	struct workers w = { 0 };
	w.counts = mmap(NULL, sizeof *w.counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(w.counts != MAP_FAILED);
	for (int i = 1; i < WORKERS && w.own == 0; i++) {
		w.others[i] = (pid_t)SYS(fork());
		if (w.others[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			w.own = i;
		}
	}
	return w;
}

static inline bool is_for_worker(const struct workers *w, int number)
{
	return number % WORKERS == w->own;
}

/* Returns in the first process alone, when the others have passed. */
static inline void end_workers(const struct workers *w)
{
	if (w->own != 0)
		exit(0);
	for (int i = 1; i < WORKERS; i++) {
		int status;
		CHECK_EQ(SYS(waitpid(w->others[i], &status, 0)), w->others[i]);
		CHECK_EQ(status, 0);
	}
}

/* ------------------------------------------------------------------------------------------------------ */

static inline struct scenario scenario_files(void)
{
	struct scenario s = { .event_fd = -1 };
	s.warm = temp_file(FILE_LENGTH, FILE_SEED);
	s.cold = temp_file(FILE_LENGTH, FILE_SEED);
	s.has_network = network_try(&s.network);
	SYS(fdatasync(s.cold));
	s.image = image_of(0, FILE_LENGTH, FILE_SEED);
	return s;
}

/* An error is no surprise while something fails: not one that nobody has given, though. */
static inline bool scenario_may(int status)
{
	if (atomic_load(&faults_given) == 0)
		return false;
	switch (-status) {
	case ECANCELED:
	case EIO:
	case EBADF:
	case EMFILE:
	case ENOMEM: return true;
	default: break;
	}
	if (fault_plan.at_random == 0)
		return status == -fault_plan.error;
	for (int kind = 0; kind < FAULT_KINDS_COUNT; kind++)
		for (int i = 0; i < errnos_of((enum fault_kind)kind); i++)
			if (status == -fault_kinds[kind].errnos[i])
				return true;
	return false;
}

static inline int scenario_stream(struct scenario *s, int family, int sndbuf, int rcvbuf)
{
	struct stream *stream = &s->streams[s->stream_count];
	memset(stream, 0, sizeof *stream);
	CHECK(s->stream_count < STREAMS);
	CHECK(pair_sized(family, stream->sv, sndbuf, rcvbuf));
	return s->stream_count++;
}

static inline int scenario_far_stream(struct scenario *s)
{
	struct stream *stream = &s->streams[s->stream_count];
	memset(stream, 0, sizeof *stream);
	CHECK(s->stream_count < STREAMS);
	connect_over(&s->network, PATH_VETH, 0, stream->sv);
	return s->stream_count++;
}

/* ---- handing in ------------------------------------------------------------------------------ */

static inline struct snapsend_request range_of(int file, uint64_t offset, uint64_t length, uint32_t flags)
{
	struct snapsend_request request = make_request(-1, file, offset, length);
	request.flags = flags;
	return request;
}

static unsigned char scenario_edge[1500];

static inline void content_of(struct operation *o, const struct snapsend_request *r)
{
	uint64_t in_file = r->file_fd < 0 || r->offset >= FILE_LENGTH ? 0 : FILE_LENGTH - r->offset;
	uint64_t range = r->length == SNAPSEND_TO_EOF ? in_file : r->length;
	size_t header = r->header_count ? r->header->iov_len : 0, trailer = r->trailer_count ? r->trailer->iov_len : 0;
	o->length = header + range + trailer;
	o->content = calloc(1, o->length + 1);
	CHECK(o->content != NULL);
	memcpy(o->content, scenario_edge, header);
	pattern_fill(o->content + header, r->offset, range < in_file ? range : in_file, FILE_SEED);
	memcpy(o->content + header + range, scenario_edge, trailer);
}

enum handing { SUBMIT, TRY_SEND, SEND };

static inline void scenario_done(struct scenario *s, struct operation *o, const struct snapsend_completion *c)
{
	if (o->done)
		fail("%s: a second DONE for operation %d", s->what, (int)(o - s->operations));
	o->done = true;
	o->completion = *c;
}

static inline struct operation *scenario_hand_in(struct scenario *s, enum handing how, int stream,
						 struct snapsend_request request, int expected)
{
	struct operation *o = &s->operations[s->operation_count++];
	struct snapsend_completion completion;
	int result;
	CHECK(s->operation_count <= OPERATIONS);
	memset(o, 0, sizeof *o);
	memset(&completion, 0, sizeof completion);
	o->stream = stream;
	o->expected = o->expected_too = expected;
	for (struct operation *before = s->operations; before < o; before++)
		o->after_cut |= before->stream == stream && before->done && before->completion.status < 0;
	content_of(o, &request);
	if ((request.flags & SNAPSEND_REGISTERED_SOCKET) == 0)
		request.socket_fd = s->streams[stream].sv[0];
	request.user_data = (uint64_t)(uintptr_t)o;
	if (how == SUBMIT)
		result = snapsend_submit(s->ctx, &request, sizeof request, &o->id);
	else if (how == TRY_SEND)
		result = snapsend_try_send(s->ctx, &request, sizeof request, &completion);
	else
		result = snapsend_send(s->ctx, &request, sizeof request, &completion);
	if (result < 0 && !scenario_may(result))
		fail("%s: not accepted: %s", s->what, strerror(-result));
	o->accepted = result >= 0;
	if (how == TRY_SEND && result == 0)
		o->id = completion.id;
	if ((how == TRY_SEND && result == 1) || (how == SEND && result == 0)) {
		o->id = completion.id;
		scenario_done(s, o, &completion);
	}
	return o;
}

/* ---- waiting for what comes -------------------------------------------------------------------- */

static inline void stream_read(struct stream *stream)
{
	for (;;) {
		if (stream->capacity - stream->count < 65536) {
			stream->capacity = stream->capacity * 2 + 65536 * 2;
			stream->got = realloc(stream->got, stream->capacity);
			CHECK(stream->got != NULL);
		}
		ssize_t n = recv(stream->sv[1], stream->got + stream->count, stream->capacity - stream->count,
				 MSG_DONTWAIT);
		stream->reset |= n < 0 && errno == ECONNRESET;
		if (n <= 0)
			return;
		stream->count += (size_t)n;
	}
}

static inline void scenario_take(struct scenario *s, int timeout_ms)
{
	struct snapsend_completion some[8];
	int n = snapsend_poll(s->ctx, some, COUNT_OF(some), timeout_ms);
	if (n < 0 && n != -EINTR && !scenario_may(n))
		fail("%s: snapsend_poll: %s", s->what, strerror(-n));
	if (n < 0 && n != -EINTR)
		s->dead = true;
	for (int i = 0; i < n; i++) {
		struct operation *o = (struct operation *)(uintptr_t)some[i].user_data;
		if (o < s->operations || o >= s->operations + s->operation_count || !o->accepted || o->id != some[i].id)
			fail("%s: a completion of an operation that was not accepted", s->what);
		if (some[i].event == SNAPSEND_EVENT_DONE)
			scenario_done(s, o, &some[i]);
		else if (o->done || (some[i].event == SNAPSEND_EVENT_SENT && o->sent))
			fail("%s: event %u of operation %d too often or too late", s->what, some[i].event,
			     (int)(o - s->operations));
		o->sent |= some[i].event == SNAPSEND_EVENT_SENT;
	}
}

static inline int scenario_pending(const struct scenario *s)
{
	int pending = 0;
	for (int i = 0; i < s->operation_count; i++)
		pending += s->operations[i].accepted && !s->operations[i].done;
	return pending;
}

/* With an event fd, completions are asked for only when it says so: otherwise a lost bell would not show. */
static inline void scenario_turn(struct scenario *s, int timeout_ms)
{
	struct pollfd entries[STREAMS + 1];
	int count = 0;
	for (int i = 0; i < s->stream_count; i++)
		if (!s->streams[i].stalled)
			entries[count++] = (struct pollfd){ .fd = s->streams[i].sv[1], .events = POLLIN };
	if (s->event_fd >= 0)
		entries[count++] = (struct pollfd){ .fd = s->event_fd, .events = POLLIN };
	poll(entries, (nfds_t)count, s->event_fd >= 0 ? timeout_ms : 0);
	for (int i = 0; i < s->stream_count; i++)
		if (!s->streams[i].stalled)
			stream_read(&s->streams[i]);
	if (s->event_fd < 0 || entries[count - 1].revents != 0)
		scenario_take(s, s->event_fd < 0 ? 2 : 0);
}

static inline void scenario_wait(struct scenario *s)
{
	int64_t end = now_ms() + HANG_MS;
	while (scenario_pending(s) > 0 && now_ms() < end) {
		scenario_turn(s, 200);
		if (s->dead && scenario_pending(s) > 0)
			fail("%s: poll says that the context is dead, and %d operations have no DONE", s->what,
			     scenario_pending(s));
	}
	for (int i = 0; i < s->operation_count; i++)
		if (s->operations[i].accepted && !s->operations[i].done)
			fail("%s: operation %d has no DONE (%d of %d pending)", s->what, i, scenario_pending(s),
			     s->operation_count);
}

/* ---- what must hold at the end --------------------------------------------------------------------- */

static inline void check_operation(const struct scenario *s, const struct operation *o)
{
	const struct snapsend_completion *c = &o->completion;
	int number = (int)(o - s->operations);
	if (!o->accepted)
		return;
	if (c->status != o->expected && c->status != o->expected_too && !scenario_may(c->status))
		fail("%s: operation %d: status %d (%s), expected %d", s->what, number, c->status, strerror(-c->status),
		     o->expected);
	if (c->status == 0 && c->wire_bytes != o->length)
		fail("%s: operation %d: status 0, %" PRIu64 " of %zu bytes", s->what, number, c->wire_bytes, o->length);
	if (c->wire_bytes > o->length)
		fail("%s: operation %d: %" PRIu64 " of %zu bytes", s->what, number, c->wire_bytes, o->length);
}

/* The stream is what the completions tell, one behind the other, and nothing else. */
static inline void check_stream(const struct scenario *s, int number)
{
	const struct stream *stream = &s->streams[number];
	size_t at = 0;
	bool cut = false;
	for (int i = 0; i < s->operation_count; i++) {
		const struct operation *o = &s->operations[i];
		if (o->stream != number || !o->accepted)
			continue;
		size_t length = (size_t)o->completion.wire_bytes;
		if (stream->reset && atomic_load(&faults_given) > 0 && at + length > stream->count)
			length = stream->count - at; /* the rest was lost on the way */
		if (cut && length > 0 && !o->after_cut)
			fail("%s: operation %d went out behind a cut", s->what, i);
		if (at + length > stream->count)
			fail("%s: operation %d says that %zu bytes went out, of which %zu came", s->what, i, length,
			     stream->count - at);
		if (memcmp(stream->got + at, o->content, length) != 0)
			fail("%s: operation %d: wrong bytes among the first %zu of %zu", s->what, i, length, o->length);
		at += length;
		/* One that is lent may fail with all its bytes in the socket, and the next one be there already. */
		cut |= o->completion.status < 0 && length > 0 && o->completion.wire_bytes < o->length;
	}
	if (at != stream->count)
		fail("%s: stream %d has %zu bytes more than the completions tell", s->what, number, stream->count - at);
}

/* With our end closed the peer reads to the end of file: nobody else has the socket open. */
static inline void finish_stream(struct scenario *s, int number)
{
	struct stream *stream = &s->streams[number];
	struct pollfd entry = { .fd = stream->sv[1], .events = POLLIN };
	stream_read(stream);
	close(stream->sv[0]);
	for (;;) {
		if (poll(&entry, 1, HANG_MS) == 0)
			fail("%s: somebody keeps socket %d open", s->what, number);
		size_t before = stream->count;
		stream_read(stream);
		if (stream->count == before)
			break;
	}
	check_stream(s, number);
	close(stream->sv[1]);
	free(stream->got);
	memset(stream, 0, sizeof *stream);
}

/* ---- the parts --------------------------------------------------------------------------------------- */

static inline void part_submitted(struct scenario *s)
{
	struct iovec header = { scenario_edge, 1000 }, trailer = { scenario_edge, 500 };
	int tcp = scenario_stream(s, AF_INET, 0, 0), other_tcp = scenario_stream(s, AF_INET, 0, 0);
	int local = scenario_stream(s, AF_UNIX, 0, 0), other_local = scenario_stream(s, AF_UNIX, 0, 0);
	struct snapsend_request r = range_of(s->warm, 4097, 700 * KIB, SNAPSEND_NOTIFY_SNAPSHOT);
	r.header = &header, r.header_count = 1, r.trailer = &trailer, r.trailer_count = 1;

	scenario_hand_in(s, SUBMIT, tcp, r, 0);
	scenario_hand_in(s, SUBMIT, tcp, range_of(s->cold, MIB, 300 * KIB, 0), 0);
	scenario_hand_in(s, SUBMIT, local, range_of(s->cold, 0, 600 * KIB, SNAPSEND_EAGER), 0);
	scenario_hand_in(s, SUBMIT, local, range_of(s->warm, 5, 100, 0), 0);
	scenario_hand_in(s, SUBMIT, other_local, range_of(s->warm, 77, 200 * KIB, SNAPSEND_EXACT), 0);
	scenario_hand_in(s, SUBMIT, other_local, range_of(s->warm, FILE_LENGTH - 100 * KIB, SNAPSEND_TO_EOF, 0), 0);
	scenario_hand_in(s, SUBMIT, other_tcp,
			 range_of(s->warm, FILE_LENGTH - 10 * KIB, 40 * KIB, SNAPSEND_ZERO_PAD | SNAPSEND_MORE), 0);
	scenario_hand_in(s, SUBMIT, other_tcp, range_of(s->warm, FILE_LENGTH - 10 * KIB, 11 * KIB, 0), -ENODATA);
	r = range_of(-1, 0, 0, 0);
	r.header = &header, r.header_count = 1;
	scenario_hand_in(s, SUBMIT, other_tcp, r, 0);
	scenario_wait(s);
}

static inline void part_calling_thread(struct scenario *s)
{
	int tcp = scenario_stream(s, AF_INET, 4 * 1024 * 1024, 0), local = scenario_stream(s, AF_UNIX, 20000, 0);
	scenario_hand_in(s, TRY_SEND, tcp, range_of(s->warm, 3, 20 * KIB, 0), 0);
	scenario_hand_in(s, TRY_SEND, local, range_of(s->warm, 300, 100 * KIB, 0), 0);
	scenario_wait(s);
	scenario_hand_in(s, SEND, tcp, range_of(s->warm, 9, 200 * KIB, 0), 0);
	scenario_hand_in(s, SEND, tcp, range_of(s->warm, 11, 2 * KIB, 0), 0);
	scenario_wait(s);
}

/* Peers that do not read, and the ways out of that. */
static inline void part_stalled(struct scenario *s)
{
	struct operation *o[3];
	int first = s->stream_count;
	for (int i = 0; i < 3; i++) {
		/* TCP with a window below loopback's segments of 64 KiB, or full of small pieces, takes seconds to go on. */
		bool tcp = i == 1 && !s->far;
		int stream = scenario_stream(s, tcp ? AF_INET : AF_UNIX, tcp ? 200000 : 20000, tcp ? 200000 : 0);
		struct snapsend_request r = range_of(s->warm, 0, MIB, i == 2 ? SNAPSEND_EAGER : 0);
		r.timeout_ms = i == 0 ? 5 : 0;
		s->streams[stream].stalled = true;
		o[i] = scenario_hand_in(s, SUBMIT, stream, r, i == 0 ? -ETIMEDOUT : -ECANCELED);
	}
	for (int64_t end = now_ms() + 5; now_ms() < end;)
		scenario_turn(s, 1);
	for (int i = 1; i < 3; i++) {
		if (!o[i]->accepted)
			continue;
		int result = i == 1 ? snapsend_cancel(s->ctx, o[i]->id)
				    : snapsend_cancel_socket(s->ctx, s->streams[first + i].sv[0]);
		if (result < 0 && !scenario_may(result) && result != -ENOENT)
			fail("%s: cancel: %s", s->what, strerror(-result));
		if (result < 0 || (i == 2 && result == 0)) { /* then it goes on */
			s->streams[first + i].stalled = false;
			o[i]->expected = 0;
		}
	}
	scenario_wait(s);
	for (int i = 0; i < 3; i++)
		s->streams[first + i].stalled = false;
}

/* Registered, or not while something fails. */
static inline int scenario_handle(struct scenario *s, int handle)
{
	if (handle < 0 && !scenario_may(handle))
		fail("%s: not registered: %s", s->what, strerror(-handle));
	return handle;
}

/* Pages of the file itself are in the socket until the peer has acknowledged them. */
static inline void part_lent(struct scenario *s)
{
	struct iovec header = { scenario_edge, 1000 }, trailer = { scenario_edge, 500 };
	int stream = scenario_far_stream(s), other = scenario_far_stream(s);
	int file = scenario_handle(s, snapsend_register_file(s->ctx, s->warm, 0));
	int socket = scenario_handle(s, snapsend_register_socket(s->ctx, s->streams[stream].sv[0], 0));
	uint32_t flags = SNAPSEND_ZEROCOPY | SNAPSEND_NOTIFY_SENT | SNAPSEND_NOTIFY_SNAPSHOT;
	uint32_t registered =
		flags | (file > 0 ? SNAPSEND_REGISTERED_FILE : 0) | (socket > 0 ? SNAPSEND_REGISTERED_SOCKET : 0);
	struct snapsend_request r = range_of(file > 0 ? file : s->warm, 4097, 300 * KIB, registered);
	r.socket_fd = socket;
	r.header = &header, r.header_count = 1, r.trailer = &trailer, r.trailer_count = 1;

	scenario_hand_in(s, SUBMIT, stream, r, 0);
	r = range_of(r.file_fd, FILE_LENGTH - 20 * KIB, SNAPSEND_TO_EOF, registered);
	r.socket_fd = socket;
	scenario_hand_in(s, SUBMIT, stream, r, 0);
	scenario_hand_in(s, SUBMIT, other, range_of(s->warm, 77, 600 * KIB, flags), 0);
	scenario_hand_in(s, SUBMIT, other, range_of(s->cold, 0, 300 * KIB, SNAPSEND_ZEROCOPY), 0);
	scenario_hand_in(s, SUBMIT, other, range_of(s->warm, 5, 100, 0), 0);
	if (file > 0)
		(void)scenario_handle(s, snapsend_unregister_file(s->ctx, file));
	s->streams[stream].stalled = s->streams[other].stalled = true;
	for (int64_t end = now_ms() + 5; now_ms() < end;)
		scenario_turn(s, 1);
	s->streams[stream].stalled = s->streams[other].stalled = false;
	scenario_wait(s);
}

/* Bytes of the pattern from `offset` on, as many as are said to be there. */
static inline void part_sendfile(struct scenario *s, bool to_pipe)
{
	int ends[2], sv[2]; /* of a pipe the second end writes, of a pair the first */
	off_t offset = 4321;
	size_t count = to_pipe ? 50000 : 150000;
	if (to_pipe) {
		SYS(pipe2(ends, O_CLOEXEC));
	} else {
		CHECK(pair_sized(AF_INET, sv, 4 * 1024 * 1024, 4 * 1024 * 1024));
		ends[0] = sv[1], ends[1] = sv[0];
	}
	ssize_t n = snapsend_sendfile(ends[1], s->warm, &offset, count);
	if (n < 0 && !scenario_may(-errno))
		fail("%s: sendfile: %s", s->what, strerror(errno));
	if (atomic_load(&faults_given) == 0 && n != (ssize_t)count)
		fail("%s: sendfile: %zd of %zu", s->what, n, count);
	if (offset != 4321 + (n < 0 ? 0 : n))
		fail("%s: sendfile gave %zd and moved the offset by %lld", s->what, n, (long long)offset - 4321);
	close(ends[1]);
	unsigned char *got = malloc(count + 1);
	CHECK(got != NULL);
	size_t came = read_all(ends[0], got, count + 1);
	if (came != (size_t)(n < 0 ? 0 : n) || pattern_bad(got, 4321, came, FILE_SEED) != SIZE_MAX)
		fail("%s: sendfile gave %zd, and %zu bytes came, or wrong ones", s->what, n, came);
	free(got);
	close(ends[0]);
}

/* ---- all of it ----------------------------------------------------------------------------------------- */

static inline void scenario_create(struct scenario *s)
{
	int result = snapsend_create(NULL, 0, &s->ctx);
	if (result != 0) {
		if (!scenario_may(result))
			fail("%s: create: %s", s->what, strerror(-result));
		s->ctx = NULL;
		return;
	}
	s->event_fd = snapsend_event_fd(s->ctx);
	if (s->event_fd < 0 && !scenario_may(s->event_fd))
		fail("%s: event_fd: %s", s->what, strerror(-s->event_fd));
}

/* Nothing is counted as in flight or in use any more, unless the context is dead: then it has let go of what the
 * kernel may still use. */
static inline void check_counters(struct scenario *s)
{
	struct snapsend_stats stats;
	int64_t end = now_ms() + 3000;
	do {
		int result = snapsend_get_stats(s->ctx, &stats, sizeof stats);
		if (result != 0)
			fail("%s: get_stats: %s", s->what, strerror(-result));
		scenario_turn(s, 1); /* the kernel keeps what zero-copy sent until the peer has read it */
		scenario_take(s, 0);
		if (s->dead || (stats.in_flight == 0 && stats.pool_in_use == 0))
			return;
	} while (now_ms() < end);
	fail("%s: %" PRIu64 " operations in flight, %" PRIu64 " bytes in use", s->what, stats.in_flight,
	     stats.pool_in_use);
}

/* All is done, even if the context has died: no change of a file may arrive any more. */
static inline void scenario_finish_streams(struct scenario *s)
{
	if (s->far && s->has_network)
		file_spoil(s->warm, 0, s->image, FILE_LENGTH);
	for (int i = 0; i < s->stream_count; i++)
		finish_stream(s, i);
	if (s->far && s->has_network)
		file_put(s->warm, 0, s->image, FILE_LENGTH);
}

static inline void scenario_run(struct scenario *s, struct fault_plan plan)
{
	int fds = count_fds(), threads = count_threads();
	s->operation_count = s->stream_count = 0;
	s->ctx = NULL;
	s->event_fd = -1;
	s->dead = false;
	posix_fadvise(s->cold, 0, 0, POSIX_FADV_DONTNEED);
	doing(s->what);
	atomic_store(&fault_far_peers, s->far);
	alarm(60);
	faults_set(plan);
	scenario_create(s);
	if (s->ctx != NULL) {
		if (s->far && s->has_network)
			part_lent(s); /* first: the others seem far, but give zero-copy a bad name */
		part_submitted(s);
		part_calling_thread(s);
		part_stalled(s);
		check_counters(s);
		s->died |= s->dead;
		CHECK_EQ(snapsend_destroy(s->ctx), 0);
	}
	if (!s->far) {
		part_sendfile(s, false);
		part_sendfile(s, true);
	}
	faults_off();
	for (int i = 0; i < s->operation_count; i++)
		check_operation(s, &s->operations[i]);
	scenario_finish_streams(s);
	for (int i = 0; i < s->operation_count; i++)
		free(s->operations[i].content);
	if (wait_threads(threads, 5000) > threads)
		fail("%s: %d threads, %d before", s->what, count_threads(), threads);
	/* Destroy leaves a number alone of which it cannot find out whether it is still the library's. */
	int left = fault_plan.at_random > 0 || fault_plan.kind == K_GETSOCKOPT ? 1 : 0;
	if (count_fds() < fds || count_fds() > fds + left)
		fail("%s: %d descriptors, %d before", s->what, count_fds(), fds);
	doing("");
}

#endif
