/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* FUSE in each of its cache modes, while the server changes the file: what is sent is what read(2) gives. */
#include "data_fuse.h"

#define SIZE (MIB + 7)
#define MORE (SIZE + 100000)

struct mode {
	const char *name;
	bool direct;
	int open_flags;
};

/* What read(2) gives now, to the end: that moves when the kernel asks for the attributes, as it does here. */
static size_t read_now(int file, unsigned char *to)
{
	size_t length = 0;
	ssize_t n;
	struct stat st;
	SYS(fstat(file, &st));
	while ((n = SYS(pread(file, to + length, MORE - length, (off_t)length))) > 0)
		length += (size_t)n;
	return length;
}

static void same(snapsend_t *ctx, int file, enum call call, uint64_t length)
{
	static unsigned char wanted[MORE];
	struct reader reader;
	int sv[2];
	tcp_pair(sv);
	size_t there = read_now(file, wanted);
	there = length < there ? (size_t)length : there;
	reader_start_keep(&reader, sv[1], there);
	struct snapsend_completion done = call_done(ctx, call, make_request(sv[0], file, 0, length));
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, there);
	reader_join(&reader);
	CHECK(memcmp(reader.data, wanted, there) == 0);
	reader_free(&reader);
	close_pair(sv);
}

static void one(const char *path, const struct mode *mode)
{
	snapsend_t *ctx = create_ctx();
	atomic_store(&fuse->size, SIZE);
	atomic_store(&fuse->open_flags, mode->open_flags);
	int file = fuse_open(path, mode->direct);
	for (int i = 0; i < 2 * CALLS; i++) {
		enum call call = (enum call)(i % CALLS);
		same(ctx, file, call, SIZE);
		same(ctx, file, call, 50000);
		atomic_fetch_add(&fuse->seed, 1);
		atomic_fetch_add(&fuse->changes, 1);
		same(ctx, file, call, SIZE);
		atomic_store(&fuse->size, i % 2 ? SIZE : MORE); /* grows, and is cut */
		atomic_fetch_add(&fuse->changes, 1);
		same(ctx, file, call, SNAPSEND_TO_EOF);
	}
	close(file);
	destroy_ctx(ctx);
}

static void with(uint32_t init_flags)
{
	static const struct mode modes[] = { { "direct_io", true, 0 },
					     { "kernel_cache", false, FOPEN_KEEP_CACHE },
					     { "the default", false, 0 } };
	fuse_init_flags |= init_flags;
	const char *path = fuse_mount(SIZE, 90, 8);
	for (size_t i = 0; i < COUNT_OF(modes); i++) {
		doing(modes[i].name);
		one(path, &modes[i]);
	}
}

int main(void)
{
	pid_t pid = (pid_t)SYS(fork());
	int status;
	if (pid == 0) {
		with(FUSE_AUTO_INVAL_DATA);
		return 0;
	}
	SYS(waitpid(pid, &status, 0));
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		test_leave(WEXITSTATUS(status));
	CHECK(WIFEXITED(status));
	with(0);
	return 0;
}
