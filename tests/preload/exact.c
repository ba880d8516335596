/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * sendfile(2) and splice(2), case by case: prints what the caller sees (result, errno, offset, position, what
 * the other end got). Run with the shim and without it, the output must be the same. Where the kernel's own
 * answer is a matter of buffers and timing, a line says only what it must be (see about()).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SIZE 1000003 /* of the file: odd, and no multiple of a page */
#define BIG  (24 << 20)

static int file, big;
static char path[64];

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static unsigned char byte_at(uint64_t at)
{
	return (unsigned char)(at * 31 + (at >> 8) * 7 + (at >> 16));
}

static int make_file(size_t size, char *name)
{
	strcpy(name, "/tmp/snapsend-exact-XXXXXX");
	int fd = mkstemp(name);
	unsigned char *data = malloc(size);
	for (size_t i = 0; i < size; i++)
		data[i] = byte_at(i);
	if (fd < 0 || data == NULL || write(fd, data, size) != (ssize_t)size)
		die("making a file");
	free(data);
	return fd;
}

static void tcp_pair(int sv[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0);
	if (l < 0 || bind(l, (void *)&a, sizeof a) || listen(l, 1) || getsockname(l, (void *)&a, &length))
		die("listening");
	sv[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(sv[0], (void *)&a, sizeof a))
		die("connecting");
	sv[1] = accept(l, NULL, NULL);
	close(l);
}

enum out { TCP, UNIX, PIPE, DGRAM, SEQPACKET, FILE_OUT, NULL_OUT, OUTS };
static const char *out_names[] = { "tcp", "unix", "pipe", "dgram", "seqpacket", "file", "null" };

/* sv[0] for writing, sv[1] for reading */
static void open_out(enum out out, int sv[2])
{
	sv[0] = sv[1] = -1;
	switch (out) {
	case TCP: tcp_pair(sv); break;
	case UNIX:
	case DGRAM:
	case SEQPACKET:
		if (socketpair(AF_UNIX, out == UNIX ? SOCK_STREAM : out == DGRAM ? SOCK_DGRAM : SOCK_SEQPACKET, 0, sv))
			die("socketpair");
		break;
	case PIPE: {
		int p[2];
		if (pipe(p))
			die("pipe");
		sv[0] = p[1], sv[1] = p[0];
		break;
	}
	case FILE_OUT: {
		char name[64] = "/tmp/snapsend-exact-XXXXXX";
		sv[0] = mkstemp(name);
		sv[1] = open(name, O_RDONLY);
		unlink(name);
		break;
	}
	default: sv[0] = open("/dev/null", O_WRONLY); sv[1] = open("/dev/null", O_RDONLY);
	}
}

static void set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

/* Reads what is there; how much, and whether it is the file from `from` on. */
static size_t drain(int fd, uint64_t from, bool *right)
{
	static unsigned char buffer[1 << 20];
	size_t total = 0;
	*right = true;
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		if (poll(&p, 1, 30) <= 0)
			break;
		ssize_t n = read(fd, buffer, sizeof buffer);
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			if (buffer[i] != byte_at(from + total + (size_t)i))
				*right = false;
		total += (size_t)n;
	}
	return total;
}

static volatile sig_atomic_t pipes, usrs;
static void on_pipe(int s)
{
	(void)s;
	pipes++;
}
static void on_usr(int s)
{
	(void)s;
	usrs++;
}

static void show(const char *what, ssize_t r, int error, off_t offset, off_t position)
{
	printf("%s: %zd %s offset %lld position %lld sigpipe %d\n", what, r, r < 0 ? strerrorname_np(error) : "-",
	       (long long)offset, (long long)position, (int)pipes);
	pipes = 0;
}

/* One call of either kind, everything shown. */
static ssize_t one(const char *what, bool is_splice, int out, int in, off_t *offset, size_t count, unsigned flags)
{
	lseek(in, 100, SEEK_SET);
	errno = 0;
	ssize_t r = is_splice ? splice(in, offset, out, NULL, count, flags) : sendfile(out, in, offset, count);
	int error = errno;
	show(what, r, error, offset != NULL && offset != (off_t *)8 ? *offset : -1, lseek(in, 0, SEEK_CUR));
	return r;
}

