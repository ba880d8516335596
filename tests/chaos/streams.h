/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Connections of the chaos test: each keeps a record of its operations in the order submitted and all that its
 * peer has read, so that at its end every operation's account can be held against the bytes that arrived. Where
 * there is a network of its own (root), a third of them lead to another machine, so that files are really lent.
 */
#ifndef SNAPSEND_CHAOS_STREAMS_H
#define SNAPSEND_CHAOS_STREAMS_H

#include "../torture/network.h"
#include "random.h"

#define STREAMS    40
#define OPS_EACH   250       /* in the life of a connection */
#define BYTES_EACH (4 * MIB) /* asked for, until it is closed */
#define EDGE_MAX   3000      /* bytes of a header, and of a trailer */
#define REST_MS    1500      /* longer than the library waits for an acknowledgement */

#define FILES          12
#define CONSTANT_FILES 4 /* the others are cut and grow */
#define FILE_BYTES     (700 * KIB)
#define IMAGE_BYTES    (4 * MIB)

static struct network network;
static bool has_network, peers_rest; /* some of the far ones, at first */
static snapsend_t *ctx;
static unsigned char *image; /* file i holds what lies from i * 4096 on, or zeros */
static int files[FILES];

struct op {
	uint64_t id, offset, length;
	uint32_t flags, timeout_ms, header, trailer;
	size_t edge;     /* where header and trailer lie in the image */
	int file;        /* -1: none */
	int file_handle; /* of the file, if it is named by one; 0: by its descriptor */
	bool cancel_asked, snapshot_told, sent_told, done, direct;
	uint64_t ticket;  /* drawn when submit had returned */
	uint64_t done_at; /* the same for its DONE */
	struct snapsend_completion completion;
	uint64_t polled; /* the last ticket drawn before its DONE was polled */
};

enum reading { RESTS, READS, ENDED };

struct stream {
	pthread_mutex_t lock;
	int number;
	int sv[2];
	int handle;         /* of the registered socket; 0: it is not registered */
	bool far;           /* the peer is on another machine */
	bool open;          /* sv[0] is */
	bool closing;       /* no further operations */
	bool broken;        /* by its own side: sends may fail */
	bool all_cancelled; /* cancel_socket was called */
	atomic_bool reset;  /* by the peer, or by the library to take lent pages back: what is on the way is lost */
	struct op ops[OPS_EACH];
	int count, pending;
	uint64_t asked_for;
	uint32_t generation;

	_Atomic enum reading reading;
	atomic_bool reset_wanted;
	int64_t rests_until_ms;
	bool slow;
	unsigned char *got;
	size_t got_bytes, got_capacity;
};

static _Atomic uint64_t library_resets; /* that peers have noticed on this context */

/* ---- the peers ----------------------------------------------------------------------------------------- */

static inline void peer_ends(struct stream *s)
{
	if (atomic_load(&s->reset))
		reset_close(s->sv[1]);
	else
		close(s->sv[1]);
	atomic_store(&s->reading, ENDED);
}

static inline void peer_reads(struct stream *s)
{
	size_t step = s->slow ? 16 * KIB : 256 * KIB;
	if (s->got_bytes + step > s->got_capacity) {
		s->got_capacity = (s->got_bytes + step) * 2;
		s->got = realloc(s->got, s->got_capacity);
		CHECK(s->got != NULL);
	}
	ssize_t n = recv(s->sv[1], s->got + s->got_bytes, step, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0 && errno == ECONNRESET && s->far) {
		atomic_fetch_add(&library_resets, 1);
		atomic_store(&s->reset, true);
	} else if (n < 0) {
		fail("recv: %s", strerror(errno));
	}
	if (n <= 0) {
		peer_ends(s);
		return;
	}
	s->got_bytes += (size_t)n;
	if (s->slow && one_in(16))
		s->rests_until_ms = now_ms() + (int64_t)random_below(30);
}

static atomic_bool peers_over; /* no pauses, and an end when all have ended */

struct peers {
	struct stream *streams;
	uint64_t seed;
};

