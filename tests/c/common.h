/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the C tests share. Each test is a program of its own: exit 0 passed, 77 skipped, anything else
 * failed. There is a time limit from the start (60 s, see time_limit()), and SIGPIPE keeps its default
 * action, so that a library that raises it kills the test.
 *
 *   checks     CHECK  CHECK_EQ _NE _LT _LE _GT _GE (signed)  CHECK_UEQ _UNE _ULE _UGE (unsigned)
 *              CHECK_STR  CHECK_ERR(call, EAGAIN): call == -EAGAIN  SYS(call): libc call that may not fail
 *              fail(fmt, ...)  skip(reason)  time_limit(seconds)
 *   files      temp_file  temp_file_path  temp_path_remove_at_exit  pattern_byte  pattern_fill  pattern_bad
 *   sockets    tcp_pair  tcp6_pair  unix_pair (sv[0] sends, sv[1] reads)  pair_sized  tcp_listener
 *              set_nonblock  fill_socket  reset_close  read_all  drain
 *   reader     struct reader, reader_start* reader_join, or reader_init, change fields, reader_go
 *   library    create_ctx  create_ctx_with  destroy_ctx  stats_of  make_request  submit_ok  rejected
 *              wait_event  wait_done  wait_done_ms  expect_nothing  engine_name
 *   process    closed_fd  count_fds  count_threads  wait_threads  count_mappings  status_kib  rss_kib  now_ms  sleep_ms  slowness
 *              start_without_caches
 */
#ifndef SNAPSEND_TESTS_COMMON_H
#define SNAPSEND_TESTS_COMMON_H

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <snapsend.h>

#define KIB             (1024ULL)
#define MIB             (1024ULL * 1024)
#define GIB             (1024ULL * 1024 * 1024)
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* How long a helper waits for what must come. Far more than any healthy run needs. */
#define WAIT_FAST_MS 20000 /* where the processor is not emulated */
#define WAIT_MS      (WAIT_FAST_MS * slowness())

/* ---- failing, skipping, time limit ------------------------------------------------------ */

#define TEMP_PATHS_MAX 64
static char test_temp_paths[TEMP_PATHS_MAX][PATH_MAX];
static atomic_int test_temp_count;
static pid_t test_pid;
static const char *volatile test_doing = "";

static inline void test_remove_temp(void)
{
	if (getpid() != test_pid) /* a forked child must not remove its parent's files */
		return;
	int n = atomic_load(&test_temp_count);
	for (int i = 0; i < n && i < TEMP_PATHS_MAX; i++)
		unlink(test_temp_paths[i]);
}

/* _exit, not exit: a check may fail on any thread, while others still use the library. */
static inline _Noreturn void test_leave(int code)
{
	fflush(NULL);
	test_remove_temp();
	_exit(code);
}

static inline void test_alarm(int sig)
{
	static const char text[] = "FAIL: time limit of the test, while: ";
	(void)sig;
	ssize_t n = write(2, text, sizeof text - 1);
	n = write(2, test_doing, strlen(test_doing));
	n = write(2, "\n", 1);
	(void)n;
	_exit(124);
}

/* TEST_SLOWNESS in the environment: so many times longer may everything take, where the processor is emulated. */
static inline int slowness(void)
{
	const char *times = getenv("TEST_SLOWNESS");
	return times != NULL && atoi(times) > 0 ? atoi(times) : 1;
}

static inline void time_limit(unsigned seconds)
{
	struct sigaction sa;
	memset(&sa, 0, sizeof sa);
	sa.sa_handler = test_alarm;
	sigaction(SIGALRM, &sa, NULL);
	alarm(seconds * (unsigned)slowness());
}

__attribute__((constructor)) static inline void test_begin(void)
{
	test_pid = getpid();
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_DFL); /* a runner that ignores it would hide what we look for */
	atexit(test_remove_temp);
	time_limit(60);
}

/* Says in the message of the time limit where the test was. */
static inline void doing(const char *what)
{
	test_doing = what;
}

