/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* What the library holds of a file whose pages it lends: nothing after the last DONE, so that locks, leases and the
 * mount are the caller's alone, and everything of a registered one until it is unregistered. Record locks and a lease
 * for reading stay all the time. */
#include "lent.h"

#define LENGTH (9 * MIB + 9) /* several windows */

struct variant {
	const char *name;
	bool registered;
};

static const struct variant variants[] = { { "descriptor", false }, { "registered", true } };

static struct network net;
static snapsend_t *ctx;
static unsigned char *image;
static int sv[2];
static char path[PATH_MAX];

/* ---- what shows that a file is held ------------------------------------------------------------------ */

static int open_path(int flags)
{
	return (int)SYS(open(path, flags | O_CLOEXEC, 0600));
}

static bool can_flock(void)
{
	int other = open_path(O_RDWR);
	bool can = flock(other, LOCK_EX | LOCK_NB) == 0;
	close(other);
	return can;
}

static bool can_lock(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int other = open_path(O_RDWR);
	bool can = fcntl(other, F_OFD_SETLK, &lock) == 0;
	close(other);
	return can;
}

/* A lease for writing needs the only descriptor of the file. */
static bool can_lease(void)
{
	int other = open_path(O_RDONLY);
	bool can = fcntl(other, F_SETLEASE, F_WRLCK) == 0;
	close(other);
	return can;
}

static bool is_recorded(int file)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 50 };
	int status;
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0)
		_exit(fcntl(file, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_pid == getppid() ? 0 : 1);
	SYS(waitpid(pid, &status, 0));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- transfers ----------------------------------------------------------------------------------------- */

/* Three operations, so that some are in flight at a time; returns the file's handle, if it is registered. */
static int lend(int file, bool registers)
{
	struct snapsend_request request = lend_request(sv[0], file, 0, LENGTH);
	struct snapsend_completion done;
	struct reader reader;
	acquaint(ctx, file);
	uint64_t ids[3], lent = lent_bytes(ctx);
	if (registers) {
		request.file_fd = snapsend_register_file(ctx, file, 0);
		CHECK_GE(request.file_fd, 0);
		request.flags |= SNAPSEND_REGISTERED_FILE;
	}
	reader_start_keep(&reader, sv[1], COUNT_OF(ids) * LENGTH);
	for (size_t i = 0; i < COUNT_OF(ids); i++)
		ids[i] = submit_ok(ctx, &request);
	for (size_t i = 0; i < COUNT_OF(ids); i++) {
		wait_done(ctx, ids[i], &done);
		CHECK_EQ(done.status, 0);
	}
	CHECK_UGE(lent_bytes(ctx), lent + 2 * LENGTH);
	if (!registers)
		CHECK_UEQ(stats_of(ctx).window_bytes, 0);
	reader_join(&reader);
	for (size_t i = 0; i < COUNT_OF(ids); i++)
		CHECK_UEQ(count_different(reader.data + i * LENGTH, image, LENGTH), 0);
	reader_free(&reader);
	return registers ? request.file_fd : -1;
}

/* The caller has closed the file: it is held as long as it is registered, and not after that. */
static void check_held(int handle, bool (*is_free)(void), const char *what)
{
	if (handle < 0 && !is_free())
		fail("%s: held after DONE", what);
	if (handle < 0)
		return;
	if (is_free())
		fail("%s: not held while registered", what);
	CHECK_EQ(snapsend_unregister_file(ctx, handle), 0);
	int64_t end = now_ms() + 5000 * slowness();
	while (!is_free())
		if (now_ms() > end)
			fail("%s: held after it was unregistered", what);
}

static void locks(bool registers)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int file = open_path(O_RDWR);
	CHECK_EQ(flock(file, LOCK_EX | LOCK_NB), 0);
	int handle = lend(file, registers);
	CHECK(!can_flock());
	close(file);
	check_held(handle, can_flock, "flock");
	file = open_path(O_RDWR);
	SYS(fcntl(file, F_OFD_SETLK, &lock));
	handle = lend(file, registers);
	CHECK(!can_lock());
	close(file);
	check_held(handle, can_lock, "OFD lock");
}

static void record_lock(bool registers)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 50 };
	int file = open_path(O_RDWR);
	SYS(fcntl(file, F_SETLK, &lock));
	int handle = lend(file, registers);
	CHECK(is_recorded(file));
	if (registers) {
		CHECK_EQ(snapsend_unregister_file(ctx, handle), 0);
		sleep_ms(20);
		CHECK(is_recorded(file));
	}
	close(file);
}

static void leases(bool registers)
{
	int file = open_path(O_RDONLY);
	signal(SIGIO, SIG_DFL); /* which would end the test */
	SYS(fcntl(file, F_SETLEASE, F_RDLCK));
	int handle = lend(file, registers);
	CHECK_EQ(fcntl(file, F_GETLEASE), F_RDLCK);
	SYS(fcntl(file, F_SETLEASE, F_UNLCK));
	close(file);
	check_held(handle, can_lease, "lease");
}

static bool can_unmount(void)
{
	char dir[PATH_MAX];
	snprintf(dir, sizeof dir, "%s", path);
	*strrchr(dir, '/') = 0;
	return umount2(dir, 0) == 0;
}

static void mounted(bool registers)
{
	int file = open_path(O_RDWR);
	int handle = lend(file, registers);
	close(file);
	check_held(handle, can_unmount, "mount");
}

static void with(const void *argument)
{
	const struct variant *variant = argument;
	char dir[PATH_MAX];
	image_attach(private_mounts(), "ext4", "ext4", 64 * MIB, dir);
	CHECK_LT(snprintf(path, sizeof path, "%s/file", dir), (int)sizeof path);
	int file = open_path(O_RDWR | O_CREAT);
	file_put(file, 0, image, LENGTH);
	warm(file, LENGTH);
	close(file);
	connect_over(&net, PATH_VETH, 0, sv);
	ctx = create_ctx();
	locks(variant->registered);
	record_lock(variant->registered);
	leases(variant->registered);
	mounted(variant->registered);
	destroy_ctx(ctx);
	close_pair(sv);
}

int main(void)
{
	image = image_of(0, LENGTH, 95);
	lending_network(&net);
	for (size_t i = 0; i < COUNT_OF(variants); i++)
		in_child(variants[i].name, with, &variants[i]);
	return parts_done();
}
