/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Whatever ends an operation, nothing of it stays in the socket for want of more: its last bytes arrive at once. A
 * file that is shorter than it says, files cut while they are sent, cancelling, time running out, destroy; by every
 * call, with TCP_NODELAY and without. A cork of the caller's own stays, and SNAPSEND_MORE may hold. */
#include "data_common.h"

#define AT_ONCE_MS 100 /* what is held back comes after 200 */

static bool has_option(int fd, int option)
{
	int on = 0;
	socklen_t length = sizeof on;
	SYS(getsockopt(fd, IPPROTO_TCP, option, &on, &length));
	return on != 0;
}

static void set_option(int fd, int option, int on)
{
	SYS(setsockopt(fd, IPPROTO_TCP, option, &on, sizeof on));
}

/* Whether so many bytes are there within the time. */
static bool arrive(int fd, uint64_t bytes, int ms)
{
	for (int64_t end = now_ms() + ms; (uint64_t)unread(fd) < bytes; usleep(500))
		if (now_ms() > end)
			return false;
	return true;
}

static uint64_t take(int fd, uint64_t bytes)
{
	static unsigned char block[65536];
	uint64_t got = 0;
	while (got < bytes) {
		ssize_t n = SYS(read(fd, block, bytes - got < sizeof block ? (size_t)(bytes - got) : sizeof block));
		CHECK_GT(n, 0);
		got += (uint64_t)n;
	}
	return got;
}

/* sysfs says 4,096 bytes of every file. */
static void shorter_than_it_says(snapsend_t *ctx, bool nodelay, bool cork)
{
	int sv[2], file = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return;
	tcp_pair(sv);
	set_option(sv[0], TCP_NODELAY, nodelay);
	for (enum call call = 0; call < CALLS; call++)
		for (int i = 0; i < 3; i++) {
			struct snapsend_request request = make_request(sv[0], file, 0, SNAPSEND_TO_EOF);
			set_option(sv[0], TCP_CORK, cork);
			struct snapsend_completion done = call_done(ctx, call, request);
			CHECK_EQ(done.status, 0);
			CHECK_GT(done.wire_bytes, 0);
			/* The kernel ends a cork after 200 ms, on a slow machine, too. */
			int within_ms = AT_ONCE_MS * (cork ? 1 : slowness());
			CHECK_EQ(arrive(sv[1], done.wire_bytes, within_ms), !cork);
			CHECK_EQ(has_option(sv[0], TCP_CORK), cork);
			CHECK_EQ(has_option(sv[0], TCP_NODELAY), nodelay);
			set_option(sv[0], TCP_CORK, 0);
			take(sv[1], done.wire_bytes);
		}
	close(file);
	close_pair(sv);
}

enum end { CUT, CUT_EARLY, CANCEL, CANCEL_SOCKET, TIMEOUT, DESTROY, ENDS };
static const char *const end_name[] = { "cut", "cut at once", "cancel", "cancel_socket", "timeout", "destroy" };

/* Ended somewhere in the middle while the peer reads: all that it says to have sent arrives at once. */
static void ended(int file, enum end how, uint64_t length, uint32_t flags, unsigned delay_us)
{
	int sv[2];
	struct snapsend_completion done = { .status = 1 };
	struct reader reader;
	snapsend_t *ctx = create_ctx();
	tcp_pair(sv);
	reader_init(&reader, sv[1], UINT64_MAX);
	reader_go(&reader);
	SYS(ftruncate(file, (off_t)length));
	struct snapsend_request request = make_request(sv[0], file, 0, how == CUT_EARLY ? SNAPSEND_TO_EOF : length);
	request.flags = flags;
	request.timeout_ms = how == TIMEOUT ? 1 : 0;
	uint64_t id = submit_ok(ctx, &request);
	usleep(delay_us);
	if (how == CUT || how == CUT_EARLY)
		SYS(ftruncate(file, (off_t)(length / 2 + 4321)));
	else if (how == CANCEL)
		snapsend_cancel(ctx, id);
	else if (how == CANCEL_SOCKET)
		snapsend_cancel_socket(ctx, sv[0]);
	if (how == DESTROY)
		destroy_ctx(ctx);
	else
		wait_done(ctx, id, &done);
	int64_t end = now_ms() + AT_ONCE_MS * slowness();
	if (how != DESTROY) {
		while (atomic_load(&reader.got) < done.wire_bytes && now_ms() < end)
			usleep(500);
		bool may_hold = done.status == 0 && flags & SNAPSEND_MORE;
		if (atomic_load(&reader.got) != done.wire_bytes && !may_hold)
			fail("%s after %u us, status %d: %" PRIu64 " of %" PRIu64 " bytes have arrived", end_name[how],
			     delay_us, done.status, atomic_load(&reader.got), done.wire_bytes);
		destroy_ctx(ctx);
	} else {
		sleep_ms(AT_ONCE_MS * slowness());
		uint64_t early = atomic_load(&reader.got);
		sleep_ms(300);
		CHECK_UEQ(atomic_load(&reader.got), early);
	}
	SYS(shutdown(sv[0], SHUT_WR));
	reader_join(&reader);
	close(sv[0]), close(sv[1]);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	for (int options = 0; options < 4; options++)
		shorter_than_it_says(ctx, options & 1, options & 2);
	destroy_ctx(ctx);
	int file = temp_file(0, 1);
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_MORE };
	for (enum end how = 0; how < ENDS; how++)
		for (unsigned i = 0; i < (how == DESTROY ? 3 : 12); i++) {
			doing(end_name[how]);
			ended(file, how, 3 * MIB + 77 * i, flags[i % 3], i * 100);
		}
	return 0;
}