__attribute__((format(printf, 3, 4))) static inline _Noreturn void test_fail_at(const char *file, int line,
										const char *format, ...)
{
	va_list args;
	char text[1024];
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	fprintf(stderr, "%s:%d: FAIL: %s%s%s%s\n", file, line, text, *test_doing ? " [" : "", test_doing,
		*test_doing ? "]" : "");
	test_leave(1);
}
#define fail(...) test_fail_at(__FILE__, __LINE__, __VA_ARGS__)

static inline _Noreturn void skip(const char *reason)
{
	printf("SKIP: %s\n", reason);
	test_leave(77);
}

/* For a test with a thread that cannot be stopped, or with children that leave what is their parent's alone: no
 * search for leaks. */
#ifdef __SANITIZE_ADDRESS__
#define NO_LEAK_CHECK                             \
	const char *__asan_default_options(void); \
	const char *__asan_default_options(void)  \
	{                                         \
		return "detect_leaks=0";          \
	}
#else
#define NO_LEAK_CHECK
#endif

/* ---- checks ------------------------------------------------------------------------------- */

#define CHECK(cond)                        \
	do {                               \
		if (!(cond))               \
			fail("%s", #cond); \
	} while (0)

#define TEST_SIGNED(a, op, b)                                                        \
	do {                                                                         \
		long long check_a = (long long)(a), check_b = (long long)(b);        \
		if (!(check_a op check_b))                                           \
			fail("%s %s %s: %lld, %lld", #a, #op, #b, check_a, check_b); \
	} while (0)
#define TEST_UNSIGNED(a, op, b)                                                                                \
	do {                                                                                                   \
		unsigned long long check_a = (unsigned long long)(a), check_b = (unsigned long long)(b);       \
		if (!(check_a op check_b))                                                                     \
			fail("%s %s %s: %llu (0x%llx), %llu (0x%llx)", #a, #op, #b, check_a, check_a, check_b, \
			     check_b);                                                                         \
	} while (0)

#define CHECK_EQ(a, b)  TEST_SIGNED(a, ==, b)
#define CHECK_NE(a, b)  TEST_SIGNED(a, !=, b)
#define CHECK_LT(a, b)  TEST_SIGNED(a, <, b)
#define CHECK_LE(a, b)  TEST_SIGNED(a, <=, b)
#define CHECK_GT(a, b)  TEST_SIGNED(a, >, b)
#define CHECK_GE(a, b)  TEST_SIGNED(a, >=, b)
#define CHECK_UEQ(a, b) TEST_UNSIGNED(a, ==, b)
#define CHECK_UNE(a, b) TEST_UNSIGNED(a, !=, b)
#define CHECK_ULE(a, b) TEST_UNSIGNED(a, <=, b)
#define CHECK_UGE(a, b) TEST_UNSIGNED(a, >=, b)

#define CHECK_STR(a, b)                                                                        \
	do {                                                                                   \
		const char *check_a = (a), *check_b = (b);                                     \
		if (check_a == NULL || check_b == NULL || strcmp(check_a, check_b) != 0)       \
			fail("%s == %s: \"%s\", \"%s\"", #a, #b, check_a ? check_a : "(null)", \
			     check_b ? check_b : "(null)");                                    \
	} while (0)

/* A call that must return -errno: CHECK_ERR(snapsend_poll(...), EINVAL). */
#define CHECK_ERR(call, error)                                                            \
	do {                                                                              \
		long long check_a = (long long)(call);                                    \
		if (check_a != -(long long)(error))                                       \
			fail("%s: %lld (%s), expected -%s", #call, check_a,               \
			     check_a < 0 ? strerror((int)-check_a) : "no error", #error); \
	} while (0)

/* A libc call of the test's own that may not fail; gives its value. */
static inline long test_sys(long value, const char *call, const char *file, int line)
{
	if (value < 0)
		test_fail_at(file, line, "%s: %s", call, strerror(errno));
	return value;
}
#define SYS(call) test_sys((long)(call), #call, __FILE__, __LINE__)

/* A pthread call that may not fail. */
#define PTHREAD(call)                                                 \
	do {                                                          \
		int check_error = (call);                             \
		if (check_error != 0)                                 \
			fail("%s: %s", #call, strerror(check_error)); \
	} while (0)

/* ---- time and the process ------------------------------------------------------------------ */

static inline int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline void sleep_ms(int64_t ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000 };
	while (nanosleep(&t, &t) != 0 && errno == EINTR)
		;
}

static inline int test_count_entries(const char *path, int less)
{
	DIR *dir = opendir(path);
	if (dir == NULL)
		fail("opendir %s: %s", path, strerror(errno));
	int n = 0;
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n - less;
}

/* The number of a descriptor that is closed, and that no later open() will take. */
static inline int closed_fd(void)
{
	int fd = fcntl(0, F_DUPFD_CLOEXEC, 900);
	if (fd < 0)
		fail("fcntl F_DUPFD: %s", strerror(errno));
	close(fd);
	return fd;
}

/* Open descriptors of this process (without the one that looks). */
static inline int count_fds(void)
{
	return test_count_entries("/proc/self/fd", 3);
}

static inline int count_threads(void)
{
	return test_count_entries("/proc/self/task", 2);
}

/* Adds up a number from a file in /proc of each thread of that name; false: one has no such file. */
static inline bool sum_of_threads(const char *thread, const char *file, const char *format, uint64_t *sum)
{
	char path[300], name[32];
	bool all = true;
	DIR *tasks = opendir("/proc/self/task");
	CHECK(tasks != NULL);
	*sum = 0;
	for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
		uint64_t number;
		snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
		FILE *comm = fopen(path, "re");
		bool is_wanted = comm != NULL && fscanf(comm, "%31s", name) == 1 && strcmp(name, thread) == 0;
		if (comm != NULL)
			fclose(comm);
		if (!is_wanted)
			continue;
		snprintf(path, sizeof path, "/proc/self/task/%s/%s", task->d_name, file);
		FILE *counts = fopen(path, "re");
		all = all && counts != NULL;
		if (counts == NULL)
			continue;
		CHECK_EQ(fscanf(counts, format, &number), 1);
		fclose(counts);
		*sum += number;
	}
	closedir(tasks);
	return all;
}

/* A joined thread can stand in /proc for a moment longer. Gives the count it ended with. */
static inline int wait_threads(int at_most, int ms)
{
	int64_t end = now_ms() + ms;
	int n;
	while ((n = count_threads()) > at_most && now_ms() < end)
		sleep_ms(2);
	return n;
}

/* Lines of /proc/self/maps that hold the text (NULL: all). */
static inline int count_mappings(const char *holding)
{
	char line[PATH_MAX + 200];
	FILE *maps = fopen("/proc/self/maps", "re");
	if (maps == NULL)
		fail("/proc/self/maps: %s", strerror(errno));
	int n = 0;
	while (fgets(line, sizeof line, maps) != NULL)
		n += holding == NULL || strstr(line, holding) != NULL;
	fclose(maps);
	return n;
}

/* A size that /proc/self/status tells, in KiB. */
static inline long status_kib(const char *name)
{
	char line[256];
	long kib = -1;
	size_t n = strlen(name);
	FILE *status = fopen("/proc/self/status", "re");
	if (status == NULL)
		fail("/proc/self/status: %s", strerror(errno));
	while (kib < 0 && fgets(line, sizeof line, status) != NULL)
		if (strncmp(line, name, n) == 0)
			sscanf(line + n, ": %ld", &kib);
	fclose(status);
	CHECK_GE(kib, 0);
	return kib;
}

/* Resident memory that belongs to this process alone, file pages not counted. */
static inline long rss_kib(void)
{
	return status_kib("RssAnon");
}

/* What is allocated, in KiB.  It is exact, where RssAnon has what the C library keeps, stacks and page tables' slack. */
static inline long allocated_kib(void)
{
	struct mallinfo2 info = mallinfo2();
	return (long)((info.uordblks + info.hblkhd) / KIB);
}

/* Starts the program again with a C library that keeps no stacks and no memory for later threads: what it keeps is more
 * the more threads there were at a time, and would hide what is lost. It reads this only when a program starts. */
static inline void start_without_caches(char **argv)
{
	static const char wanted[] = "glibc.pthread.stack_cache_size=0:glibc.malloc.arena_max=1";
	const char *tunables = getenv("GLIBC_TUNABLES");
	if (tunables != NULL && strcmp(tunables, wanted) == 0)
		return;
	SYS(setenv("GLIBC_TUNABLES", wanted, 1));
	SYS(execv("/proc/self/exe", argv));
}

/* ---- files with a known pattern ---------------------------------------------------------------- */

static inline uint64_t pattern_word(uint64_t index, uint64_t seed)
{
	uint64_t x = (index + 1) * 0x9e3779b97f4a7c15ULL ^ (seed * 0xd1b54a32d192ed03ULL + 0x632be59bd9b4e019ULL);
	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ULL;
	return x ^ x >> 32;
}

static inline unsigned char pattern_byte(uint64_t offset, uint64_t seed)
{
	return (unsigned char)(pattern_word(offset / 8, seed) >> (8 * (offset % 8)));
}

/* Bytes offset.. of the pattern into memory. */
static inline void pattern_fill(void *to, uint64_t offset, size_t length, uint64_t seed)
{
	unsigned char *out = to;
	while (length > 0) {
		uint64_t word = pattern_word(offset / 8, seed) >> (8 * (offset % 8));
		size_t n = 8 - offset % 8;
		for (size_t i = 0; i < n && i < length; i++)
			out[i] = (unsigned char)(word >> (8 * i));
		n = n < length ? n : length;
		out += n, offset += n, length -= n;
	}
}

/* Index of the first byte that differs from the pattern, SIZE_MAX when none does. */
static inline size_t pattern_bad(const void *data, uint64_t offset, size_t length, uint64_t seed)
{
	const unsigned char *in = data;
	unsigned char want[4096];
	for (size_t at = 0; at < length;) {
		size_t n = length - at < sizeof want ? length - at : sizeof want;
		pattern_fill(want, offset + at, n, seed);
		if (memcmp(in + at, want, n) != 0)
			for (size_t i = 0; i < n; i++)
				if (in[at + i] != want[i])
					return at + i;
		at += n;
	}
	return SIZE_MAX;
}

/* Writes length bytes of the pattern at offset of a file. */
static inline void pattern_write(int fd, uint64_t offset, uint64_t length, uint64_t seed)
{
	unsigned char block[65536];
	while (length > 0) {
		size_t n = length < sizeof block ? (size_t)length : sizeof block;
		pattern_fill(block, offset, n, seed);
		ssize_t done = pwrite(fd, block, n, (off_t)offset);
		if (done <= 0)
			fail("writing a test file: %s", done < 0 ? strerror(errno) : "0 bytes");
		offset += (uint64_t)done, length -= (uint64_t)done;
	}
}

static inline void temp_path_remove_at_exit(const char *path)
{
	int i = atomic_fetch_add(&test_temp_count, 1);
	if (i >= TEMP_PATHS_MAX)
		fail("too many temporary files");
	snprintf(test_temp_paths[i], sizeof test_temp_paths[i], "%s", path);
}

/* A new file in $TMPDIR or /tmp; path has PATH_MAX bytes. */
static inline int test_temp_open(char *path)
{
	const char *dir = getenv("TMPDIR");
	snprintf(path, PATH_MAX, "%s/snapsend-test-XXXXXX", dir != NULL && *dir ? dir : "/tmp");
	int fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		fail("mkostemp %s: %s", path, strerror(errno));
	return fd;
}

/* One holding the pattern, open for reading and writing. Removed when the test ends. */
static inline int temp_file_path(uint64_t length, uint64_t seed, char *path)
{
	int fd = test_temp_open(path);
	temp_path_remove_at_exit(path);
	pattern_write(fd, 0, length, seed);
	return fd;
}

/* The same without a name. */
static inline int temp_file(uint64_t length, uint64_t seed)
{
	char path[PATH_MAX];
	int fd = test_temp_open(path);
	unlink(path);
	pattern_write(fd, 0, length, seed);
	return fd;
}

/* ---- sockets: sv[0] is for sending, sv[1] the peer that reads -------------------------------------- */

/* A listening TCP socket on the loopback address of the family; its port by *port. -1 when the family
 * does not exist here. */
static inline int tcp_listener(int family, int rcvbuf, struct sockaddr_storage *address, socklen_t *length)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	memset(address, 0, sizeof *address);
	if (family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
		in6->sin6_family = AF_INET6;
		in6->sin6_addr = in6addr_loopback;
		*length = sizeof *in6;
	} else {
		struct sockaddr_in *in = (struct sockaddr_in *)address;
		in->sin_family = AF_INET;
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		*length = sizeof *in;
	}
	if (rcvbuf > 0) /* inherited by what is accepted, and before the window is told to the peer */
		SYS(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf));
	if (bind(fd, (struct sockaddr *)address, *length) != 0) {
		close(fd);
		return -1;
	}
	SYS(listen(fd, 16));
	SYS(getsockname(fd, (struct sockaddr *)address, length));
	return fd;
}

