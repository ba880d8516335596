/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* window_bytes: with any limit all bytes are right, and the gauge never exceeds it, with many files on several sockets.
 * Operations on one file share its windows, over all sockets, registered or not. */
#include "lent.h"

enum { FILES = 12, SOCKETS = 4, OPERATIONS = 40, TOGETHER = 8 };

#define FILE_LENGTH (600 * KIB + 77)
#define LONGEST     (300 * KIB)
#define SHARED      (2 * MIB)

struct variant {
	const char *name;
	uint64_t window_bytes;
	bool registered, lends;
};

static const struct variant variants[] = {
	{ "4096", 4096, false, false },
	{ "4096, registered", 4096, true, false },
	{ "1 MiB", MIB, false, true },
	{ "1 MiB, registered", MIB, true, true },
	{ "default, registered", 0, true, true },
};

static struct network net;
static unsigned char *images[FILES];
static int files[FILES];

static snapsend_t *create_with(uint64_t window_bytes)
{
	struct snapsend_options options;
	snapsend_t *ctx;
	memset(&options, 0, sizeof options);
	options.window_bytes = window_bytes;
	CHECK_EQ(snapsend_create(&options, sizeof options, &ctx), 0);
	return ctx;
}

/* A socket, and what its peer is to get. */
struct stream {
	int sv[2];
	unsigned char *bytes;
	size_t length;
	struct reader reader;
};

static void submit_random(snapsend_t *ctx, struct stream *stream, const int *handles, bool registers)
{
	int i = rand() % FILES;
	uint64_t length = (uint64_t)rand() % LONGEST + 1, offset = (uint64_t)rand() % (FILE_LENGTH - length);
	struct snapsend_request request = lend_request(stream->sv[0], handles[i], offset, length);
	request.flags |= registers ? SNAPSEND_REGISTERED_FILE : 0;
	submit_ok(ctx, &request);
	memcpy(stream->bytes + stream->length, images[i] + offset, length);
	stream->length += length;
}

static void take_all(snapsend_t *ctx, int count, uint64_t limit)
{
	struct snapsend_completion done;
	for (; count > 0; count--) {
		CHECK_EQ(snapsend_poll(ctx, &done, 1, WAIT_MS), 1);
		CHECK_EQ(done.status, 0);
		CHECK_ULE(stats_of(ctx).window_bytes, limit);
	}
}

static void many_files(const struct variant *variant)
{
	static struct stream streams[SOCKETS];
	int handles[FILES];
	snapsend_t *ctx = create_with(variant->window_bytes);
	uint64_t limit = variant->window_bytes != 0 ? variant->window_bytes : UINT64_MAX;
	for (int i = 0; i < FILES; i++) {
		handles[i] = variant->registered ? snapsend_register_file(ctx, files[i], 0) : files[i];
		CHECK_GE(handles[i], 0);
	}
	for (int i = 0; i < SOCKETS; i++) {
		struct stream *stream = &streams[i];
		connect_over(&net, PATH_VETH, 0, stream->sv);
		stream->bytes = malloc(OPERATIONS * LONGEST);
		stream->length = 0;
		CHECK(stream->bytes != NULL);
		for (int k = 0; k < OPERATIONS; k++)
			submit_random(ctx, stream, handles, variant->registered);
		reader_start_keep(&stream->reader, stream->sv[1], stream->length);
	}
	take_all(ctx, SOCKETS * OPERATIONS, limit);
	for (int i = 0; i < SOCKETS; i++) {
		struct stream *stream = &streams[i];
		reader_join(&stream->reader);
		CHECK_UEQ(count_different(stream->reader.data, stream->bytes, stream->length), 0);
		reader_free(&stream->reader);
		free(stream->bytes);
		close_pair(stream->sv);
	}
	printf("%s: %.1f MiB from the page cache\n", variant->name, (double)lent_bytes(ctx) / MIB);
	CHECK_EQ(lent_bytes(ctx) >= MIB, variant->lends);
	if (!variant->registered)
		CHECK_UEQ(stats_of(ctx).window_bytes, 0);
	destroy_ctx(ctx);
}

/* A forked child has none of them. */
static void check_child(const char *path)
{
	int status;
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0)
		_exit(count_mappings(path));
	SYS(waitpid(pid, &status, 0));
	CHECK_EQ(status, 0);
}

/* All of them have the whole file in the socket, and it is mapped once. */
static void together(bool registers)
{
	char path[PATH_MAX];
	int sv[TOGETHER][2], file = temp_file_path(SHARED, 97, path);
	struct reader readers[TOGETHER];
	uint64_t ids[TOGETHER];
	snapsend_t *ctx = create_with(0);
	acquaint(ctx, file);
	struct snapsend_request request = lend_request(-1, file, 0, SHARED);
	if (registers) {
		request.file_fd = snapsend_register_file(ctx, file, 0);
		request.flags |= SNAPSEND_REGISTERED_FILE;
	}
	for (int i = 0; i < TOGETHER; i++) {
		connect_over(&net, PATH_VETH, 16 * KIB, sv[i]);
		buffer_of(sv[i][0], 4 * MIB);
		request.socket_fd = sv[i][0];
		ids[i] = submit_ok(ctx, &request);
	}
	for (int i = 0; i < TOGETHER; i++)
		while (in_transit(sv[i]) < SHARED)
			sleep_ms(1);
	CHECK_UEQ(stats_of(ctx).window_bytes, SHARED);
	CHECK_EQ(count_mappings(path), 1);
	check_child(path);
	for (int i = 0; i < TOGETHER; i++)
		reader_start_check(&readers[i], sv[i][1], SHARED, 0, 97);
	for (int i = 0; i < TOGETHER; i++) {
		wait_done(ctx, ids[i], NULL);
		reader_join(&readers[i]);
		close_pair(sv[i]);
	}
	CHECK_UGE(lent_bytes(ctx), (TOGETHER - 1) * SHARED);
	CHECK_EQ(count_mappings(path), registers ? 1 : 0);
	destroy_ctx(ctx);
	CHECK_EQ(count_mappings(path), 0);
	close(file);
}

int main(void)
{
	lending_network(&net);
	srand(96);
	for (int i = 0; i < FILES; i++) {
		files[i] = temp_file(FILE_LENGTH, 960 + (uint64_t)i);
		images[i] = image_of(0, FILE_LENGTH, 960 + (uint64_t)i);
	}
	for (size_t i = 0; i < COUNT_OF(variants); i++) {
		doing(variants[i].name);
		many_files(&variants[i]);
	}
	doing("together");
	together(false);
	together(true);
	return 0;
}
