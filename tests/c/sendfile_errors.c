/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* snapsend_sendfile's failures: result, errno, offset and position as sendfile(2) has them, side by side. */
#include "common.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/timerfd.h>

typedef ssize_t function(int out_fd, int in_fd, off_t *offset, size_t count);

struct outcome {
	ssize_t result;
	int error;
	off_t offset, position;
};

static int sv[2]; /* a fresh connection for each call */
static int file;  /* 1000 bytes */
static char path[PATH_MAX];

static struct outcome call(function *f, int out, int in, bool with_offset, off_t offset, size_t count)
{
	struct outcome o;
	lseek(file, 100, SEEK_SET);
	o.offset = offset;
	errno = 0;
	o.result = f(out, in, with_offset ? &o.offset : NULL, count);
	o.error = o.result < 0 ? errno : 0;
	o.position = lseek(file, 0, SEEK_CUR);
	return o;
}

static void same(const char *what, struct outcome real, struct outcome ours)
{
	printf("%s: %zd %s\n", what, real.result, real.error ? strerror(real.error) : "");
	if (real.result != ours.result || real.error != ours.error)
		fail("%s: sendfile %zd (%s), ours %zd (%s)", what, real.result, strerror(real.error), ours.result,
		     strerror(ours.error));
	if (real.offset != ours.offset || real.position != ours.position)
		fail("%s: sendfile offset %lld position %lld, ours %lld %lld", what, (long long)real.offset,
		     (long long)real.position, (long long)ours.offset, (long long)ours.position);
}

/* out or in -100: this call's connection. */
#define CONNECTION -100
static void both(const char *what, int out, int in, bool with_offset, off_t offset, size_t count)
{
	struct outcome outcomes[2];
	uint64_t arrived[2];
	for (int ours = 0; ours < 2; ours++) {
		unix_pair(sv);
		outcomes[ours] = call(ours ? snapsend_sendfile : sendfile, out == CONNECTION ? sv[0] : out,
				      in == CONNECTION ? sv[0] : in, with_offset, offset, count);
		arrived[ours] = drain(sv[1], 2);
		close(sv[0]);
		close(sv[1]);
	}
	same(what, outcomes[0], outcomes[1]);
	CHECK_UEQ(arrived[1], arrived[0]);
}

static void bad_pointers(void)
{
	long page = sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, (size_t)page * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(pages != MAP_FAILED);
	SYS(munmap(pages + page, (size_t)page));
	off_t *bad[] = { (off_t *)(uintptr_t)8, (off_t *)(uintptr_t)-4096, (off_t *)(void *)(pages + page),
			 (off_t *)(void *)(pages + page - 4) }; /* the last one half in, half out */
	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		for (int ours = 0; ours < 2; ours++) {
			unix_pair(sv);
			errno = 0;
			CHECK_EQ((ours ? snapsend_sendfile : sendfile)(sv[0], file, bad[i], 100), -1);
			CHECK_EQ(errno, EFAULT);
			CHECK_UEQ(drain(sv[1], 2), 0);
			close(sv[0]);
			close(sv[1]);
		}
	}
	/* One that can be read but not written is found out late, or early: EFAULT in either case. */
	SYS(mprotect(pages, (size_t)page, PROT_READ));
	unix_pair(sv);
	CHECK_EQ(snapsend_sendfile(sv[0], file, (off_t *)(void *)pages, 100), -1);
	CHECK_EQ(errno, EFAULT);
	close(sv[0]);
	close(sv[1]);
	/* An odd address is none of the kernel's concern. */
	char room[sizeof(off_t) + 1] = { 0 };
	off_t after;
	unix_pair(sv);
	CHECK_EQ(snapsend_sendfile(sv[0], file, (off_t *)(void *)(room + 1), 100), 100);
	memcpy(&after, room + 1, sizeof after);
	CHECK_EQ(after, 100);
	close(sv[0]);
	close(sv[1]);
}

/* Sockets in a state where nothing can be sent; made anew for each of the two. */
static void bad_socket(const char *what, int kind)
{
	struct outcome outcomes[2][3];
	for (int ours = 0; ours < 2; ours++) {
		int fd = -1, peer[2] = { -1, -1 };
		struct sockaddr_storage address;
		socklen_t length;
		if (kind == 0)
			fd = tcp_listener(AF_INET, 0, &address, &length);
		if (kind == 1)
			fd = socket(AF_INET, SOCK_STREAM, 0);
		if (kind == 2)
			fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if (kind == 3)
			fd = socket(AF_INET, SOCK_DGRAM, 0);
		if (kind >= 4 && kind <= 6)
			tcp_pair(peer), fd = peer[0];
		if (kind == 4)
			SYS(shutdown(fd, SHUT_WR));
		if (kind == 5)
			reset_close(peer[1]);
		if (kind == 6)
			close(peer[1]);
		if (kind == 7)
			SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, peer)), fd = peer[0];
		if (kind == 8)
			unix_pair(peer), fd = peer[0], close(peer[1]);
		for (int i = 0; i < 3; i++) {
			outcomes[ours][i] = call(ours ? snapsend_sendfile : sendfile, fd, file, true, 0, 100);
			sleep_ms(5);
		}
		close(fd);
	}
	for (int i = 0; i < 3; i++)
		same(what, outcomes[0][i], outcomes[1][i]);
}