static inline void *peers_main(void *argument)
{
	struct peers *peers = argument;
	struct pollfd set[STREAMS];
	struct stream *of[STREAMS];
	random_state = peers->seed;
	for (;;) {
		int64_t now = now_ms();
		nfds_t n = 0, reading = 0;
		bool over = atomic_load(&peers_over);
		for (int i = 0; i < STREAMS; i++) {
			struct stream *s = &peers->streams[i];
			if (atomic_load(&s->reading) != READS)
				continue;
			reading++;
			if (atomic_load(&s->reset_wanted)) {
				atomic_store(&s->reset, true);
				peer_ends(s);
			} else if (over || s->rests_until_ms <= now) {
				of[n] = s;
				set[n++] = (struct pollfd){ .fd = s->sv[1], .events = POLLIN };
			}
		}
		if (over && reading == 0)
			return NULL;
		SYS(poll(set, n, 2));
		for (nfds_t i = 0; i < n; i++)
			if (set[i].revents != 0)
				peer_reads(of[i]);
	}
}

/* ---- a connection's life ---------------------------------------------------------------------------------- */

static inline void stream_open(struct stream *s)
{
	int sndbuf = one_in(3) ? 8192 : 0;
	s->far = has_network && one_in(3);
	if (s->far)
		connect_over(&network, PATH_VETH, one_in(4) ? 8192 : 0, s->sv);
	else if (!pair_sized(one_in(2) ? AF_UNIX : AF_INET, s->sv, sndbuf, 0))
		fail("no loopback");
	if (one_in(2))
		set_nonblock(s->sv[0]);
	s->open = true;
	s->closing = s->broken = s->all_cancelled = false;
	s->count = s->pending = 0;
	s->asked_for = 0;
	s->generation++;
	s->got_bytes = 0;
	s->slow = one_in(4);
	s->rests_until_ms = s->far && peers_rest && one_in(8) ? now_ms() + REST_MS : 0;
	atomic_store(&s->reset, false);
	atomic_store(&s->reset_wanted, false);
	atomic_store(&s->reading, READS);
}

static inline void stream_unregister(struct stream *s)
{
	if (s->handle > 0)
		CHECK_EQ(snapsend_unregister_socket(ctx, s->handle), 0);
	s->handle = 0;
}

/* Perhaps while operations are in flight: they go on. */
static inline void stream_close(struct stream *s)
{
	bool first = one_in(2); /* the connection stays open until both are gone */
	if (first)
		stream_unregister(s);
	if (s->open)
		SYS(close(s->sv[0]));
	stream_unregister(s);
	s->open = false;
	s->closing = true;
}

static inline uint64_t op_total(const struct op *op)
{
	return op->header + op->trailer + op->completion.file_bytes;
}

/* What the range must have brought when all of it went out; UINT64_MAX: that depends on when it was read. */
static inline uint64_t op_range(const struct op *op)
{
	if (op->file < 0)
		return 0;
	if (op->length != SNAPSEND_TO_EOF)
		return op->length;
	if (op->file >= CONSTANT_FILES)
		return UINT64_MAX;
	return op->offset < FILE_BYTES ? FILE_BYTES - op->offset : 0;
}

/* All that was asked for is in the socket. */
static inline bool op_is_whole(const struct op *op)
{
	return op->completion.wire_bytes == op_total(op) &&
	       (op_range(op) == UINT64_MAX || op->completion.file_bytes == op_range(op));
}

static inline void check_range(const struct op *op, const unsigned char *got, uint64_t length)
{
	const unsigned char *want = image + (size_t)op->file * 4096;
	uint64_t plain = op->offset >= FILE_BYTES ? 0 : FILE_BYTES - op->offset;
	plain = plain < length ? plain : length;
	if (plain > 0 && memcmp(got, want + op->offset, (size_t)plain) != 0)
		for (uint64_t i = 0; i < plain; i++) /* where a file was cut and has grown again there are zeros */
			if (got[i] != want[op->offset + i] && (op->file < CONSTANT_FILES || got[i] != 0))
				fail("byte %" PRIu64 " of a range at %" PRIu64 " of file %d is wrong", i, op->offset,
				     op->file);
	for (uint64_t i = plain; i < length; i++)
		if (got[i] != 0)
			fail("byte %" PRIu64 " beyond the end of file %d is not zero", i, op->file);
}

