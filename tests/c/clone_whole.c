/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* EAGER and EXACT beyond the pool, on XFS and btrfs: SNAPSHOT comes while the peer reads nothing, the file is
 * overwritten, and the peer gets the old bytes. Any start and end, by each call, and nothing is left behind. */
#include "clone_common.h"

#define LENGTH (12 * MIB + 123)

static const struct {
	uint64_t offset, length;
} ranges[] = {
	{ 0, LENGTH },      { 0, SNAPSEND_TO_EOF }, { 4097, SNAPSEND_TO_EOF },   { 1, LENGTH - 2 },
	{ 65536, 4 * MIB }, { 65537, 3 * MIB + 1 }, { 100000, LENGTH - 100001 }, { LENGTH - 2 * MIB, 2 * MIB },
	{ 7, 9 * MIB },
};

/* The file changes as soon as SNAPSHOT says that it may. */
static void changed_at_snapshot(snapsend_t *ctx, int file, const unsigned char *image, size_t at, uint32_t flags)
{
	int sv[2];
	char head[] = "head", tail[] = "tail";
	struct iovec header = { head, 4 }, trailer = { tail, 4 };
	struct snapsend_completion event;
	struct reader reader;
	uint64_t offset = ranges[at].offset, before = clones_of(ctx);
	uint64_t length = ranges[at].length == SNAPSEND_TO_EOF ? LENGTH - offset : ranges[at].length;
	file_put(file, 0, image, LENGTH);
	if (at % 2)
		drop_cache(file);
	pair_of_kind(at % 2 ? UNIX : TCP4, sv, 0);
	struct snapsend_request request = make_request(sv[0], file, offset, ranges[at].length);
	request.flags = flags | SNAPSEND_NOTIFY_SNAPSHOT;
	request.header = &header, request.header_count = 1;
	request.trailer = &trailer, request.trailer_count = 1;
	uint64_t id = submit_ok(ctx, &request);
	if (!wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &event, WAIT_MS))
		fail("no SNAPSHOT of range %zu", at);
	CHECK_UEQ(clones_of(ctx), before + 1);
	file_spoil(file, 0, image, LENGTH);
	SYS(ftruncate(file, at % 3 ? LENGTH / 2 : 0));
	reader_start_keep(&reader, sv[1], length + 8);
	wait_done(ctx, id, &event);
	CHECK_EQ(event.status, 0);
	CHECK_UEQ(event.file_bytes, length);
	CHECK_UEQ(event.wire_bytes, length + 8);
	reader_join(&reader);
	CHECK(memcmp(reader.data, head, 4) == 0 && memcmp(reader.data + 4 + length, tail, 4) == 0);
	CHECK_UEQ(count_different(reader.data + 4, image + offset, length), 0);
	reader_free(&reader);
	close_pair(sv);
}

/* The same bytes by each call, by number and registered, with O_DIRECT, and of a file that has no name any more. */
static void by_each_call(snapsend_t *ctx, const char *path, const unsigned char *image)
{
	static const int modes[] = { O_RDONLY, O_RDONLY | O_DIRECT };
	uint64_t before = clones_of(ctx), count = 0;
	for (size_t i = 0; i < CALLS * COUNT_OF(modes) * 2; i++) {
		int sv[2], file = (int)SYS(open(path, modes[i / CALLS % 2] | O_CLOEXEC)), handle = file;
		struct reader reader;
		bool registered = i / CALLS / 2;
		tcp_pair(sv);
		if (registered)
			handle = snapsend_register_file(ctx, file, 0);
		CHECK_GE(handle, 0);
		struct snapsend_request request = make_request(sv[0], handle, 5, LENGTH - 5);
		request.flags = SNAPSEND_EXACT | (registered ? SNAPSEND_REGISTERED_FILE : 0);
		reader_start_keep(&reader, sv[1], LENGTH - 5);
		CHECK_EQ(call_done(ctx, (enum call)(i % CALLS), request).status, 0);
		CHECK_UEQ(clones_of(ctx), before + ++count);
		reader_join(&reader);
		CHECK_UEQ(count_different(reader.data, image + 5, LENGTH - 5), 0);
		reader_free(&reader);
		if (registered)
			CHECK_EQ(snapsend_unregister_file(ctx, handle), 0);
		close(file);
		close_pair(sv);
	}
}

