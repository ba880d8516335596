/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Every byte of an EXACT range is as of one instant. A writer rewrites the whole file at full speed, generation by
 * generation, and holds a lock while it writes one. The sender holds the lock from submit to SNAPSHOT only, so each
 * block that arrives must carry the generation of that moment; with blocks that the writer changes later, or changed
 * before a snapshot that was taken piece by piece, generations would mix. Half of the writes go through a mapping. The
 * control, without EXACT, must mix.
 *
 * CLONE_TORTURE_MIB   size of the file, 40 by default
 * CLONE_TORTURE_RUNS  pairs of transfers on each file system, 2 by default
 * CLONE_TORTURE_DIR   where the images of the file systems are, in memory by default */
#include "clone_common.h"

#define BLOCK 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t size, generation; /* under the lock: all blocks have this generation */
static int file;
static unsigned char *mapping;
static atomic_bool over;

static uint64_t from_environment(const char *name, uint64_t usual)
{
	const char *value = getenv(name);
	return value != NULL ? strtoull(value, NULL, 10) : usual;
}

static void write_generation(uint64_t number, bool mapped)
{
	static unsigned char piece[64 * BLOCK];
	for (uint64_t at = 0; at < size; at += sizeof piece) {
		unsigned char *to = mapped ? mapping + at : piece;
		for (size_t i = 0; i < sizeof piece; i += BLOCK) {
			memcpy(to + i, &number, sizeof number);
			memcpy(to + i + BLOCK - sizeof number, &number, sizeof number);
		}
		if (!mapped)
			file_put(file, at, piece, sizeof piece);
	}
}

static void *writer(void *unused)
{
	while (!atomic_load(&over)) {
		pthread_mutex_lock(&lock);
		write_generation(generation + 1, generation % 2);
		generation++;
		pthread_mutex_unlock(&lock);
		sched_yield();
	}
	return unused;
}

/* How many blocks carry another generation than the first one; the first one in *first. */
static uint64_t receive(int fd, uint64_t *first)
{
	static unsigned char piece[64 * BLOCK];
	uint64_t others = 0, one, two;
	for (uint64_t at = 0; at < size; at += sizeof piece) {
		CHECK_UEQ(read_all(fd, piece, sizeof piece), sizeof piece);
		if (at == 0)
			memcpy(first, piece, sizeof *first);
		for (size_t i = 0; i < sizeof piece; i += BLOCK) {
			memcpy(&one, piece + i, sizeof one);
			memcpy(&two, piece + i + BLOCK - sizeof two, sizeof two);
			others += one != *first || two != *first;
		}
	}
	return others;
}

/* One transfer; how many blocks are of another generation than that at submit. */
static uint64_t transfer(snapsend_t *ctx, uint32_t flags)
{
	int sv[2];
	uint64_t at_submit, first = UINT64_MAX, others;
	struct snapsend_completion event;
	tcp_pair(sv);
	struct snapsend_request request = make_request(sv[0], file, 0, size);
	request.flags = flags != 0 ? flags | SNAPSEND_NOTIFY_SNAPSHOT : 0;
	pthread_mutex_lock(&lock);
	at_submit = generation;
	uint64_t id = submit_ok(ctx, &request);
	if (flags != 0)
		CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &event, WAIT_MS));
	pthread_mutex_unlock(&lock);
	others = receive(sv[1], &first);
	wait_done(ctx, id, &event);
	CHECK_EQ(event.status, 0);
	CHECK_UEQ(event.wire_bytes, size);
	close_pair(sv);
	if (flags != 0)
		CHECK_UEQ(first, at_submit);
	return others;
}

/* Without the lock, at any moment: within the one piece that the writer is at, generations may differ, so the blocks
 * of one instant are two runs, of a new generation and of the one before, never more. */
static void at_any_moment(snapsend_t *ctx)
{
	int sv[2], runs = 1;
	static unsigned char piece[64 * BLOCK];
	uint64_t last = 0, now;
	struct snapsend_completion done;
	tcp_pair(sv);
	struct snapsend_request request = make_request(sv[0], file, 0, size);
	request.flags = SNAPSEND_EXACT;
	uint64_t id = submit_ok(ctx, &request);
	for (uint64_t at = 0; at < size; at += BLOCK) {
		size_t in_piece = at % sizeof piece;
		if (in_piece == 0)
			CHECK_UEQ(read_all(sv[1], piece, sizeof piece), sizeof piece);
		memcpy(&now, piece + in_piece, sizeof now);
		if (at > 0 && now != last) {
			CHECK_UEQ(now, last - 1);
			runs++;
		}
		last = now;
	}
	CHECK_LE(runs, 2);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	close_pair(sv);
}

/* Room for the file, some clones and what is written meanwhile: in memory, or in a folder that is given. */
static void mount_disk(const char *type, char dir[PATH_MAX])
{
	static bool is_private;
	char folder[PATH_MAX - 32], image[PATH_MAX];
	const char *parent = getenv("CLONE_TORTURE_DIR");
	if (parent == NULL) {
		clone_mount(type, DISK_BYTES + 8 * size, dir);
		return;
	}
	if (!is_private)
		(void)private_mounts();
	is_private = true;
	snprintf(folder, sizeof folder, "%s/clone-torture-XXXXXX", parent);
	CHECK(mkdtemp(folder) != NULL);
	image_attach(folder, type, type, DISK_BYTES + 8 * size, dir);
	snprintf(image, sizeof image, "%s/%s.img", folder, type);
	SYS(unlink(image)); /* the loop device has it open */
}

static void unmount_disk(char dir[PATH_MAX])
{
	clone_unmount(dir);
	SYS(rmdir(dir));
	*strrchr(dir, '/') = 0;
	(void)rmdir(dir); /* the folder made for it */
}

static void on(const char *type, int runs)
{
	char dir[PATH_MAX], path[PATH_MAX + 8];
	uint64_t mixed = 0;
	pthread_t thread;
	doing(type);
	mount_disk(type, dir);
	file = clone_file(dir, 0, 0, path);
	SYS(ftruncate(file, (off_t)size));
	mapping = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	CHECK(mapping != MAP_FAILED);
	generation = 0;
	write_generation(generation, false);
	atomic_store(&over, false);
	snapsend_t *ctx = clone_context(NULL);
	CHECK_EQ(pthread_create(&thread, NULL, writer, NULL), 0);
	for (int i = 0; i < runs; i++) {
		CHECK_UEQ(transfer(ctx, i % 2 ? SNAPSEND_EAGER : SNAPSEND_EXACT), 0);
		at_any_moment(ctx);
	}
	CHECK_UEQ(clones_of(ctx), 2 * (uint64_t)runs);
	for (int i = 0; i < 20 && mixed == 0; i++)
		mixed = transfer(ctx, 0);
	if (mixed == 0)
		fail("the control saw one generation only: the test cannot fail");
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	printf("%s: %" PRIu64 " generations; %d clones of %" PRIu64 " bytes, none mixed; control: %" PRIu64
	       " of %" PRIu64 " blocks mixed\n",
	       type, generation, 2 * runs, size, mixed, size / BLOCK);
	destroy_ctx(ctx);
	munmap(mapping, size);
	close(file);
	unmount_disk(dir);
}

int main(void)
{
	size = from_environment("CLONE_TORTURE_MIB", 40) * MIB;
	int runs = (int)from_environment("CLONE_TORTURE_RUNS", 2);
	time_limit(60 + (unsigned)(size / MIB) * (unsigned)runs);
	for (size_t i = 0; i < COUNT_OF(CLONE_TYPES); i++)
		on(CLONE_TYPES[i], runs);
	return 0;
}