static void plain(bool is_splice)
{
	static const struct {
		off_t offset; /* -1000: NULL */
		size_t count;
	} cases[] = {
		{ -1000, 1 },
		{ -1000, 0 },
		{ -1000, 5000 },
		{ 0, 1 },
		{ 0, 0 },
		{ 4095, 2 },
		{ 1, 4096 },
		{ 100, 30000 },
		{ SIZE - 1, 1 },
		{ SIZE - 1, 100 },
		{ SIZE - 5000, 60000 },
		{ SIZE, 10 },
		{ SIZE + 1, 10 },
		{ SIZE + 100000, 0x7ffff000 },
		{ SIZE - 10, 0x7ffff000 },
		{ SIZE - 10, 0x7ffff001 },
		{ SIZE - 10, 0xffffffff },
		{ SIZE - 10, 0x100000000 },
		{ SIZE - 10, SSIZE_MAX },
		{ SIZE - 10, SIZE_MAX },
		{ SIZE - 10, (size_t)SSIZE_MAX + 1 },
		{ -1, 10 },
		{ -1, 0 },
		{ -5000, 4000 },
		{ INT64_MIN, 10 },
		{ INT64_MAX, 1 },
		{ INT64_MAX - 4095, 1 },
		{ INT64_MAX - 5, 1 },
		{ INT64_MAX - 5, 100 },
		{ INT64_MAX, 0 },
		{ 1LL << 42, 100 },
		{ (1LL << 44) - 4096, 100 },
		{ 1LL << 45, 10 },
	};
	for (int out = 0; out < OUTS; out++)
		for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
			for (int nonblock = 0; nonblock < 2; nonblock++) {
				int sv[2];
				char what[128];
				open_out(out, sv);
				if (nonblock)
					set_nonblock(sv[0], true);
				off_t offset = cases[i].offset;
				snprintf(what, sizeof what, "%s %s%s %lld+%zu", is_splice ? "splice" : "sendfile",
					 out_names[out], nonblock ? " nonblocking" : "", (long long)offset,
					 cases[i].count);
				bool null = offset == -1000;
				one(what, is_splice, sv[0], file, null ? NULL : &offset, cases[i].count, 0);
				bool right;
				size_t got = drain(sv[1], null ? 100 : (uint64_t)cases[i].offset, &right);
				printf("  arrived %zu %s\n", got, right ? "right" : "WRONG");
				close(sv[0]);
				close(sv[1]);
			}
}