/* What fits into the pool is not cloned; a file that is too short sends nothing, or zeros. */
static void short_ones(snapsend_t *ctx, int file, const unsigned char *image)
{
	int sv[2];
	struct snapsend_completion done;
	struct snapsend_info info;
	struct reader reader;
	uint64_t before = clones_of(ctx);
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	tcp_pair(sv);
	struct snapsend_request request = make_request(-1, file, 0, info.exact_max);
	request.flags = SNAPSEND_EXACT;
	transfer_ok(ctx, sv, request, image, info.exact_max);
	request.flags = SNAPSEND_EAGER;
	transfer_ok(ctx, sv, request, image, info.exact_max);
	CHECK_UEQ(clones_of(ctx), before);
	request = make_request(sv[0], file, 1, LENGTH);
	request.flags = SNAPSEND_EXACT;
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK_EQ(done.status, -ENODATA);
	CHECK_UEQ(done.wire_bytes, 0);
	request.flags = SNAPSEND_EAGER | SNAPSEND_ZERO_PAD;
	reader_start_keep(&reader, sv[1], LENGTH);
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, LENGTH);
	CHECK(done.flags & SNAPSEND_WAS_PADDED);
	reader_join(&reader);
	CHECK(memcmp(reader.data, image + 1, LENGTH - 1) == 0 && reader.data[LENGTH - 1] == 0);
	reader_free(&reader);
	close_pair(sv);
}

/* Several on one socket go out in the order submitted, and all see the first content. */
static void several(snapsend_t *ctx, int file, const unsigned char *image)
{
	enum { COUNT = 5 };
	int sv[2];
	uint64_t ids[COUNT];
	struct snapsend_completion event;
	struct reader reader;
	file_put(file, 0, image, LENGTH);
	tcp_pair(sv);
	for (int i = 0; i < COUNT; i++) {
		struct snapsend_request request = make_request(sv[0], file, 0, i == 2 ? 300000 : LENGTH);
		request.flags = i == 4 ? 0 : SNAPSEND_NOTIFY_SNAPSHOT | (i % 2 ? SNAPSEND_EAGER : SNAPSEND_EXACT);
		ids[i] = submit_ok(ctx, &request);
	}
	for (int i = 0; i < 4; i++)
		CHECK(wait_event(ctx, ids[i], SNAPSEND_EVENT_SNAPSHOT, &event, WAIT_MS));
	reader_start_keep(&reader, sv[1], 4 * LENGTH + 300000);
	for (int i = 0; i < COUNT; i++) {
		wait_done(ctx, ids[i], &event);
		CHECK_EQ(event.status, 0);
	}
	reader_join(&reader);
	CHECK(memcmp(reader.data + LENGTH, image, LENGTH) == 0);
	CHECK(memcmp(reader.data + 3 * LENGTH + 300000, image, LENGTH) == 0);
	reader_free(&reader);
	close_pair(sv);
}

static void on(const char *type, const unsigned char *image)
{
	char dir[PATH_MAX], path[PATH_MAX + 8];
	struct statfs before;
	doing(type);
	clone_mount(type, DISK_BYTES, dir);
	int file = clone_file(dir, LENGTH, 61, path);
	SYS(fsync(file));
	SYS(statfs(dir, &before));
	snapsend_t *ctx = clone_context(NULL);
	for (size_t i = 0; i < 2 * COUNT_OF(ranges); i++)
		changed_at_snapshot(ctx, file, image, i / 2, i % 2 ? SNAPSEND_EAGER : SNAPSEND_EXACT);
	file_put(file, 0, image, LENGTH);
	by_each_call(ctx, path, image);
	short_ones(ctx, file, image);
	several(ctx, file, image);
	SYS(unlink(path)); /* its directory is still known */
	changed_at_snapshot(ctx, file, image, 3, SNAPSEND_EXACT);
	expect_names(dir, 0);
	SYS(ftruncate(file, LENGTH));
	expect_room(dir, before.f_bfree, 8 * MIB / (uint64_t)before.f_bsize);
	close(file);
	/* The library keeps nothing of the file system after DONE. */
	clone_unmount(dir);
	destroy_ctx(ctx);
}

int main(void)
{
	unsigned char *image = image_of(0, LENGTH, 61);
	for (size_t i = 0; i < COUNT_OF(CLONE_TYPES); i++)
		on(CLONE_TYPES[i], image);
	free(image);
	return 0;
}
