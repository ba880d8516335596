/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* Destroy with much in flight returns promptly and leaves no descriptor, thread or mapping; the caller's
 * sockets and files stay as they are. */
#include "common.h"

#define SOCKETS 20
#define EACH    20

static const char marker[16] = "written by host";

/* The rest of what went out before, then the marker, then nothing. */
static void read_up_to_marker(int fd)
{
	static char data[16 + 65536]; /* the last 16 bytes of before, then the new ones */
	struct pollfd p = { .fd = fd, .events = POLLIN };
	do {
		CHECK_EQ(poll(&p, 1, 5000), 1);
		ssize_t n = SYS(recv(fd, data + 16, 65536, 0));
		CHECK_GE(n, 1);
		memmove(data, data + n, 16);
	} while (memcmp(data, marker, 16) != 0);
}

static void once(int file, const char *path, uint32_t flags, int ms_before, bool completions_unread)
{
	int sv[SOCKETS][2], quick[2];
	for (int i = 0; i < SOCKETS; i++) {
		if (i & 1)
			unix_pair(sv[i]);
		else
			tcp_pair(sv[i]);
	}
	unix_pair(quick);
	posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED); /* reads from the disk are in flight too */
	int fds = count_fds(), threads = count_threads();
	snapsend_t *ctx = create_ctx();
	struct iovec head = { "head", 4 };
	for (int k = 0; k < EACH; k++) {
		for (int i = 0; i < SOCKETS; i++) {
			struct snapsend_request request = make_request(sv[i][0], file, (uint64_t)k * MIB, 12 * MIB);
			request.flags = flags;
			request.header = &head;
			request.header_count = 1;
			request.timeout_ms = k & 1 ? 60000 : 0;
			submit_ok(ctx, &request);
		}
	}
	for (int k = 0; completions_unread && k < 50; k++) {
		struct snapsend_request request = make_request(quick[0], file, 0, 100);
		submit_ok(ctx, &request);
	}
	sleep_ms(ms_before);
	int64_t begin = now_ms();
	destroy_ctx(ctx);
	int64_t took = now_ms() - begin;
	CHECK_LE(took, 5000);
	CHECK_EQ(count_fds(), fds);
	CHECK_EQ(wait_threads(threads, 2000), threads);
	CHECK_EQ(count_mappings(path), 0);
	CHECK_EQ(count_mappings("io_uring"), 0);

	/* The sockets are the caller's: still open, and nothing writes to them any more. */
	for (int i = 0; i < SOCKETS; i++) {
		drain(sv[i][1], 1);
		set_nonblock(sv[i][1]);
		CHECK_EQ(send(sv[i][0], marker, sizeof marker, MSG_NOSIGNAL), sizeof marker);
		read_up_to_marker(sv[i][1]);
	}
	sleep_ms(30);
	for (int i = 0; i < SOCKETS; i++) {
		char more;
		CHECK_EQ(recv(sv[i][1], &more, 1, 0), -1);
		CHECK_EQ(errno, EAGAIN);
		close(sv[i][0]);
		close(sv[i][1]);
	}
	close(quick[0]);
	close(quick[1]);
}

int main(void)
{
	char path[PATH_MAX];
	int file = temp_file_path(32 * MIB, 1, path);
	fsync(file);
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	for (size_t i = 0; i < COUNT_OF(flags); i++) {
		once(file, path, flags[i], 0, false);
		once(file, path, flags[i], 3, true);
		once(file, path, flags[i], 100, true);
	}
	return 0;
}