/* The first n of the bytes that the operation says it has sent. */
static inline void check_op_bytes(const struct op *op, const unsigned char *got, uint64_t n)
{
	uint64_t header = n < op->header ? n : op->header;
	CHECK(memcmp(got, image + op->edge, (size_t)header) == 0);
	got += header, n -= header;
	uint64_t range = n < op->completion.file_bytes ? n : op->completion.file_bytes;
	check_range(op, got, range);
	got += range, n -= range;
	CHECK_ULE(n, op->trailer);
	CHECK(memcmp(got, image + op->edge + EDGE_MAX, (size_t)n) == 0);
}

static inline bool may_be_lent(const struct stream *s, const struct op *op)
{
	return s->far && (op->flags & SNAPSEND_ZEROCOPY) != 0;
}

/* Why an operation may have ended like this. */
static inline void check_status(const struct stream *s, const struct op *op, bool behind_cut)
{
	int status = op->completion.status;
	bool right = false;
	switch (-status) {
	case 0: right = op_is_whole(op); break;
	case ECANCELED: right = op->cancel_asked || s->all_cancelled || behind_cut || (s->far && s->reset); break;
	case EBADF: right = op->file_handle > 0; break; /* unregistered while it was submitted */
	case ETIMEDOUT: right = op->timeout_ms > 0; break;
	case ENODATA:
		right = op->file >= CONSTANT_FILES || (op->file >= 0 && op->offset + op->length > FILE_BYTES);
		right = right && (op->flags & SNAPSEND_ZERO_PAD) == 0 &&
			(op->length != SNAPSEND_TO_EOF || may_be_lent(s, op)); /* cut while it was lent */
		break;
	case EPIPE:
	case ECONNRESET: right = s->broken || atomic_load(&s->reset); break;
	case EMSGSIZE: /* of a registered file, the ring thread looks at the size */
		right = (op->file >= CONSTANT_FILES || op->file_handle > 0) && (op->flags & SNAPSEND_EXACT) != 0;
		break;
	default: break;
	}
	if (!right)
		fail("operation %" PRIu64 " ended with %d (%s) for no reason: %" PRIu64 " + %" PRIu64
		     " + %u bytes, %" PRIu64 " of the range, %" PRIu64
		     " in all; file %d, flags 0x%x, timeout %u ms%s%s%s",
		     op->id, status, strerror(-status), (uint64_t)op->header, op->length, op->trailer,
		     op->completion.file_bytes, op->completion.wire_bytes, op->file, op->flags, op->timeout_ms,
		     op->cancel_asked || s->all_cancelled ? ", cancelled" : "", behind_cut ? ", behind a cut" : "",
		     s->broken || s->reset ? ", broken" : "");
}

/* All its operations are done and its peer has read to the end: the accounts must agree. */
static inline void stream_verify(const struct stream *s)
{
	const struct op *cut = NULL;
	bool behind_failed = false;
	uint64_t at = 0;
	for (int i = 0; i < s->count; i++) {
		const struct op *op = &s->ops[i];
		uint64_t sent = op->completion.wire_bytes, there = s->got_bytes - at;
		CHECK(op->done);
		/* In one that was cut off the rest is missing; behind it none follows, but for those submitted when
         * the DONE that tells of it may have been taken. */
		if (cut != NULL && sent > 0 && op->ticket <= cut->polled)
			fail("%" PRIu64 " bytes follow behind one that was cut off", sent);
		check_status(s, op, behind_failed);
		if (there < sent && !atomic_load(&s->reset))
			fail("the peer got %" PRIu64 " bytes of an operation that says %" PRIu64, there, sent);
		there = there < sent ? there : sent;
		check_op_bytes(op, s->got + at, there);
		at += there;
		behind_failed |= op->completion.status < 0 && sent > 0;
		/* One may fail with all its bytes in the socket, and the next one be there already. */
		if (op->completion.status < 0 && sent > 0 && !op_is_whole(op))
			cut = op;
	}
	if (at != s->got_bytes)
		fail("the peer got %zu bytes, all wire_bytes together are %" PRIu64, s->got_bytes, at);
}

static inline bool stream_is_over(const struct stream *s)
{
	return s->closing && !s->open && s->pending == 0 && atomic_load(&s->reading) == ENDED;
}

#endif
