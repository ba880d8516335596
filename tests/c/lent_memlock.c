/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* ZEROCOPY under RLIMIT_MEMLOCK, without CAP_IPC_LOCK: everything arrives, what fits is sent from the page cache, the
 * rest is copied, and a socket that is always busy gets zero-copy back when another process of the user has released
 * memory. */
#include "lent.h"
#include "memlock.h"

#include <sys/utsname.h>

#define USER   45690 /* and the next ones */
#define QUEUED 32

struct variant {
	const char *name;
	rlim_t limit;
	bool shared;     /* with another process, which has nearly all of it at first */
	uint64_t length; /* of an operation */
	unsigned count;  /* of operations at the end */
	uint64_t least;  /* of their bytes from the page cache, in percent */
};

static const struct variant variants[] = {
	{ "64 KiB", 64 * KIB, false, MIB, 20, 0 },
	{ "256 KiB, short", 256 * KIB, false, 16 * KIB, 1000, 2 },
	{ "8 MiB", 8 * MIB, false, MIB, 150, 10 },
	{ "8 MiB, shared", 8 * MIB, true, MIB, 100, 10 },
};

static struct network net;
static unsigned char *image;

/* Before Linux 6.15 a zero-copy send of several short operations is not charged against the limit. */
static bool is_charged(const struct variant *variant)
{
	struct utsname name;
	int major = 0, minor = 0;
	SYS(uname(&name));
	CHECK_EQ(sscanf(name.release, "%d.%d", &major, &minor), 2);
	return variant->length >= MIB || major > 6 || (major == 6 && minor >= 15);
}

/* ---- the peer: each operation sends the same bytes ------------------------------------------------------ */

struct peer {
	int socket;
	uint64_t length;
	pthread_t thread;
};

static void *peer_main(void *argument)
{
	struct peer *peer = argument;
	unsigned char *got = malloc(peer->length);
	size_t n;
	CHECK(got != NULL);
	while ((n = read_all(peer->socket, got, peer->length)) == peer->length) {
		CHECK_UEQ(count_different(got, image, n), 0);
		usleep(n > 100 * KIB ? 1500 : 100); /* slower than the sender: the socket is never idle */
	}
	CHECK_UEQ(n, 0);
	free(got);
	return NULL;
}

/* ---- the sender ------------------------------------------------------------------------------------------ */

static void take(snapsend_t *ctx)
{
	struct snapsend_completion done;
	CHECK_EQ(snapsend_poll(ctx, &done, 1, WAIT_MS), 1);
	CHECK_EQ(done.status, 0);
}

/* How many percent of what was sent since then came from the page cache. */
static uint64_t percent_lent(snapsend_t *ctx, const struct snapsend_stats *before)
{
	struct snapsend_stats now = stats_of(ctx);
	uint64_t sent = now.file_bytes - before->file_bytes;
	return sent == 0 ? 0 : (now.bytes_page_cache - before->bytes_page_cache) * 100 / sent;
}

/* The socket always has operations queued. */
static uint64_t send_many(snapsend_t *ctx, struct snapsend_request request, unsigned count, unsigned *queued)
{
	struct snapsend_stats before = stats_of(ctx);
	for (unsigned i = 0; i < count; i++) {
		submit_ok(ctx, &request);
		for (*queued += 1; *queued > QUEUED; *queued -= 1)
			take(ctx);
	}
	return percent_lent(ctx, &before);
}

/* Another process has the memory, and then no more. */
static void regain(snapsend_t *ctx, struct snapsend_request request, pid_t other, unsigned *queued)
{
	CHECK_LT(send_many(ctx, request, 60, queued), 50);
	kill(other, SIGKILL);
	SYS(waitpid(other, NULL, 0));
	int64_t end = now_ms() + 5000 * slowness(); /* the kernel takes its time to end that one's ring */
	while (send_many(ctx, request, 10, queued) < 50)
		if (now_ms() > end)
			fail("the socket does not get zero-copy back");
}

static void with(const void *argument)
{
	const struct variant *variant = argument;
	struct rlimit limit = { variant->limit, variant->limit };
	struct peer peer = { .length = variant->length };
	unsigned queued = 0;
	snapsend_t *ctx;
	int sv[2], file = temp_file(MIB, 61);
	connect_over(&net, PATH_VETH, 256 * KIB, sv);
	buffer_of(sv[0], 16 * variant->length); /* the peer sets the pace */
	peer.socket = sv[1];
	SYS(setrlimit(RLIMIT_MEMLOCK, &limit));
	uid_t user = USER + (uid_t)(variant - variants); /* what one leaves behind is not to count for the next */
	SYS(setresuid(user, user, user));
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* the change of user has undone it */
	int created = try_create(SNAPSEND_ENGINE_URING, &ctx);
	if (created == -ENOMEM)
		skip("the limit does not allow an io_uring");
	CHECK_EQ(created, 0);
	struct snapsend_request request = registered(ctx, lend_request(sv[0], file, 0, variant->length));
	pid_t other = variant->shared ? process_that_locks(7 * MIB + 900 * KIB) : -1;
	PTHREAD(pthread_create(&peer.thread, NULL, peer_main, &peer));
	if (other > 0)
		regain(ctx, request, other, &queued);
	struct snapsend_stats before = stats_of(ctx);
	(void)send_many(ctx, request, variant->count, &queued);
	for (; queued > 0; queued--)
		take(ctx);
	uint64_t percent = percent_lent(ctx, &before);
	printf("%s: %" PRIu64 " %% from the page cache\n", variant->name, percent);
	CHECK_UGE(percent, variant->least);
	if (is_charged(variant))
		CHECK_UGE(stats_of(ctx).bytes_copied, before.bytes_copied + MIB);
	SYS(shutdown(sv[0], SHUT_WR));
	PTHREAD(pthread_join(peer.thread, NULL));
	destroy_ctx(ctx);
}

int main(void)
{
	image = image_of(0, MIB, 61);
	lending_network(&net);
	for (size_t i = 0; i < COUNT_OF(variants); i++)
		in_child(variants[i].name, with, &variants[i]);
	return parts_done();
}