/* family AF_INET, AF_INET6 or AF_UNIX; buffer sizes 0: the system's. False: no such family here. */
static inline bool pair_sized(int family, int sv[2], int sndbuf, int rcvbuf)
{
	if (family == AF_UNIX) {
		SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv));
	} else {
		struct sockaddr_storage address;
		socklen_t length;
		int listener = tcp_listener(family, rcvbuf, &address, &length);
		if (listener < 0)
			return false;
		sv[0] = (int)SYS(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
		SYS(connect(sv[0], (struct sockaddr *)&address, length));
		sv[1] = (int)SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
		close(listener);
	}
	if (sndbuf > 0)
		SYS(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf));
	return true;
}

static inline void tcp_pair(int sv[2])
{
	if (!pair_sized(AF_INET, sv, 0, 0))
		fail("no IPv4 loopback");
}

/* False: no IPv6 loopback here. */
static inline bool tcp6_pair(int sv[2])
{
	return pair_sized(AF_INET6, sv, 0, 0);
}

static inline void unix_pair(int sv[2])
{
	(void)pair_sized(AF_UNIX, sv, 0, 0);
}

static inline void set_nonblock(int fd)
{
	int flags = (int)SYS(fcntl(fd, F_GETFL));
	SYS(fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

/* Puts zeros into a socket until neither end takes more; how many. Later sends must wait: for certain on
 * AF_UNIX and on TCP from pair_sized() with both sizes given; where the system tunes the sizes itself, it may
 * make room for some more later. */
static inline uint64_t fill_socket(int fd)
{
	static const unsigned char zeros[65536];
	uint64_t total = 0;
	int domain = AF_UNIX, quiet = 0;
	socklen_t length = sizeof domain;
	SYS(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length));
	/* TCP keeps what is less than a segment back from a window that is nearly closed, until its probe timer
     * fires, 200 ms later and then at twice the time; only that makes room for the last time. */
	int wait_ms = domain == AF_UNIX ? 10 : 300, quiet_rounds = domain == AF_UNIX ? 1 : 2;
	while (quiet < quiet_rounds) {
		uint64_t before = total;
		for (size_t step = sizeof zeros; step > 0;) {
			ssize_t n = send(fd, zeros, step, MSG_DONTWAIT | MSG_NOSIGNAL);
			if (n > 0)
				total += (uint64_t)n;
			else if (errno == EAGAIN)
				step /= 8;
			else
				fail("filling a socket: %s", strerror(errno));
		}
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		int ready = (int)SYS(poll(&p, 1, wait_ms));
		quiet = ready == 0 && total == before ? quiet + 1 : 0;
	}
	return total;
}

/* Closes with a reset instead of an orderly end. */
static inline void reset_close(int fd)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
	close(fd);
}

