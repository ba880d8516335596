/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Pages of a file that are lent to the socket, to a peer on another machine, while something fails for good: what is
 * refused goes another way; an operation ends with the error if the file's size is unknown after the last
 * notification; and one that is cancelled, or whose context is destroyed, has its DONE in bounded time, though the
 * reset is refused or the notifications never come. */
#include "../torture/network.h"
#include "faults.h"

enum { LENGTH = MIB, SEED = 71 };

#define NO_RESET_MS 1500 /* a second, and what a busy machine takes */
#define GIVEN_UP_MS 8000 /* a second, and a hundred looks 50 ms apart */

struct lending {
	int sv[2], file;
	uint64_t id;
	snapsend_t *ctx;
	struct snapsend_completion done;
};

static struct network net;
static unsigned char *image;

static uint64_t page_cache_bytes(const struct lending *l)
{
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(l->ctx, &stats, sizeof stats), 0);
	return stats.bytes_page_cache;
}

/* From here on the library knows that the file is quick, and has memory for what is read. */
static void warm_up(const struct lending *l)
{
	unsigned char got[32 * KIB];
	int sv[2];
	unix_pair(sv);
	struct snapsend_request request = make_request(sv[0], l->file, 0, sizeof got);
	uint64_t id = submit_ok(l->ctx, &request);
	CHECK_UEQ(read_all(sv[1], got, sizeof got), sizeof got);
	wait_done(l->ctx, id, NULL);
	close_pair(sv);
}

