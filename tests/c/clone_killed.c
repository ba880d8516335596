/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* kill -9 of a process that clones a file with dirty pages, at any moment: before, within and after the call, and while
 * the file system is frozen. Nothing is left: no name, no block, and the file system is whole. */
#include "clone_common.h"

#include <linux/fs.h>

#define LENGTH (16 * MIB + 777)
#define ROUNDS 24

/* Says by one byte that it is about to clone, by another one that it has, and then waits for its end. */
static _Noreturn void clone_forever(int file, int told)
{
	int sv[2];
	struct snapsend_completion event;
	snapsend_t *ctx = clone_context(NULL);
	tcp_pair(sv);
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = SNAPSEND_EXACT | SNAPSEND_NOTIFY_SNAPSHOT;
	CHECK_EQ(write(told, "1", 1), 1);
	uint64_t id = submit_ok(ctx, &request);
	CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &event, WAIT_MS));
	CHECK_EQ(write(told, "2", 1), 1);
	for (;;)
		pause();
}

static void freeze(int disk, bool on)
{
	if (disk >= 0)
		SYS(ioctl(disk, on ? FIFREEZE : FITHAW, 0));
}

/* Whether the clone was there. `frozen`: the file system, which the call then waits for; or -1. */
static bool killed(int file, int after_us, int frozen)
{
	int told[2], status;
	char bytes[3];
	SYS(pipe2(told, O_CLOEXEC));
	freeze(frozen, true);
	pid_t child = (pid_t)SYS(fork());
	if (child == 0)
		clone_forever(file, told[1]);
	close(told[1]);
	CHECK_EQ(read(told[0], bytes, 1), 1);
	usleep((useconds_t)after_us);
	SYS(kill(child, SIGKILL));
	freeze(frozen, false);
	SYS(waitpid(child, &status, 0));
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	bool is_cloned = read_all(told[0], bytes, sizeof bytes) > 0;
	close(told[0]);
	return is_cloned;
}

static void on(const char *type)
{
	char dir[PATH_MAX], path[PATH_MAX + 8];
	struct statfs before;
	int count = 0, most_us = 1000;
	doing(type);
	clone_mount(type, DISK_BYTES, dir);
	int disk = (int)SYS(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int file = clone_file(dir, LENGTH, 0, path);
	SYS(syncfs(disk));
	SYS(statfs(dir, &before));
	for (int i = 0; i < ROUNDS; i++) {
		pattern_write(file, 0, LENGTH, (uint64_t)i); /* dirty */
		if (i % 8 == 7) {
			CHECK(!killed(file, rand() % most_us, disk));
			continue;
		}
		bool is_cloned = killed(file, rand() % most_us, -1);
		/* About as many before as after its end. */
		most_us = is_cloned ? most_us * 2 / 3 : most_us * 3 / 2;
		count += is_cloned;
	}
	printf("%s: %d of %d were killed behind the clone, within %d us\n", type, count, ROUNDS, most_us);
	CHECK(count > 0 && count < ROUNDS);
	expect_names(dir, 1);
	pattern_write(file, 0, LENGTH, ROUNDS); /* the only reference to its blocks */
	expect_room(dir, before.f_bfree, 4 * MIB / (uint64_t)before.f_bsize);
	unsigned char *image = image_of(0, LENGTH, ROUNDS), *now = malloc(LENGTH);
	CHECK_EQ(pread(file, now, LENGTH, 0), LENGTH);
	CHECK_UEQ(count_different(now, image, LENGTH), 0);
	free(image);
	free(now);
	close(file);
	close(disk);
	clone_unmount(dir);
	expect_whole(type, dir);
}

int main(void)
{
	srand(74);
	for (size_t i = 0; i < COUNT_OF(CLONE_TYPES); i++)
		on(CLONE_TYPES[i]);
	return 0;
}
