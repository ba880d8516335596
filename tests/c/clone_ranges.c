/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a file may look like when it is cloned: with holes, with blocks that are allocated and not written, with dirty
 * pages, with an end within a block; and while others cut it and let it grow. The peer gets what the file was at one
 * instant. A file that is open for writing only is refused. */
#include "clone_common.h"

#define LENGTH (9 * MIB + 321)
#define LEAST  (2 * MIB) /* more than the pool keeps */
#define SEED   71

/* ---- holes ------------------------------------------------------------------------------------ */

/* The file: zeros except for the second half of each MiB. All of it is allocated except for holes; all that is not
 * zero has been written, some of it not to the disk yet. */
static int sparse_file(const char *dir, unsigned char *image)
{
	char path[PATH_MAX + 8];
	int file = clone_file(dir, 0, 0, path);
	memset(image, 0, LENGTH);
	SYS(ftruncate(file, LENGTH));
	for (uint64_t at = 0, i = 0; at + MIB <= LENGTH; at += MIB, i++) {
		if (i % 3 > 0)
			SYS(fallocate(file, 0, (off_t)at, MIB));
		pattern_fill(image + at + MIB / 2 + i, at, MIB / 2 - i, SEED);
		file_put(file, at + MIB / 2 + i, image + at + MIB / 2 + i, MIB / 2 - i);
		if (i % 2)
			SYS(fdatasync(file));
	}
	return file;
}

static void holes(snapsend_t *ctx, const char *dir, unsigned char *image)
{
	static const struct {
		uint64_t offset, length;
	} ranges[] = { { 0, LENGTH },
		       { 1, SNAPSEND_TO_EOF },
		       { MIB + 4095, 5 * MIB + 2 },
		       { 3 * MIB / 2, 3 * MIB },
		       { 70000, LENGTH - 70001 },
		       { LENGTH - 4 * MIB - 1, SNAPSEND_TO_EOF } };
	for (size_t i = 0; i < 2 * COUNT_OF(ranges); i++) {
		int sv[2], file = sparse_file(dir, image), handle = snapsend_register_file(ctx, file, 0);
		struct snapsend_completion event;
		struct reader reader;
		uint64_t offset = ranges[i / 2].offset, length = ranges[i / 2].length, before = clones_of(ctx);
		pair_of_kind(i % 2 ? UNIX : TCP4, sv, 0);
		struct snapsend_request request = make_request(sv[0], i % 3 ? file : handle, offset, length);
		request.flags = (i / 2 % 2 ? SNAPSEND_EAGER : SNAPSEND_EXACT) | SNAPSEND_NOTIFY_SNAPSHOT;
		request.flags |= i % 3 ? 0 : SNAPSEND_REGISTERED_FILE;
		length = length == SNAPSEND_TO_EOF ? LENGTH - offset : length;
		uint64_t id = submit_ok(ctx, &request);
		CHECK(wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &event, WAIT_MS));
		CHECK_UEQ(clones_of(ctx), before + 1);
		SYS(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, LENGTH));
		file_spoil(file, 0, image, LENGTH);
		reader_start_keep(&reader, sv[1], length);
		wait_done(ctx, id, &event);
		CHECK_EQ(event.status, 0);
		CHECK_UEQ(event.wire_bytes, length);
		reader_join(&reader);
		CHECK_UEQ(count_different(reader.data, image + offset, length), 0);
		reader_free(&reader);
		CHECK_EQ(snapsend_unregister_file(ctx, handle), 0);
		close(file);
		close_pair(sv);
	}
}

/* ---- a size that changes ---------------------------------------------------------------------- */

static int moving;
static atomic_bool over;

/* At each instant the file is some part of the pattern, from its start. */
static void *mover(void *unused)
{
	unsigned seed = 1;
	while (!atomic_load(&over)) {
		uint64_t cut = LEAST + (uint64_t)rand_r(&seed) % (LENGTH - LEAST);
		SYS(ftruncate(moving, (off_t)cut));
		usleep((useconds_t)(rand_r(&seed) % 3000));
		pattern_write(moving, cut, LENGTH - cut, SEED);
		usleep((useconds_t)(rand_r(&seed) % 3000));
	}
	return unused;
}