static void bad_arguments(bool is_splice)
{
	int sv[2], p[2], dir = open("/tmp", O_RDONLY), null = open("/dev/zero", O_RDONLY);
	int write_only = open(path, O_WRONLY), read_only = open(path, O_RDONLY), o_path = open(path, O_PATH);
	int listener = socket(AF_INET, SOCK_STREAM, 0), unconnected = socket(AF_INET, SOCK_STREAM, 0);
	listen(listener, 1);
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(page + 4096, 4096);
	char append_name[64];
	int append = make_file(10, append_name);
	fcntl(append, F_SETFL, O_APPEND);
	unlink(append_name);
	for (int to = 0; to < 3; to++) {
		const enum out kinds[] = { TCP, PIPE, FILE_OUT };
		open_out(kinds[to], sv);
		if (pipe(p))
			die("pipe");
		off_t at = 5;
		printf("%s errors to %s\n", is_splice ? "splice" : "sendfile", out_names[kinds[to]]);
		one("EFAULT low", is_splice, sv[0], file, (off_t *)8, 10, 0);
		for (int i = 0; i < 2; i++) {
			off_t *bad = (off_t *)(page + (i ? 4096 - 4 : 4096));
			lseek(file, 100, SEEK_SET);
			errno = 0;
			ssize_t r = is_splice ? splice(file, bad, sv[0], NULL, 10, 0) : sendfile(sv[0], file, bad, 10);
			show("EFAULT", r, errno, -1, lseek(file, 0, SEEK_CUR));
			errno = 0;
			r = is_splice ? splice(file, bad, sv[0], NULL, 0, 0) : sendfile(sv[0], file, bad, 0);
			show("EFAULT count 0", r, errno, -1, lseek(file, 0, SEEK_CUR));
		}
		one("out -1", is_splice, -1, file, &at, 10, 0);
		one("in -1", is_splice, sv[0], -1, &at, 10, 0);
		one("in closed, bad pointer", is_splice, sv[0], 999, (off_t *)8, 10, 0);
		one("in write-only", is_splice, sv[0], write_only, &at, 10, 0);
		one("in O_PATH", is_splice, sv[0], o_path, &at, 10, 0);
		one("in a directory", is_splice, sv[0], dir, &at, 10, 0);
		one("in a socket", is_splice, sv[0], unconnected, &at, 10, 0);
		one("in a pipe with an offset", is_splice, sv[0], p[0], &at, 10, 0);
		one("in /dev/zero", is_splice, sv[0], null, &at, 10, 0);
		one("out a read-only file", is_splice, read_only, file, &at, 10, 0);
		one("out O_APPEND", is_splice, append, file, &at, 10, 0);
		one("out the pipe's reading end", is_splice, p[0], file, &at, 10, 0);
		one("out a listener", is_splice, listener, file, &at, 10, 0);
		one("out unconnected", is_splice, unconnected, file, &at, 10, 0);
		if (is_splice) {
			one("unknown flag", is_splice, sv[0], file, &at, 10, 0x100);
			one("all flags", is_splice, sv[0], file, &at, 10, 0xf);
			errno = 0;
			off_t other = 0;
			ssize_t r = splice(file, &at, sv[0], &other, 10, 0);
			show("off_out given", r, errno, at, other);
			errno = 0;
			r = splice(file, &at, sv[0], (off_t *)8, 10, 0);
			show("off_out bad", r, errno, at, other);
		}
		bool right;
		printf("arrived %zu\n", drain(sv[1], 5, &right));
		close(sv[0]), close(sv[1]), close(p[0]), close(p[1]);
	}
	close(dir), close(null), close(write_only), close(read_only), close(o_path), close(listener),
		close(unconnected);
	close(append);
	munmap(page, 4096);
}

/* Fills until nothing more goes in. */
static void fill(int fd)
{
	static char block[65536];
	set_nonblock(fd, true);
	for (int size = sizeof block; size > 0; size /= 2)
		for (int i = 0; i < 10000 && write(fd, block, (size_t)size) > 0; i++)
			;
	set_nonblock(fd, false);
}

static void full(void)
{
	for (int out = TCP; out <= PIPE; out++)
		for (int is_splice = 0; is_splice < (out == PIPE ? 2 : 1); is_splice++)
			for (int with = 0; with < 2; with++) {
				int sv[2];
				off_t at = 7;
				open_out(out, sv);
				fill(sv[0]);
				set_nonblock(sv[0], true);
				printf("full %s%s\n", out_names[out], is_splice ? " splice" : "");
				one("EAGAIN", is_splice, sv[0], file, with ? &at : NULL, 5000, 0);
				one("EAGAIN, end of file", is_splice, sv[0], file, (at = SIZE, &at), 5000, 0);
				if (is_splice) {
					set_nonblock(sv[0], false);
					one("EAGAIN, flag", is_splice, sv[0], file, with ? &at : NULL, 5000,
					    SPLICE_F_NONBLOCK);
				}
				at = 0;
				close(sv[1]); /* nobody reads */
				set_nonblock(sv[0], false);
				int error;
				socklen_t length = sizeof error; /* what a reset leaves behind */
				getsockopt(sv[0], SOL_SOCKET, SO_ERROR, &error, &length);
				one("EPIPE", is_splice, sv[0], file, with ? &at : NULL, 5000, 0);
				one("EPIPE again, end of file", is_splice, sv[0], file, (at = SIZE, &at), 5000, 0);
				if (is_splice)
					one("EPIPE, flag", is_splice, sv[0], file, with ? &at : NULL, 5000,
					    SPLICE_F_NONBLOCK);
				close(sv[0]);
			}
}

static void about(const char *what, ssize_t r, off_t offset, off_t start, ssize_t least, ssize_t most)
{
	printf("%s: %s, offset %s\n", what, r >= least && r <= most ? "as it must be" : "WRONG",
	       offset - start == (r > 0 ? r : 0) ? "moved by it" : "WRONG");
	if (r < least || r > most)
		printf("  WRONG: %zd, not %zd to %zd\n", r, least, most);
}