/* Exactly length bytes from a socket or pipe; fewer only at end of file. */
static inline size_t read_all(int fd, void *to, size_t length)
{
	size_t got = 0;
	while (got < length) {
		ssize_t n = read(fd, (char *)to + got, length - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			fail("read: %s", strerror(errno));
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return got;
}

/* Throws away what a socket holds now, without waiting longer than ms for more; how much. */
static inline uint64_t drain(int fd, int ms)
{
	static _Thread_local unsigned char junk[65536];
	uint64_t total = 0;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	while (poll(&p, 1, ms) > 0) {
		ssize_t n = recv(fd, junk, sizeof junk, MSG_DONTWAIT);
		if (n <= 0)
			break;
		total += (uint64_t)n;
	}
	return total;
}

/* ---- a thread that reads ------------------------------------------------------------------------------ */

struct reader {
	int fd;
	uint64_t want;         /* stops after that many bytes; UINT64_MAX: at end of file */
	bool keep;             /* all bytes into data (grows) */
	bool check;            /* compare with the pattern on the fly */
	uint64_t skip;         /* so many bytes come before the pattern */
	uint64_t offset, seed; /* of the pattern's first byte */
	size_t step;           /* most bytes taken at once */
	int pause_us;          /* sleep between reads: a slow reader */

	unsigned char *data;
	size_t capacity;
	_Atomic uint64_t got;
	uint64_t bad_at; /* stream position of the first wrong byte, UINT64_MAX: none */
	bool eof;
	int error;        /* errno of a read that failed */
	int64_t ended_at; /* now_ms() when it had read its last byte, or the end */
	pthread_t thread;
};

static inline void *reader_main(void *argument)
{
	struct reader *r = argument;
	uint64_t got = 0;
	unsigned char *block = malloc(r->step);
	CHECK(block != NULL);
	while (got < r->want) {
		size_t n = r->want - got < r->step ? (size_t)(r->want - got) : r->step;
		ssize_t took = read(r->fd, block, n);
		if (took < 0 && errno == EINTR)
			continue;
		if (took <= 0) {
			r->eof = took == 0;
			r->error = took < 0 ? errno : 0;
			break;
		}
		n = (size_t)took;
		if (r->keep) {
			if (got + n > r->capacity) {
				r->capacity = (size_t)(got + n) * 2;
				r->data = realloc(r->data, r->capacity);
				CHECK(r->data != NULL);
			}
			memcpy(r->data + got, block, n);
		}
		if (r->check && r->bad_at == UINT64_MAX && got + n > r->skip) {
			size_t first = got < r->skip ? (size_t)(r->skip - got) : 0;
			size_t bad =
				pattern_bad(block + first, r->offset + (got + first - r->skip), n - first, r->seed);
			if (bad != SIZE_MAX)
				r->bad_at = got + first + bad;
		}
		got += n;
		atomic_store(&r->got, got);
		if (r->pause_us > 0)
			usleep((useconds_t)r->pause_us);
	}
	r->ended_at = now_ms();
	free(block);
	return NULL;
}

static inline void reader_init(struct reader *r, int fd, uint64_t want)
{
	memset(r, 0, sizeof *r);
	r->fd = fd;
	r->want = want;
	r->step = 256 * 1024;
	r->bad_at = UINT64_MAX;
}

static inline void reader_go(struct reader *r)
{
	PTHREAD(pthread_create(&r->thread, NULL, reader_main, r));
}

/* Reads into r->data. */
static inline void reader_start_keep(struct reader *r, int fd, uint64_t want)
{
	reader_init(r, fd, want);
	r->keep = true;
	reader_go(r);
}

/* Compares with bytes offset.. of the pattern. */
static inline void reader_start_check(struct reader *r, int fd, uint64_t want, uint64_t offset, uint64_t seed)
{
	reader_init(r, fd, want);
	r->check = true;
	r->offset = offset;
	r->seed = seed;
	reader_go(r);
}

/* Waits for its end, and fails when bytes are missing (want not UINT64_MAX) or wrong; how many came. */
static inline uint64_t reader_join(struct reader *r)
{
	PTHREAD(pthread_join(r->thread, NULL));
	uint64_t got = atomic_load(&r->got);
	if (r->want != UINT64_MAX && got != r->want)
		fail("reader got %" PRIu64 " of %" PRIu64 " bytes%s%s", got, r->want, r->eof ? ", end of file" : "",
		     r->error ? strerror(r->error) : "");
	if (r->bad_at != UINT64_MAX)
		fail("reader: byte %" PRIu64 " of the stream is wrong", r->bad_at);
	return got;
}

static inline void reader_free(struct reader *r)
{
	free(r->data);
	r->data = NULL;
}

/* ---- the library ------------------------------------------------------------------------------------------ */

/* What the runner asked for: "uring", "portable", or "auto". */
static inline const char *engine_name(void)
{
	const char *name = getenv("SNAPSEND_ENGINE");
	return name != NULL && *name ? name : "auto";
}

static inline snapsend_t *test_create(uint32_t max_ops, uint64_t pool_bytes, uint64_t chunk_bytes, const char *file,
				      int line)
{
	struct snapsend_options options;
	snapsend_t *ctx = NULL;
	memset(&options, 0, sizeof options);
	options.max_ops = max_ops;
	options.pool_bytes = pool_bytes;
	options.chunk_bytes = chunk_bytes;
	int result = snapsend_create(&options, sizeof options, &ctx);
	if (result != 0 || ctx == NULL)
		test_fail_at(file, line, "snapsend_create (engine %s): %d (%s)", engine_name(), result,
			     result < 0    ? strerror(-result)
			     : ctx == NULL ? "no context"
					   : "not 0");
	return ctx;
}
/* 0 for the library's default. */
#define create_ctx_with(max_ops, pool_bytes, chunk_bytes) \
	test_create(max_ops, pool_bytes, chunk_bytes, __FILE__, __LINE__)
#define create_ctx()     test_create(0, 0, 0, __FILE__, __LINE__)
#define destroy_ctx(ctx) CHECK_EQ(snapsend_destroy(ctx), 0)

static inline struct snapsend_stats stats_of(snapsend_t *ctx)
{
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	return stats;
}

static inline struct snapsend_request make_request(int socket_fd, int file_fd, uint64_t offset, uint64_t length)
{
	struct snapsend_request request;
	memset(&request, 0, sizeof request);
	request.socket_fd = socket_fd;
	request.file_fd = file_fd;
	request.offset = offset;
	request.length = length;
	return request;
}

/* Submits what must be accepted; its id. */
static inline uint64_t test_submit(snapsend_t *ctx, const struct snapsend_request *request, const char *file, int line)
{
	uint64_t id = 0;
	int result = snapsend_submit(ctx, request, sizeof *request, &id);
	if (result != 0)
		test_fail_at(file, line, "snapsend_submit: %d (%s)", result, result < 0 ? strerror(-result) : "not 0");
	if (id == 0)
		test_fail_at(file, line, "snapsend_submit: id 0");
	return id;
}
#define submit_ok(ctx, request) test_submit(ctx, request, __FILE__, __LINE__)

/* A request that every way of handing it in must refuse, with one and the same error: its errno. */
static inline int test_rejected(snapsend_t *ctx, const struct snapsend_request *request, const char *file, int line)
{
	struct snapsend_completion completion;
	int results[4];
	results[0] = snapsend_submit(ctx, request, sizeof *request, NULL);
	results[1] = snapsend_submit_many(ctx, request, sizeof *request, 1, NULL);
	results[2] = snapsend_try_send(ctx, request, sizeof *request, &completion);
	results[3] = results[2] < 0 ? snapsend_send(ctx, request, sizeof *request, &completion) : 0;
	for (int i = 0; i < 4; i++)
		if (results[i] >= 0 || results[i] != results[0])
			test_fail_at(file, line, "not refused alike: submit %d, submit_many %d, try_send %d, send %d",
				     results[0], results[1], results[2], results[3]);
	return -results[0];
}
#define rejected(ctx, request) test_rejected(ctx, request, __FILE__, __LINE__)

/* Whether the kernel has statmount(2) (Linux 6.8): the type of a file system is known at once. */
static inline bool has_statmount(void)
{
	return syscall(457, NULL, NULL, 0, 0) == 0 || errno != ENOSYS;
}

/* Completions that somebody polled while waiting for another one. */
static struct snapsend_completion test_stash[16384];
static snapsend_t *test_stash_ctx[16384];
static size_t test_stash_count;
static pthread_mutex_t test_stash_lock = PTHREAD_MUTEX_INITIALIZER;

static inline bool test_stash_take(snapsend_t *ctx, uint64_t id, uint32_t event, struct snapsend_completion *out)
{
	bool found = false;
	pthread_mutex_lock(&test_stash_lock);
	for (size_t i = 0; i < test_stash_count && !found; i++) {
		if (test_stash_ctx[i] != ctx || test_stash[i].id != id || test_stash[i].event != event)
			continue;
		*out = test_stash[i];
		test_stash_count--; /* keep the order of arrival */
		memmove(&test_stash[i], &test_stash[i + 1], (test_stash_count - i) * sizeof test_stash[0]);
		memmove(&test_stash_ctx[i], &test_stash_ctx[i + 1], (test_stash_count - i) * sizeof test_stash_ctx[0]);
		found = true;
	}
	pthread_mutex_unlock(&test_stash_lock);
	return found;
}

static inline void test_stash_put(snapsend_t *ctx, const struct snapsend_completion *completion)
{
	pthread_mutex_lock(&test_stash_lock);
	if (test_stash_count == COUNT_OF(test_stash))
		fail("too many completions put aside");
	test_stash_ctx[test_stash_count] = ctx;
	test_stash[test_stash_count++] = *completion;
	pthread_mutex_unlock(&test_stash_lock);
}

/* Waits for that event of that operation; false when it has not come within ms. Completions of others
 * are put aside for later calls. */
static inline bool wait_event(snapsend_t *ctx, uint64_t id, uint32_t event, struct snapsend_completion *out, int ms)
{
	int64_t end = now_ms() + ms;
	struct snapsend_completion one;
	for (;;) {
		if (test_stash_take(ctx, id, event, out))
			return true;
		int64_t left = end - now_ms();
		if (left < 0)
			return false;
		left = left > 100 ? 100 : left; /* another thread may have put ours aside */
		int n = snapsend_poll(ctx, &one, 1, (int)left);
		if (n < 0 && n != -EINTR)
			fail("snapsend_poll: %d (%s)", n, strerror(-n));
		if (n > 1)
			fail("snapsend_poll: %d with max 1", n);
		if (n == 1 && one.id == id && one.event == event) {
			*out = one;
			return true;
		}
		if (n == 1)
			test_stash_put(ctx, &one);
	}
}

static inline void test_wait_done(snapsend_t *ctx, uint64_t id, struct snapsend_completion *out, int ms,
				  const char *file, int line)
{
	struct snapsend_completion unused;
	ms *= slowness();
	if (!wait_event(ctx, id, SNAPSEND_EVENT_DONE, out != NULL ? out : &unused, ms))
		test_fail_at(file, line, "no DONE for operation %" PRIu64 " within %d ms", id, ms);
}
/* Fails when the DONE does not come. The completion may be NULL. */
#define wait_done(ctx, id, completion)        test_wait_done(ctx, id, completion, WAIT_FAST_MS, __FILE__, __LINE__)
#define wait_done_ms(ctx, id, completion, ms) test_wait_done(ctx, id, completion, ms, __FILE__, __LINE__)

/* EXACT of a range that is too long gives -EMSGSIZE: from every call, or with DONE where only a trial of a clone tells. */
static inline void expect_too_long(snapsend_t *ctx, const struct snapsend_request *request)
{
	if (has_statmount()) {
		CHECK_EQ(rejected(ctx, request), EMSGSIZE);
		return;
	}
	struct snapsend_completion done;
	wait_done(ctx, submit_ok(ctx, request), &done);
	CHECK_EQ(done.status, -EMSGSIZE);
	CHECK_UEQ(done.wire_bytes, 0);
}

static inline void test_expect_nothing(snapsend_t *ctx, int ms, const char *file, int line)
{
	struct snapsend_completion one;
	for (size_t i = 0; i < test_stash_count; i++)
		if (test_stash_ctx[i] == ctx)
			test_fail_at(file, line, "an unexpected completion: id %" PRIu64 " event %u status %d",
				     test_stash[i].id, test_stash[i].event, test_stash[i].status);
	int n = snapsend_poll(ctx, &one, 1, ms);
	if (n < 0)
		test_fail_at(file, line, "snapsend_poll: %d (%s)", n, strerror(-n));
	if (n > 0)
		test_fail_at(file, line, "an unexpected completion: id %" PRIu64 " event %u status %d", one.id,
			     one.event, one.status);
}
/* No completion waits, was put aside, or comes within ms. */
#define expect_nothing(ctx, ms) test_expect_nothing(ctx, ms, __FILE__, __LINE__)

#endif
