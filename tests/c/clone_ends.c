/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Operations that end while their file is being cloned, which a frozen file system holds up for as long as it is
 * frozen, or sent: cancelled, out of time, with their context, with their process. Each ends in time, its counts are
 * exact, and nothing is left. */
#include "clone_common.h"

#include <linux/fs.h>
#include <signal.h>

#define LENGTH (12 * MIB + 1) /* more than sockets take */
#define SOON   2000           /* ms; a call in progress delays an end by 50 */

static int disk;

static void freeze(void)
{
	SYS(ioctl(disk, FIFREEZE, 0));
}

static void thaw(void)
{
	SYS(ioctl(disk, FITHAW, 0));
}

static uint64_t submit_exact(snapsend_t *ctx, int socket, int file, uint32_t timeout_ms)
{
	struct snapsend_request request = make_request(socket, file, 0, LENGTH);
	request.flags = SNAPSEND_EXACT | SNAPSEND_NOTIFY_SNAPSHOT;
	request.timeout_ms = timeout_ms;
	return submit_ok(ctx, &request);
}

/* A helper waits for the clone, and nobody else. */
static void others_are_served(snapsend_t *ctx)
{
	static unsigned char *image;
	static int other;
	int sv[2];
	if (image == NULL) {
		image = image_of(0, 3 * MIB, 65);
		other = temp_file(3 * MIB, 65);
	}
	tcp_pair(sv);
	int64_t begin = now_ms();
	for (int i = 0; i < 3; i++) {
		struct snapsend_request request = make_request(-1, other, 0, i == 1 ? 100 * KIB : 3 * MIB);
		request.flags = i == 1 ? SNAPSEND_EXACT : i == 2 ? SNAPSEND_EAGER : 0;
		(void)transfer_ok(ctx, sv, request, image, request.length);
	}
	CHECK_LE(now_ms() - begin, SOON * slowness());
	close_pair(sv);
}

static void ends(snapsend_t *ctx, int file, int errno_wanted)
{
	int sv[2];
	struct snapsend_completion done;
	tcp_pair(sv);
	freeze();
	uint64_t id = submit_exact(ctx, sv[0], file, errno_wanted == ETIMEDOUT ? 100 : 0);
	sleep_ms(50);
	if (errno_wanted == ECANCELED)
		others_are_served(ctx);
	int64_t begin = now_ms();
	if (errno_wanted == ECANCELED)
		CHECK_EQ(snapsend_cancel(ctx, id), 0);
	CHECK(wait_event(ctx, id, SNAPSEND_EVENT_DONE, &done, WAIT_MS));
	if (slowness() == 1)
		CHECK_LE(now_ms() - begin, SOON);
	CHECK_EQ(done.status, -errno_wanted);
	CHECK_UEQ(done.wire_bytes, 0);
	thaw();
	expect_silence(sv[1]);
	/* The next one is not disturbed by the late clone. */
	struct reader reader;
	reader_start_check(&reader, sv[1], LENGTH, 0, 63);
	id = submit_exact(ctx, sv[0], file, 0);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	reader_join(&reader);
	close_pair(sv);
}

/* Ended while the clone is being sent: what the peer gets is what DONE says, as it was at SNAPSHOT. */
static void cut(snapsend_t *ctx, int file, int errno_wanted, int delay_ms)
{
	int sv[2];
	struct snapsend_completion done;
	struct reader reader;
	pattern_write(file, 0, LENGTH, 63);
	pair_of_kind(errno_wanted == ECANCELED ? UNIX : TCP4, sv, 0);
	uint64_t id = submit_exact(ctx, sv[0], file, errno_wanted == ETIMEDOUT ? 300 + (uint32_t)delay_ms : 0);
	CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &done, WAIT_MS));
	pattern_write(file, 0, LENGTH, 64);
	reader_start_check(&reader, sv[1], 200 * KIB + (uint64_t)delay_ms, 0, 63);
	uint64_t got = reader_join(&reader);
	sleep_ms(delay_ms);
	if (errno_wanted == ECANCELED)
		CHECK_EQ(snapsend_cancel(ctx, id), 0);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, -errno_wanted);
	CHECK_UGE(done.wire_bytes, got);
	SYS(shutdown(sv[0], SHUT_WR));
	reader_start_check(&reader, sv[1], UINT64_MAX, got, 63);
	got += reader_join(&reader);
	CHECK_UEQ(got, done.wire_bytes);
	close_pair(sv);
	pattern_write(file, 0, LENGTH, 63);
}

/* The context is destroyed while it clones, and while it sends the clone. */
static void destroyed(int file, bool frozen)
{
	int sv[2];
	struct snapsend_completion event;
	snapsend_t *ctx = clone_context(NULL);
	tcp_pair(sv);
	if (frozen)
		freeze();
	uint64_t id = submit_exact(ctx, sv[0], file, 0);
	if (frozen)
		sleep_ms(50);
	else
		CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &event, WAIT_MS));
	int64_t begin = now_ms();
	destroy_ctx(ctx);
	if (slowness() == 1)
		CHECK_LE(now_ms() - begin, SOON);
	if (frozen)
		thaw();
	close_pair(sv);
}

/* kill -9 while it sends the clone. */
static void killed(int file)
{
	int status, sv[2];
	pid_t child = (pid_t)SYS(fork());
	if (child == 0) {
		struct snapsend_completion event;
		snapsend_t *ctx = clone_context(NULL);
		tcp_pair(sv);
		uint64_t id = submit_exact(ctx, sv[0], file, 0);
		CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &event, WAIT_MS));
		kill(getpid(), SIGKILL);
	}
	SYS(waitpid(child, &status, 0));
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void on(const char *type)
{
	char dir[PATH_MAX], path[PATH_MAX + 8];
	struct statfs before;
	doing(type);
	clone_mount(type, DISK_BYTES, dir);
	disk = (int)SYS(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int file = clone_file(dir, LENGTH, 63, path);
	SYS(syncfs(disk));
	SYS(statfs(dir, &before));
	destroyed(file, true);
	destroyed(file, false);
	killed(file);
	snapsend_t *ctx = clone_context(NULL);
	ends(ctx, file, ECANCELED);
	ends(ctx, file, ETIMEDOUT);
	for (int i = 0; i < 3; i++) {
		cut(ctx, file, ECANCELED, 3 * i);
		cut(ctx, file, ETIMEDOUT, 3 * i);
	}
	expect_names(dir, 1);
	/* Overwritten, the file has the only reference to its blocks. */
	pattern_write(file, 0, LENGTH, 64);
	expect_room(dir, before.f_bfree, 4 * MIB / (uint64_t)before.f_bsize);
	close(file);
	close(disk);
	clone_unmount(dir);
	destroy_ctx(ctx); /* nothing of the clones was open in it */
}

int main(void)
{
	for (size_t i = 0; i < COUNT_OF(CLONE_TYPES); i++)
		on(CLONE_TYPES[i]);
	return 0;
}