int main(void)
{
	int pipes[2];
	signal(SIGPIPE, SIG_IGN);
	file = temp_file_path(1000, 1, path);
	SYS(pipe(pipes));
	int closed = closed_fd();
	int write_only = (int)SYS(open(path, O_WRONLY)), read_only = (int)SYS(open(path, O_RDONLY));
	int path_only = (int)SYS(open(path, O_PATH)), directory = (int)SYS(open("/", O_RDONLY));
	char other_path[PATH_MAX];
	int other = temp_file_path(0, 1, other_path);
	int append = (int)SYS(open(other_path, O_WRONLY | O_APPEND));
	int null = (int)SYS(open("/dev/null", O_RDWR)), zero = (int)SYS(open("/dev/zero", O_RDONLY));

	both("out closed", closed, file, true, 0, 100);
	both("out -1", -1, file, true, 0, 100);
	both("in closed", CONNECTION, closed, true, 0, 100);
	both("in -1", CONNECTION, -1, false, 0, 100);
	both("both closed", closed, closed, false, 0, 0);
	both("in write-only", CONNECTION, write_only, true, 0, 100);
	both("in O_PATH", CONNECTION, path_only, true, 0, 100);
	both("out O_PATH", path_only, file, true, 0, 100);
	both("out read-only file", read_only, file, true, 0, 100);
	both("out a pipe's read end", pipes[0], file, true, 0, 100);
	both("out O_APPEND", append, file, true, 0, 100);
	both("out a directory", directory, file, true, 0, 100);
	both("out /dev/null", null, file, true, 0, 100);
	both("out eventfd", (int)SYS(eventfd(0, 0)), file, true, 0, 100);
	both("out epoll", (int)SYS(epoll_create1(0)), file, true, 0, 100);
	both("in a pipe, offset", CONNECTION, pipes[0], true, 0, 100);
	both("in a pipe", CONNECTION, pipes[0], false, 0, 100);
	both("in a socket, offset", CONNECTION, CONNECTION, true, 0, 100);
	both("in a socket", CONNECTION, CONNECTION, false, 0, 100);
	both("in a directory", CONNECTION, directory, true, 0, 100);
	both("in eventfd", CONNECTION, (int)SYS(eventfd(0, 0)), false, 0, 100);
	both("in timerfd", CONNECTION, (int)SYS(timerfd_create(CLOCK_MONOTONIC, 0)), true, 0, 100);
	both("in /dev/null", CONNECTION, null, true, 0, 100);
	both("in /dev/zero", CONNECTION, zero, true, 0, 100);
	both("in /proc", CONNECTION, (int)SYS(open("/proc/version", O_RDONLY)), true, 0, 10);
	both("negative offset", CONNECTION, file, true, -1, 100);
	both("most negative offset", CONNECTION, file, true, INT64_MIN, 100);
	both("largest offset", CONNECTION, file, true, INT64_MAX, 100);
	both("offset near the largest", CONNECTION, file, true, INT64_MAX - 10, 100);
	both("largest count", CONNECTION, file, true, 0, SIZE_MAX);
	both("count beyond ssize_t", CONNECTION, file, true, 0, (size_t)SSIZE_MAX + 1);
	both("count SSIZE_MAX", CONNECTION, file, true, 0, SSIZE_MAX);
	both("count SSIZE_MAX at an offset", CONNECTION, file, true, 500, SSIZE_MAX);
	both("count 0, in closed", CONNECTION, closed, true, 0, 0);
	both("count 0, out closed", closed, file, true, 0, 0);
	both("count 0, in write-only", CONNECTION, write_only, true, 0, 0);
	both("count 0, negative offset", CONNECTION, file, true, -5, 0);
	both("count 0", CONNECTION, file, false, 0, 0);
	both("offset past the end", CONNECTION, file, true, 5000, 100);
	bad_pointers();
	static const char *const kinds[] = {
		"listening", "unconnected",    "unconnected unix", "unconnected datagram", "shut down",
		"reset",     "closed by peer", "datagram",         "unix closed by peer"
	};
	for (int kind = 0; kind < (int)COUNT_OF(kinds); kind++)
		bad_socket(kinds[kind], kind);
	close(other);
	return 0;
}