static void pipe_counts(void)
{
	for (int is_splice = 0; is_splice < 2; is_splice++) {
		int sv[2];
		off_t at = 0;
		bool right;
		/* More than fits, on a blocking pipe that nobody else reads: what fits, and it returns. */
		open_out(PIPE, sv);
		one("pipe, more than fits", is_splice, sv[0], file, &at, 500000, 0);
		printf("  arrived %zu\n", drain(sv[1], 0, &right));
		one("pipe, goes on", is_splice, sv[0], file, &at, 500000, 0);
		printf("  arrived %zu %d\n", drain(sv[1], 65536, &right), right);
		fcntl(sv[0], F_SETPIPE_SZ, 1 << 20);
		one("large pipe", is_splice, sv[0], file, (at = 4096, &at), 500000, 0);
		printf("  arrived %zu\n", drain(sv[1], 0, &right));
		fcntl(sv[0], F_SETPIPE_SZ, 4096);
		one("small pipe", is_splice, sv[0], file, (at = 4096, &at), 500000, 0);
		printf("  arrived %zu\n", drain(sv[1], 0, &right));
		close(sv[0]), close(sv[1]);
		char name[64] = "/tmp/snapsend-exact-XXXXXX"; /* a FIFO is a pipe too */
		close(mkstemp(name));
		unlink(name);
		if (mkfifo(name, 0600))
			die("mkfifo");
		sv[1] = open(name, O_RDONLY | O_NONBLOCK);
		sv[0] = open(name, O_WRONLY);
		unlink(name);
		set_nonblock(sv[1], false);
		one("fifo", is_splice, sv[0], file, (at = 0, &at), 500000, 0);
		printf("  arrived %zu\n", drain(sv[1], 0, &right));
		close(sv[0]), close(sv[1]);
	}
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct late {
	pthread_t who;
	int fd, ms;
	size_t take;
};

static void *late_signal(void *argument)
{
	struct late *l = argument;
	usleep((useconds_t)l->ms * 1000);
	pthread_kill(l->who, SIGUSR1);
	return NULL;
}

static void *late_reader(void *argument)
{
	struct late *l = argument;
	static char buffer[1 << 20];
	size_t left = l->take;
	usleep((useconds_t)l->ms * 1000);
	while (left > 0) {
		ssize_t n = read(l->fd, buffer, left < sizeof buffer ? left : sizeof buffer);
		if (n <= 0)
			break;
		left -= (size_t)n;
	}
	return NULL;
}

static void waiting(void)
{
	for (int out = TCP; out <= PIPE; out++)
		for (int is_splice = 0; is_splice < (out == PIPE ? 2 : 1); is_splice++) {
			int sv[2];
			off_t at;
			pthread_t t;
			printf("waiting %s%s\n", out_names[out], is_splice ? " splice" : "");
			if (out != PIPE) { /* SO_SNDTIMEO */
				struct timeval time = { .tv_usec = 150000 };
				open_out(out, sv);
				setsockopt(sv[0], SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
				at = 0;
				ssize_t r = sendfile(sv[0], big, &at, BIG);
				about("timeout, part", r, at, 0, 1, BIG - 1);
				fill(sv[0]);
				double begin = now();
				one("timeout, nothing", false, sv[0], file, (at = 3, &at), 10000, 0);
				double took = now() - begin;
				printf("  %s\n", took > 0.14 && took < 3 ? "after the time" : "WRONG time");
				close(sv[0]), close(sv[1]);
			}
			for (int restart = 0; restart < 2; restart++) {
				struct sigaction sa = { .sa_handler = on_usr, .sa_flags = restart ? SA_RESTART : 0 };
				sigaction(SIGUSR1, &sa, NULL);
				open_out(out, sv);
				fill(sv[0]);
				struct late signal = { .who = pthread_self(), .ms = 80 };
				struct late reader = { .fd = sv[1], .ms = 250, .take = BIG };
				pthread_create(&t, NULL, late_signal, &signal);
				pthread_t u;
				if (restart)
					pthread_create(&u, NULL, late_reader, &reader);
				usrs = 0;
				one(restart ? "restarted" : "interrupted", is_splice, sv[0], file, (at = 3, &at), 1000,
				    0);
				printf("  handled %d\n", (int)usrs);
				pthread_join(t, NULL);
				close(sv[0]);
				if (restart)
					pthread_join(u, NULL);
				close(sv[1]);
			}
			/* With a reader that takes all, a blocking socket takes all. */
			if (out != PIPE) {
				open_out(out, sv);
				struct late reader = { .fd = sv[1], .ms = 50, .take = BIG };
				pthread_create(&t, NULL, late_reader, &reader);
				one("blocking, all", false, sv[0], big, (at = 0, &at), BIG + 100, 0);
				pthread_join(t, NULL);
				close(sv[0]), close(sv[1]);
				open_out(out, sv); /* not blocking: what fits */
				set_nonblock(sv[0], true);
				at = 11;
				ssize_t r = sendfile(sv[0], big, &at, BIG - 11);
				about("nonblocking, part", r, at, 11, 1000, BIG - 12);
				bool right;
				size_t got = drain(sv[1], 11, &right);
				printf("  arrived %s %s\n", got == (size_t)r ? "all" : "WRONG",
				       right ? "right" : "WRONG");
				r = sendfile(sv[0], big, &at, BIG - 11);
				printf("  goes on: %s\n", r > 0 ? "yes" : "WRONG");
				close(sv[0]), close(sv[1]);
				/* Interrupted part-way. */
				struct sigaction sa = { .sa_handler = on_usr };
				sigaction(SIGUSR1, &sa, NULL);
				open_out(out, sv);
				struct late signal = { .who = pthread_self(), .ms = 150 };
				pthread_create(&t, NULL, late_signal, &signal);
				at = 0;
				r = sendfile(sv[0], big, &at, BIG);
				about("interrupted, part", r, at, 0, 1, BIG - 1);
				pthread_join(t, NULL);
				close(sv[0]), close(sv[1]);
			}
		}
}

/* How many packets, how many of them not full, for a header with MSG_MORE or under a cork and a body. */
static void packets(void)
{
	for (int cork = 0; cork < 2; cork++)
		for (int beyond = 0; beyond < 2; beyond++) {
			int sv[2], on = 1, off = 0;
			char header[300] = "";
			struct tcp_info before, info;
			socklen_t length = sizeof info;
			tcp_pair(sv);
			setsockopt(sv[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
			if (cork)
				setsockopt(sv[0], IPPROTO_TCP, TCP_CORK, &on, sizeof on);
			getsockopt(sv[0], IPPROTO_TCP, TCP_INFO, &before, &length);
			send(sv[0], header, sizeof header, cork ? 0 : MSG_MORE);
			off_t at = SIZE - 20000;
			ssize_t r = sendfile(sv[0], file, &at, beyond ? 30000 : 20000);
			length = sizeof info;
			getsockopt(sv[0], IPPROTO_TCP, TCP_INFO, &info, &length);
			bool right;
			char head[300];
			size_t held = 0;
			int value = -1;
			length = sizeof value;
			getsockopt(sv[0], IPPROTO_TCP, TCP_CORK, &value, &length);
			printf("%s, %s the end: %zd, cork %d, ", cork ? "cork" : "MSG_MORE",
			       beyond ? "beyond" : "up to", r, value);
			recv(sv[1], head, sizeof head, MSG_WAITALL);
			held = drain(sv[1], SIZE - 20000, &right);
			printf("at once %s, segments %u\n",
			       held == 20000 ? "all"
			       : cork        ? "not all"
					     : "WRONG",
			       info.tcpi_data_segs_out - before.tcpi_data_segs_out);
			setsockopt(sv[0], IPPROTO_TCP, TCP_CORK, &off, sizeof off);
			close(sv[0]), close(sv[1]);
		}
}

int main(void)
{
	struct sigaction sa = { .sa_handler = on_pipe };
	char big_name[64];
	alarm(100);
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGPIPE, &sa, NULL);
	file = make_file(SIZE, path);
	big = make_file(BIG, big_name);
	plain(false);
	plain(true);
	bad_arguments(false);
	bad_arguments(true);
	full();
	pipe_counts();
	waiting();
	packets();
	unlink(path);
	unlink(big_name);
	return 0;
}
