/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Disks that fail in part (dm-error) and for a time (dm-flakey): -EIO, with exact counts and right bytes before it;
 * and once the disk reads again, so does the library. */
#include "data_common.h"

#define SIZE   (16 * MIB)
#define GOOD   (6 * MIB) /* so much in front can be read */
#define SECTOR 512

static char name[64], path[128], device[64];

static bool dm(const char *command, const char *table)
{
	const char *const argv[] = {
		"dmsetup", "--noudevsync", "--noudevrules", command, name, table != NULL ? "--table" : NULL, table, NULL
	};
	return run_tool(argv) == 0;
}

static void make_disk(void)
{
	char table[200];
	root_or_skip();
	int backing = temp_file(SIZE, 95), disk = loop_attach(backing, device);
	close(backing);
	snprintf(name, sizeof name, "snapsend-test-%d", (int)getpid());
	snprintf(path, sizeof path, "/dev/mapper/%s", name);
	snprintf(table, sizeof table, "0 %llu linear %s 0", SIZE / SECTOR, device);
	if (!dm("create", table) || !dm("mknodes", NULL))
		skip("no device mapper here");
	close(disk);
}

static bool set_table(const char *table)
{
	return dm("suspend", NULL) & dm("reload", table) & dm("resume", NULL);
}

/* Opened anew: the page cache of the last one is gone. */
static int disk_open(void)
{
	int disk = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	SYS(posix_fadvise(disk, 0, 0, POSIX_FADV_DONTNEED));
	return disk;
}

/* One operation over all of it; its status. */
static int one(snapsend_t *ctx, const unsigned char *image, uint32_t flags, enum kind kind, uint64_t most)
{
	int sv[2], disk = disk_open();
	struct reader reader;
	struct snapsend_completion done;
	CHECK(pair_of_kind(kind, sv, 0));
	reader_start_keep(&reader, sv[1], UINT64_MAX);
	struct snapsend_request request = make_request(sv[0], disk, 1, SIZE - 1);
	request.flags = flags;
	wait_done(ctx, submit_ok(ctx, &request), &done);
	SYS(shutdown(sv[0], SHUT_WR));
	uint64_t got = reader_join(&reader);
	CHECK(done.status == 0 || done.status == -EIO);
	CHECK_UEQ(got, done.wire_bytes);
	CHECK_UEQ(got, done.file_bytes);
	CHECK_EQ(got == SIZE - 1, done.status == 0);
	CHECK_ULE(got, most);
	CHECK(got == 0 || memcmp(reader.data, image + 1, got) == 0);
	reader_free(&reader);
	close_pair(sv);
	close(disk);
	return done.status;
}

static int tests(void)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	char table[400];
	unsigned char *image = image_of(0, SIZE, 95);
	snapsend_t *ctx = create_ctx();

	doing("dm-error");
	snprintf(table, sizeof table, "0 %llu linear %s 0\n%llu %llu error", GOOD / SECTOR, device, GOOD / SECTOR,
		 (SIZE - GOOD) / SECTOR);
	CHECK(set_table(table));
	for (size_t i = 0; i < COUNT_OF(flags) * 2; i++)
		CHECK_EQ(one(ctx, image, flags[i / 2], i % 2 ? TCP4 : UNIX, GOOD), -EIO);

	doing("dm-flakey");
	snprintf(table, sizeof table, "0 %llu flakey %s 0 1 1", SIZE / SECTOR, device);
	int good = 0, bad = 0;
	if (set_table(table)) {
		for (int64_t end = now_ms() + 4000 * slowness(); now_ms() < end && (good < 3 || bad < 3); sleep_ms(100))
			*(one(ctx, image, flags[(good + bad) % 3], TCP4, SIZE) == 0 ? &good : &bad) += 1;
		CHECK(good > 0 && bad > 0);
	}
	snprintf(table, sizeof table, "0 %llu linear %s 0", SIZE / SECTOR, device);
	CHECK(set_table(table));
	CHECK_EQ(one(ctx, image, 0, TCP4, SIZE), 0);
	destroy_ctx(ctx);
	free(image);
	return 0;
}

/* Whatever becomes of the tests, the device goes. */
int main(void)
{
	int status;
	make_disk();
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0)
		_exit(tests());
	SYS(waitpid(pid, &status, 0));
	CHECK(dm("remove", NULL));
	CHECK_EQ(status, 0);
	return 0;
}