enum sent { WHOLE, SHORT, NOT_CLONED, SENT_KINDS };

static enum sent moved(snapsend_t *ctx, uint32_t flags, uint64_t offset, uint64_t length)
{
	int sv[2];
	struct snapsend_completion done;
	struct reader reader;
	tcp_pair(sv);
	struct snapsend_request request = make_request(sv[0], moving, offset, length);
	request.flags = flags;
	reader_start_check(&reader, sv[1], UINT64_MAX, offset, SEED);
	int result = snapsend_submit(ctx, &request, sizeof request, NULL);
	CHECK_EQ(result, 0);
	CHECK_EQ(snapsend_poll(ctx, &done, 1, WAIT_MS), 1);
	SYS(shutdown(sv[0], SHUT_WR));
	CHECK_UEQ(reader_join(&reader), done.wire_bytes);
	close_pair(sv);
	if (done.status == 0) {
		if (length == SNAPSEND_TO_EOF)
			CHECK_UGE(done.wire_bytes, LEAST - offset);
		else
			CHECK_UEQ(done.wire_bytes, length);
		return WHOLE;
	}
	CHECK(done.status == -ENODATA || done.status == -EMSGSIZE);
	if (flags == SNAPSEND_EXACT)
		CHECK_UEQ(done.wire_bytes, 0);
	return done.status == -ENODATA ? SHORT : NOT_CLONED;
}

static void size_changes(snapsend_t *ctx, const char *dir)
{
	char path[PATH_MAX + 8];
	pthread_t thread;
	int counts[3][SENT_KINDS] = { 0 };
	moving = clone_file(dir, LENGTH, SEED, path);
	atomic_store(&over, false);
	PTHREAD(pthread_create(&thread, NULL, mover, NULL));
	for (int i = 0; i < 25; i++) {
		counts[0][moved(ctx, SNAPSEND_EXACT, 3, LENGTH - MIB)]++;
		counts[1][moved(ctx, SNAPSEND_EXACT, 4097, SNAPSEND_TO_EOF)]++;
		counts[2][moved(ctx, SNAPSEND_EAGER, 0, LENGTH - MIB)]++;
	}
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	close(moving);
	for (int i = 0; i < 3; i++)
		printf("%d whole, %d short, %d refused\n", counts[i][WHOLE], counts[i][SHORT], counts[i][NOT_CLONED]);
	/* Nobody changes the size so quickly that it cannot be cloned. */
	CHECK_GT(counts[0][WHOLE], 0);
	CHECK_EQ(counts[0][NOT_CLONED] + counts[1][NOT_CLONED] + counts[2][NOT_CLONED], 0);
	CHECK_EQ(counts[1][SHORT], 0);
}

/* ---- not for reading -------------------------------------------------------------------------- */

static void write_only(snapsend_t *ctx, const char *dir)
{
	char path[PATH_MAX + 8];
	int sv[2];
	tcp_pair(sv);
	close(clone_file(dir, LENGTH, SEED, path));
	int file = (int)SYS(open(path, O_WRONLY | O_CLOEXEC));
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = SNAPSEND_EXACT;
	CHECK_EQ(rejected(ctx, &request), EBADF);
	CHECK_EQ(snapsend_register_file(ctx, file, 0), -EBADF);
	expect_silence(sv[1]);
	close(file);
	close_pair(sv);
}

int main(void)
{
	unsigned char *image = malloc(LENGTH);
	CHECK(image != NULL);
	for (size_t i = 0; i < COUNT_OF(CLONE_TYPES); i++) {
		char dir[PATH_MAX];
		doing(CLONE_TYPES[i]);
		clone_mount(CLONE_TYPES[i], DISK_BYTES, dir);
		snapsend_t *ctx = clone_context(NULL);
		holes(ctx, dir, image);
		size_changes(ctx, dir);
		write_only(ctx, dir);
		destroy_ctx(ctx);
		clone_unmount(dir);
	}
	free(image);
	return 0;
}
