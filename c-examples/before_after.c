/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * before_after: shows what arrives when a file is overwritten after it was reported as sent.
 *
 * It sends the same file with sendfile, with splice through a pipe, and with snapsend, to a peer
 * that does not read yet.  It overwrites the file at the moment at which each method reports it as
 * sent.  Then the peer reads, and the program counts the bytes that arrive changed.
 *
 * The exit status is 0 only if snapsend's count is 0 and the other counts are not 0: otherwise the
 * comparison would show nothing.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/vfs.h>

#include "loopback.h"
#include "snapsend.h"

#define MOST_BYTES  (512u << 10)
#define LEAST_BYTES (64u << 10)
#define WAIT_MS     5000

/* Sends the first length bytes of the file.  Returns true when the method reports them as sent, or
 * false if the socket's buffers do not take all of them. */
typedef bool send_function(int socket_fd, int file_fd, size_t length);

static unsigned char before[MOST_BYTES], after[MOST_BYTES], arrived[MOST_BYTES];
static snapsend_t *ctx;

static bool by_sendfile(int socket_fd, int file_fd, size_t length)
{
	off_t offset = 0;

	while ((size_t)offset < length) {
		ssize_t n = sendfile(socket_fd, file_fd, &offset, length - (size_t)offset);

		if (n < 0 && errno == EAGAIN)
			return false;
		if (n <= 0)
			die("sendfile", n < 0 ? errno : ENODATA);
	}
	return true;
}

/* Moves the contents of the pipe into the socket. */
static bool drain_pipe(int pipe_fd, int socket_fd, size_t held)
{
	while (held > 0) {
		ssize_t n = splice(pipe_fd, NULL, socket_fd, NULL, held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

		if (n < 0 && errno == EAGAIN)
			return false;
		if (n <= 0)
			die("splice to the socket", n < 0 ? errno : EIO);
		held -= (size_t)n;
	}
	return true;
}

static bool by_splice(int socket_fd, int file_fd, size_t length)
{
	loff_t offset = 0;
	bool fits = true;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		die("pipe2", errno);
	while (fits && (size_t)offset < length) {
		ssize_t n = splice(file_fd, &offset, ends[1], NULL, length - (size_t)offset, SPLICE_F_MOVE);

		if (n <= 0)
			die("splice from the file", n < 0 ? errno : ENODATA);
		fits = drain_pipe(ends[0], socket_fd, (size_t)n);
	}
	close(ends[0]);
	close(ends[1]);
	return fits;
}

static bool by_snapsend(int socket_fd, int file_fd, size_t length)
{
	struct snapsend_request request = {
		.socket_fd = socket_fd,
		.file_fd = file_fd,
		.length = length,
		.timeout_ms = WAIT_MS,
	};
	struct snapsend_completion done;
	int r = snapsend_submit(ctx, &request, sizeof(request), NULL);

	if (r < 0)
		die("snapsend_submit", r);
	do {
		r = snapsend_poll(ctx, &done, 1, 2 * WAIT_MS);
	} while (r == -EINTR);
	if (r <= 0)
		die("snapsend_poll", r < 0 ? r : ETIMEDOUT);
	if (done.status == -ETIMEDOUT)
		return false;
	if (done.status < 0)
		die("snapsend", done.status);
	return true;
}

static const struct method {
	const char *name, *may_change;
	send_function *send;
} methods[] = {
	{ "sendfile", "sendfile returned", by_sendfile },
	{ "splice", "splice returned", by_splice },
	{ "snapsend", "DONE", by_snapsend },
};
#define METHODS (sizeof(methods) / sizeof(methods[0]))

/* Returns the number of bytes that arrived changed, or -1 if the range did not fit into the
 * socket's buffers. */
static long changed_bytes(const struct method *method, int file_fd, size_t length)
{
	int sender, peer;
	long changed = 0;
	bool fits;

	loopback_pair(&sender, &peer, 4 << 20);
	if (fcntl(sender, F_SETFL, O_NONBLOCK) < 0)
		die("fcntl", errno);
	write_at(file_fd, before, length, 0);
	fits = method->send(sender, file_fd, length);
	if (fits)
		write_at(file_fd, after, length, 0);
	close(sender);
	if (fits) {
		if (read_all(peer, arrived, length) != length)
			die(method->name, ENODATA);
		for (size_t i = 0; i < length; i++)
			changed += arrived[i] != before[i];
	}
	close(peer);
	return fits ? changed : -1;
}

/* Runs all methods with one length, the longest that fits.  Returns that length. */
static size_t run_all(int file_fd, long changed[METHODS])
{
	for (size_t length = MOST_BYTES; length >= LEAST_BYTES; length /= 2) {
		size_t m = 0;

		while (m < METHODS && (changed[m] = changed_bytes(&methods[m], file_fd, length)) >= 0)
			m++;
		if (m == METHODS)
			return length;
	}
	fprintf(stderr, "before_after: fewer than %u bytes fit into the socket buffers of a loopback connection\n",
		LEAST_BYTES);
	exit(2);
}

static void print_table(size_t length, const long changed[METHODS])
{
	printf("%zu bytes sent, then overwritten before the peer read them:\n", length);
	printf("  %-10s %-24s %s\n", "sent by", "overwritten after", "bytes that arrived changed");
	for (size_t m = 0; m < METHODS; m++)
		printf("  %-10s %-24s %ld\n", methods[m].name, methods[m].may_change, changed[m]);
}

static void fill_patterns(void)
{
	uint32_t x = 2463534242u;

	for (size_t i = 0; i < MOST_BYTES; i++) {
		x ^= x << 13, x ^= x >> 17, x ^= x << 5;
		before[i] = (unsigned char)x;
		after[i] = (unsigned char)~before[i]; /* every byte differs */
	}
}

/* Some file systems (ZFS, DAX, some settings of 9p, NFS and FUSE) have no page cache to refer to, and
 * copy even for sendfile.  The program then uses a file in memory. */
static int file_in_memory(int scratch)
{
	struct statfs fs;
	int fd = memfd_create("before_after", MFD_CLOEXEC);

	if (fd < 0)
		die("memfd_create", errno);
	if (fstatfs(scratch, &fs) < 0)
		die("fstatfs", errno);
	printf("The file system of $TMPDIR or /tmp (type 0x%lx) copies even for sendfile and splice.\n"
	       "The same with a file in memory:\n",
	       (unsigned long)fs.f_type);
	return fd;
}

int main(void)
{
	int file_fd = scratch_file(), r;
	long changed[METHODS];
	size_t length;

	fill_patterns();
	r = snapsend_create(NULL, 0, &ctx);
	if (r < 0)
		die("snapsend_create", r);
	length = run_all(file_fd, changed);
	print_table(length, changed);
	if (changed[2] == 0 && (changed[0] == 0 || changed[1] == 0)) {
		int memory = file_in_memory(file_fd);

		length = run_all(memory, changed);
		print_table(length, changed);
		close(memory);
	}
	snapsend_destroy(ctx);
	close(file_fd);

	if (changed[2] != 0)
		printf("WRONG: snapsend let %ld bytes change.\n", changed[2]);
	else if (changed[0] == 0 || changed[1] == 0)
		printf("Not shown: this kernel also copies for sendfile or splice.\n");
	else
		return 0;
	return 1;
}