/* All fits into the socket; the peer has room for a little of it. */
static struct lending begin(enum fault_kind kind, unsigned first, unsigned last, int error)
{
	struct lending l = { .ctx = create_ctx(), .file = temp_file(LENGTH, SEED) };
	int size = 2 * LENGTH;
	static char what[100];
	snprintf(what, sizeof what, "%s:%s", fault_kinds[kind].name, fault_errno_name(error));
	doing(what);
	warm_up(&l);
	connect_over(&net, PATH_VETH, 16 * KIB, l.sv);
	SYS(setsockopt(l.sv[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size));
	struct snapsend_request request = make_request(l.sv[0], l.file, 0, LENGTH);
	request.flags = SNAPSEND_ZEROCOPY | SNAPSEND_NOTIFY_SENT;
	faults_set((struct fault_plan){ .kind = kind, .first = first, .last = last, .error = error });
	l.id = submit_ok(l.ctx, &request);
	return l;
}

static void await_sent(struct lending *l)
{
	CHECK(wait_event(l->ctx, l->id, SNAPSEND_EVENT_SENT, &l->done, WAIT_MS));
	CHECK_UEQ(l->done.wire_bytes, LENGTH);
}

static void end(struct lending *l)
{
	faults_off();
	if (l->ctx != NULL)
		destroy_ctx(l->ctx);
	close_pair(l->sv);
	close(l->file);
}

/* What the peer gets from here on is what the file held, though it changes now. */
static void expect_unchanged(struct lending *l)
{
	static unsigned char got[LENGTH];
	file_spoil(l->file, 0, image, LENGTH);
	SYS(shutdown(l->sv[0], SHUT_RDWR) == 0 || errno == ENOTCONN ? 0 : -1);
	size_t count = 0;
	for (ssize_t n; (n = recv(l->sv[1], got + count, LENGTH - count, 0)) > 0;)
		count += (size_t)n;
	CHECK_UEQ(count_different(got, image, count), 0);
}

/* Refused: the data goes another way. */
static void refused(enum fault_kind kind, int error, bool is_lent)
{
	static unsigned char got[LENGTH];
	/* What is read instead needs mappings, too. */
	struct lending l = begin(kind, 1, kind == K_MMAP ? 1 : UINT_MAX, error);
	CHECK_UEQ(read_all(l.sv[1], got, LENGTH), LENGTH);
	await_sent(&l);
	wait_done(l.ctx, l.id, &l.done);
	CHECK_EQ(l.done.status, 0);
	CHECK_GT(atomic_load(&faults_given), 0);
	CHECK_UEQ(count_different(got, image, LENGTH), 0);
	if (!is_lent)
		CHECK_UEQ(page_cache_bytes(&l), 0);
	end(&l);
}

/* The socket fails: the operation ends with its error. */
static void failed(int error)
{
	struct lending l = begin(K_CQE_ZEROCOPY, 1, UINT_MAX, error);
	wait_done(l.ctx, l.id, &l.done);
	CHECK_EQ(l.done.status, -error);
	CHECK_UEQ(l.done.wire_bytes, 0);
	end(&l);
}

/* After the last notification the size of the file is looked at, and cannot be found out. */
static void size_unknown(int error)
{
	static unsigned char got[LENGTH];
	struct lending l = begin(K_STATX, UINT_MAX, UINT_MAX, error);
	await_sent(&l);
	faults_set((struct fault_plan){ .kind = K_STATX, .first = 1, .last = UINT_MAX, .error = error });
	CHECK_UEQ(read_all(l.sv[1], got, LENGTH), LENGTH);
	wait_done(l.ctx, l.id, &l.done);
	CHECK_EQ(l.done.status, -error);
	CHECK_UEQ(l.done.wire_bytes, LENGTH);
	end(&l);
}

/* The peer does not acknowledge, and the reset is refused the first times. */
static void reset_refused(int error)
{
	struct snapsend_stats stats;
	struct lending l = begin(K_DISCONNECT, UINT_MAX, UINT_MAX, error);
	await_sent(&l);
	faults_set((struct fault_plan){ .kind = K_DISCONNECT, .first = 1, .last = 3, .error = error });
	int64_t began = now_ms();
	CHECK_EQ(snapsend_cancel(l.ctx, l.id), 0);
	wait_done(l.ctx, l.id, &l.done);
	CHECK_EQ(l.done.status, -ECANCELED);
	CHECK_EQ(atomic_load(&faults_given), 3);
	CHECK_GE(now_ms() - began, 1000);
	CHECK_LE(now_ms() - began, NO_RESET_MS * slowness());
	CHECK_EQ(snapsend_get_stats(l.ctx, &stats, sizeof stats), 0);
	CHECK_UEQ(stats.connections_reset, 1);
	expect_unchanged(&l);
	end(&l);
}

/* The peer has acknowledged everything, but the notifications never come. */
static void lost(bool by_destroy)
{
	static unsigned char got[LENGTH];
	struct lending l = begin(K_NOTIFICATION, 1, UINT_MAX, LOST);
	await_sent(&l);
	CHECK_UEQ(read_all(l.sv[1], got, LENGTH), LENGTH);
	expect_nothing(l.ctx, 300);
	CHECK_GT(atomic_load(&faults_given), 0);
	int64_t began = now_ms();
	if (by_destroy) {
		destroy_ctx(l.ctx);
		l.ctx = NULL;
	} else {
		CHECK_EQ(snapsend_cancel(l.ctx, l.id), 0);
		CHECK(wait_event(l.ctx, l.id, SNAPSEND_EVENT_DONE, &l.done, GIVEN_UP_MS * (int)slowness()));
		CHECK_EQ(l.done.status, -ECANCELED);
		CHECK_UEQ(l.done.wire_bytes, LENGTH);
	}
	CHECK_LE(now_ms() - began, GIVEN_UP_MS * slowness());
	end(&l);
}

int main(void)
{
	static const int again[] = { EINTR, EAGAIN, ENOBUFS, ENOMEM }, never[] = { EFAULT, EINVAL, EOPNOTSUPP };
	static const int broken[] = { EPIPE, ECONNRESET }, unknown[] = { EIO, ENOMEM };
	static const int unmapped[] = { ENOMEM, EAGAIN, ENODEV }, busy[] = { EBUSY, ENOMEM, EPERM };
	zero_copy_network(&net);
	image = image_of(0, LENGTH, SEED);
	refused(K_CQE_ZEROCOPY, SHORT, true);
	refused(K_NOTIFICATION, LATE, true);
	for (size_t i = 0; i < COUNT_OF(never); i++)
		refused(K_CQE_ZEROCOPY, never[i], false);
	for (size_t i = 2; i < COUNT_OF(again); i++)
		refused(K_CQE_ZEROCOPY, again[i], false);
	for (size_t i = 0; i < COUNT_OF(unmapped); i++)
		refused(K_MMAP, unmapped[i], true);
	refused(K_MINCORE, ENOMEM, false);
	refused(K_MINCORE, EAGAIN, false);
	for (size_t i = 0; i < COUNT_OF(broken); i++)
		failed(broken[i]);
	for (size_t i = 0; i < COUNT_OF(unknown); i++)
		size_unknown(unknown[i]);
	for (size_t i = 0; i < COUNT_OF(busy); i++)
		reset_refused(busy[i]);
	lost(false);
	lost(true);
	free(image);
	return 0;
}
