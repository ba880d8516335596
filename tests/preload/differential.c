/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * sendfile(2) and splice(2) at random, beside the kernel's own: each call is made twice, by the system call itself and
 * by the symbol, which the shim stands before, on two sets of descriptors in the same state. What is returned, errno,
 * offset, file position, SIGPIPE, and what arrives must agree. Without the shim it compares the kernel with itself.
 *
 *   differential [--calls N] [--seed N] [--scene N]     N calls, 0: without end; only one scene of a seed
 *
 * A difference is printed with the seed, the scene and the calls of that scene up to there. What fits into a socket
 * that nobody reads depends on how the kernel accounts for copies and for pages of files: there a part is a part.
 * Exit 0: no difference; 1: one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAX (1 << 20)
#define SYS(x)                                                                               \
	__extension__({                                                                      \
		long v_ = (long)(x);                                                         \
		if (v_ < 0) {                                                                \
			fprintf(stderr, "line %d: %s: %s\n", __LINE__, #x, strerror(errno)); \
			exit(2);                                                             \
		}                                                                            \
		v_;                                                                          \
	})

enum in {
	EXT4,
	MEMFD,
	OVERLAY,
	BLOCK,
	DIRECT,
	ZERO,
	PROC,
	DIR_IN,
	PIPE_IN,
	SOCKET_IN,
	EVENT_IN,
	WRITE_ONLY,
	O_PATH_IN,
	CLOSED_IN,
	INS
};
enum out {
	TCP,
	UNIX,
	PIPE,
	FIFO,
	DGRAM,
	SEQPACKET,
	UDP,
	FILE_OUT,
	APPEND,
	NULL_OUT,
	EVENT,
	CLOSED,
	LISTENER,
	UNCONNECTED,
	READ_END,
	OUTS
};
static const char *in_names[] = { "file",      "memfd",         "overlayfs", "block device", "O_DIRECT",
				  "/dev/zero", "/proc/version", "directory", "pipe",         "socket",
				  "eventfd",   "write-only",    "O_PATH",    "closed" };
static const char *out_names[] = { "TCP",       "UNIX",   "pipe",     "FIFO",        "datagram",
				   "seqpacket", "UDP",    "file",     "O_APPEND",    "/dev/null",
				   "eventfd",   "closed", "listener", "unconnected", "reading end" };

static uint64_t state, seed, scene;
static char story[8192];
static size_t story_length;
static char directory[] = "/tmp/snapsend-differential-XXXXXX";
static unsigned char content[FILE_MAX], got[2][16 * FILE_MAX];
static char file_names[DIRECT + 1][200];
static off_t file_size[DIRECT + 1];
static bool available[INS];
static volatile sig_atomic_t pipes, alarms;
static const char *const modes[] = { "nonblocking", "blocking, read from", "blocking, 4 ms", "blocking, handler" };

static uint64_t random64(void) /* splitmix64 */
{
	uint64_t z = state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint64_t below(uint64_t n)
{
	return random64() % n;
}

static bool chance(unsigned percent)
{
	return below(100) < percent;
}

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(story + story_length, sizeof story - story_length, format, arguments);
	va_end(arguments);
	if (n > 0 && story_length + (size_t)n < sizeof story)
		story_length += (size_t)n;
}

__attribute__((noreturn, format(printf, 1, 2))) static void differs(const char *format, ...)
{
	va_list arguments;
	printf("DIFFERENCE: --seed %llu --scene %llu\n%s", (unsigned long long)seed, (unsigned long long)scene, story);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	puts("");
	fflush(stdout);
	exit(1);
}

static void on_pipe(int s)
{
	(void)s;
	pipes++;
}
static void on_alarm(int s)
{
	(void)s;
	alarms++;
}
static void on_stuck(int s)
{
	static const char text[] = "DIFFERENCE: a call does not come back\n";
	(void)s;
	if (write(1, text, sizeof text - 1) < 0 || write(1, story, story_length) < 0)
		_exit(3);
	_exit(1);
}

/* ---- descriptors ---- */

struct side {
	int out, peer, in, feed; /* peer: where what was sent arrives */
};

static void clean_up(void)
{
	for (int i = 0; i <= DIRECT; i++)
		if (file_names[i][0] == '/' && i != BLOCK)
			unlink(file_names[i]);
	if (available[OVERLAY]) {
		char name[128];
		snprintf(name, sizeof name, "%s/m", directory);
		umount2(name, MNT_DETACH);
		umount2(directory, MNT_DETACH);
	}
	rmdir(directory);
}

/* A tmpfs in a namespace of our own, with overlayfs in it, and a loop device. */
static void make_special(void)
{
	char part[3][160], options[512];
	if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", directory, "tmpfs", 0, NULL) != 0)
		return;
	for (int i = 0; i < 3; i++) {
		snprintf(part[i], sizeof part[i], "%s/%c", directory, "luw"[i]);
		SYS(mkdir(part[i], 0755));
	}
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", part[0], part[1], part[2]);
	snprintf(part[0], sizeof part[0], "%s/m", directory);
	SYS(mkdir(part[0], 0755));
	available[OVERLAY] = mount("o", part[0], "overlay", 0, options) == 0;
	snprintf(file_names[OVERLAY], sizeof file_names[OVERLAY], "%s/file", part[0]);
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC),
	    number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	if (number >= 0) {
		snprintf(file_names[BLOCK], sizeof file_names[BLOCK], "/dev/loop%d", number);
		int loop = open(file_names[BLOCK], O_RDWR | O_CLOEXEC), file = memfd_create("loop", MFD_CLOEXEC);
		struct loop_info64 info = { .lo_flags = LO_FLAGS_AUTOCLEAR };
		/* Kept open: it goes with this process. */
		available[BLOCK] = loop >= 0 && write(file, content, FILE_MAX / 2) == FILE_MAX / 2 &&
				   ioctl(loop, LOOP_SET_FD, file) == 0 && ioctl(loop, LOOP_SET_STATUS64, &info) == 0;
	}
	close(control);
}

static void make_files(void)
{
	for (size_t i = 0; i < sizeof content; i++)
		content[i] = (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16));
	SYS(mkdtemp(directory) == NULL ? -1 : 0);
	for (int i = 0; i < INS; i++)
		available[i] = i != OVERLAY && i != BLOCK;
	make_special();
	atexit(clean_up);
	strcpy(file_names[EXT4], "/tmp/snapsend-differential-file-XXXXXX");
	strcpy(file_names[DIRECT], "/tmp/snapsend-differential-direct-XXXXXX");
	close((int)SYS(mkstemp(file_names[EXT4])));
	close((int)SYS(mkstemp(file_names[DIRECT])));
	int direct = open(file_names[DIRECT], O_RDONLY | O_DIRECT);
	available[DIRECT] = direct >= 0;
	close(direct);
	snprintf(file_names[MEMFD], sizeof file_names[MEMFD], "/proc/self/fd/%ld",
		 SYS(memfd_create("differential", 0)));
	if (available[OVERLAY])
		close((int)SYS(open(file_names[OVERLAY], O_CREAT | O_RDWR, 0600)));
	file_size[BLOCK] = FILE_MAX / 2;
}

static void resize(enum in in)
{
	static const int sizes[] = { 0, 1, 100, 4095, 4096, 5000, 65536, 65537, 262144, 300001, 600000, FILE_MAX };
	off_t size = chance(70) ? sizes[below(sizeof sizes / sizeof *sizes)] : (off_t)below(FILE_MAX);
	if (in > DIRECT || in == BLOCK || size == file_size[in])
		return;
	int fd = (int)SYS(open(file_names[in], O_RDWR));
	if (size > file_size[in])
		SYS(pwrite(fd, content + file_size[in], (size_t)(size - file_size[in]), file_size[in]));
	else
		SYS(ftruncate(fd, size));
	close(fd);
	file_size[in] = size;
}

static void tcp_pair(int sv[2])
{
	static int listener = -1;
	static struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t length = sizeof a;
	if (listener < 0) {
		a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		listener = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
		SYS(bind(listener, (void *)&a, sizeof a));
		SYS(listen(listener, 8));
		SYS(getsockname(listener, (void *)&a, &length));
	}
	sv[0] = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
	SYS(connect(sv[0], (void *)&a, sizeof a));
	sv[1] = (int)SYS(accept(listener, NULL, NULL));
	setsockopt(sv[0], IPPROTO_TCP, TCP_CONGESTION, "cubic", 5); /* others pace what is sent */
}

static void open_out(enum out out, struct side *side, unsigned pipe_size, bool packets)
{
	int sv[2] = { -1, -1 };
	char name[160];
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof a;
	switch (out) {
	case TCP: tcp_pair(sv); break;
	case UNIX: SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, sv)); break;
	case DGRAM: SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv)); break;
	case SEQPACKET: SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv)); break;
	case UDP:
		sv[0] = (int)SYS(socket(AF_INET, SOCK_DGRAM, 0)), sv[1] = (int)SYS(socket(AF_INET, SOCK_DGRAM, 0));
		SYS(bind(sv[1], (void *)&a, sizeof a));
		SYS(getsockname(sv[1], (void *)&a, &length));
		SYS(connect(sv[0], (void *)&a, sizeof a));
		break;
	case PIPE:
	case READ_END: {
		int p[2];
		SYS(pipe2(p, packets ? O_DIRECT : 0));
		sv[0] = p[out == PIPE], sv[1] = p[out != PIPE];
		if (pipe_size > 0)
			fcntl(sv[0], F_SETPIPE_SZ, pipe_size);
		break;
	}
	case FIFO:
		snprintf(name, sizeof name, "%s/fifo", directory);
		SYS(mkfifo(name, 0600));
		sv[1] = (int)SYS(open(name, O_RDONLY | O_NONBLOCK));
		sv[0] = (int)SYS(open(name, O_WRONLY));
		unlink(name);
		break;
	case FILE_OUT:
	case APPEND:
		strcpy(name, "/tmp/snapsend-differential-out-XXXXXX");
		sv[0] = (int)SYS(mkstemp(name));
		sv[1] = (int)SYS(open(name, O_RDONLY));
		unlink(name);
		if (out == APPEND)
			SYS(fcntl(sv[0], F_SETFL, O_APPEND));
		break;
	case NULL_OUT: sv[0] = (int)SYS(open("/dev/null", O_WRONLY)); break;
	case EVENT: sv[0] = (int)SYS(eventfd(0, EFD_NONBLOCK)); break;
	case LISTENER:
	case UNCONNECTED:
		sv[0] = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
		if (out == LISTENER)
			SYS(listen(sv[0], 1));
		break;
	default: break;
	}
	side->out = sv[0], side->peer = sv[1];
}

static void open_in(enum in in, struct side *side)
{
	int sv[2] = { -1, -1 };
	switch (in) {
	case ZERO: sv[0] = (int)SYS(open("/dev/zero", O_RDONLY)); break;
	case PROC: sv[0] = (int)SYS(open("/proc/version", O_RDONLY)); break;
	case DIR_IN: sv[0] = (int)SYS(open("/tmp", O_RDONLY)); break;
	case PIPE_IN:
	case SOCKET_IN:
		if (in == PIPE_IN)
			SYS(pipe2(sv, O_NONBLOCK));
		else
			SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv));
		SYS(write(sv[1], content, 5000));
		break;
	case EVENT_IN: sv[0] = (int)SYS(eventfd(7, EFD_NONBLOCK)); break;
	case WRITE_ONLY: sv[0] = (int)SYS(open(file_names[EXT4], O_WRONLY)); break;
	case O_PATH_IN: sv[0] = (int)SYS(open(file_names[EXT4], O_PATH)); break;
	case CLOSED_IN: break;
	default: sv[0] = (int)SYS(open(file_names[in], O_RDONLY | (in == DIRECT ? O_DIRECT : 0)));
	}
	side->in = sv[0], side->feed = sv[1];
}

static void close_side(struct side *side)
{
	const int all[] = { side->out, side->peer, side->in, side->feed };
	for (int i = 0; i < 4; i++)
		if (all[i] >= 0)
			close(all[i]);
}

/* ---- one call ---- */

struct call {
	bool is_splice, has_offset, bad_offset;
	off_t offset;
	size_t count;
	unsigned flags;
	int mode;
	bool full;
};

struct answer {
	ssize_t result;
	int error, pipes, alarms;
	off_t offset, position, out_position;
	size_t arrived;
	uint64_t messages; /* their lengths, mixed */
	bool late;
};

struct reader {
	pthread_t thread;
	int fd;
	unsigned char *into;
	atomic_size_t length;
	atomic_bool over;
};

static void *read_all(void *argument)
{
	struct reader *r = argument;
	for (;;) {
		bool last = atomic_load(&r->over);
		struct pollfd p = { .fd = r->fd, .events = POLLIN };
		ppoll(&p, 1, &(struct timespec){ .tv_nsec = last ? 0 : 100000 }, NULL);
		size_t at = atomic_load(&r->length);
		ssize_t n = recv(r->fd, r->into + at, sizeof got[0] - at, MSG_DONTWAIT);
		if (n > 0)
			atomic_store(&r->length, at + (size_t)n);
		else if (last)
			return NULL;
	}
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool is_stream(enum out out)
{
	return out == TCP || out == UNIX;
}
static bool is_pipe(enum out out)
{
	return out == PIPE || out == FIFO;
}

/* What has arrived; `wanted` is waited for. */
static void collect(enum out out, int peer, unsigned char *into, size_t wanted, struct answer *a)
{
	double begin = now();
	while (peer >= 0 && a->arrived < sizeof got[0]) {
		struct pollfd p = { .fd = peer, .events = POLLIN };
		poll(&p, 1, a->arrived >= wanted ? 0 : is_stream(out) || is_pipe(out) ? 1000 : 1);
		if (!(p.revents & POLLIN))
			break;
		ssize_t n = read(peer, into + a->arrived, sizeof got[0] - a->arrived);
		if (n <= 0)
			break;
		a->arrived += (size_t)n;
		if (!is_stream(out) && !is_pipe(out))
			a->messages = a->messages * 1000003 + (uint64_t)n;
	}
	a->late = now() - begin > 0.12;
}

static size_t fill(enum out out, int fd)
{
	static const char block[65536];
	size_t total = 0;
	int flags = fcntl(fd, F_GETFL);
	if (!is_stream(out) && !is_pipe(out))
		return 0;
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	for (size_t size = sizeof block; size > 0; size /= 2)
		for (ssize_t n; (n = write(fd, block, size)) > 0;)
			total += (size_t)n;
	fcntl(fd, F_SETFL, flags);
	return total;
}

static void perform(int which, enum out out, struct side *side, const struct call *c, bool cork, size_t *before,
		    struct answer *a)
{
	off_t offset = c->offset, *address = c->bad_offset ? (off_t *)8 : c->has_offset ? &offset : NULL;
	struct itimerval soon = { { 0, 2000 }, { 0, 2000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct reader reader = { .fd = side->peer, .into = got[which] };
	bool reads = c->mode == 1 && is_stream(out) && side->peer >= 0;
	if (c->full)
		*before += fill(out, side->out);
	if (reads)
		pthread_create(&reader.thread, NULL, read_all, &reader);
	pipes = alarms = 0;
	if (c->mode == 3)
		setitimer(ITIMER_REAL, &soon, NULL);
	errno = 0;
	if (which == 0 && c->is_splice)
		a->result = syscall(SYS_splice, side->in, address, side->out, NULL, c->count, c->flags);
	else if (which == 0)
		a->result = syscall(SYS_sendfile, side->out, side->in, address, c->count);
	else if (c->is_splice)
		a->result = splice(side->in, address, side->out, NULL, c->count, c->flags);
	else
		a->result = sendfile(side->out, side->in, address, c->count);
	a->error = a->result < 0 ? errno : 0;
	if (c->mode == 3)
		setitimer(ITIMER_REAL, &never, NULL);
	a->pipes = pipes, a->alarms = alarms > 0;
	a->offset = offset;
	a->position = lseek(side->in, 0, SEEK_CUR);
	a->out_position = lseek(side->out, 0, SEEK_CUR);
	if (out == TCP && (cork || a->result <= 0 || c->mode != 0 || c->count > 65536)) {
		int value = 0; /* what its owner, or a part, leaves behind goes now */
		socklen_t length = sizeof value;
		getsockopt(side->out, IPPROTO_TCP, TCP_CORK, &value, &length);
		if (value != cork)
			differs("%s changes the caller's TCP_CORK", which ? "the shim" : "the kernel");
		value = 0;
		setsockopt(side->out, IPPROTO_TCP, TCP_CORK, &value, sizeof value);
	}
	if (reads) {
		atomic_store(&reader.over, true);
		pthread_join(reader.thread, NULL);
		a->arrived = reader.length;
	}
	size_t wanted = *before + (a->result > 0 ? (size_t)a->result : 0);
	collect(out, out == READ_END || out == FILE_OUT || out == APPEND ? -1 : side->peer, got[which], wanted, a);
}

static size_t some_count(enum in in, enum out out)
{
	static const size_t sizes[] = { 0,       1,      2,      100,      4095,         4096,       4097,
					8192,    12288,  65535,  65536,    65537,        131072,     262143,
					262144,  262145, 524288, FILE_MAX, FILE_MAX + 5, 0x7ffff000, 0x7fffffff,
					SIZE_MAX };
	size_t count = chance(60) ? sizes[below(sizeof sizes / sizeof *sizes)] : below(chance(50) ? 9000 : 700000);
	/* Without an end, or into what keeps everything. */
	bool bounded = in == ZERO || out == FILE_OUT || out == APPEND;
	return bounded && count > 300000 ? 300000 : count;
}

static off_t some_offset(enum in in)
{
	static const off_t odd[] = { -1,        INT64_MIN, INT64_MAX, INT64_MAX - 100, INT64_MAX - 4096,
				     1LL << 40, 1LL << 43, 1LL << 45 };
	off_t size = in <= DIRECT ? file_size[in] : 5000;
	switch (below(8)) {
	case 0: return 0;
	case 1: return size - (off_t)below(10000);
	case 2: return size + (off_t)below(3);
	case 3: return (off_t)below(300) * 4096;
	case 4: return odd[below(sizeof odd / sizeof *odd)];
	default: return (off_t)below((uint64_t)size + 2);
	}
}

static struct call some_call(enum in in, enum out out)
{
	struct call c = { .is_splice = is_pipe(out) ? chance(60) : chance(10),
			  .has_offset = chance(70),
			  .bad_offset = chance(1),
			  .mode = chance(75) ? 0 : (int)below(4) };
	c.offset = some_offset(in);
	c.count = some_count(in, out);
	if (c.is_splice)
		c.flags = chance(5) ? 0x10 : (unsigned)below(16);
	c.full = is_stream(out) || is_pipe(out) ? chance(c.mode >= 2 ? 50 : is_pipe(out) ? 4 : 1) : false;
	if (c.mode >= 2 && !chance(3)) /* these take milliseconds */
		c.mode = 0;
	if (!is_stream(out) && (!is_pipe(out) || c.mode != 3))
		c.mode = 0;
	if (is_pipe(out) && c.mode == 3 && !c.full)
		c.mode = 0;
	if (c.mode == 1)
		c.full = false;
	if (in == PIPE_IN || in == SOCKET_IN || in == EVENT_IN)
		c.flags |= SPLICE_F_NONBLOCK;
	return c;
}

static void prepare(enum in in, enum out out, struct side *side, const struct call *c, off_t position)
{
	struct timeval time = { .tv_usec = c->mode == 2 ? 4000 : 0 };
	bool waits = c->mode != 0;
	if (side->out >= 0 && out != APPEND && out != READ_END) {
		int flags = fcntl(side->out, F_GETFL) & ~O_NONBLOCK;
		fcntl(side->out, F_SETFL, flags | (waits ? 0 : O_NONBLOCK));
	}
	if (is_stream(out))
		setsockopt(side->out, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
	if (in <= PROC)
		lseek(side->in, position, SEEK_SET);
}

static const char *show(char text[200], const struct answer *a)
{
	snprintf(text, 200, "%zd %s, offset %lld, position %lld, SIGPIPE %d, arrived %zu%s", a->result,
		 a->error ? strerrorname_np(a->error) : "-", (long long)a->offset, (long long)a->position, a->pipes,
		 a->arrived, a->late ? ", late" : "");
	return text;
}

/* What a call gives that found no room: at once, or when a handler has run or its time was over. */
static bool may_be_full(int error)
{
	return error == 0 || error == EAGAIN || error == EINTR;
}

/* Whether how much goes is a matter of buffers. */
static bool is_vague(enum out out, const struct call *c, const struct answer a[2], bool small_buffer)
{
	if (!is_stream(out) || c->mode == 1)
		return false;
	if ((small_buffer || c->full) && may_be_full(a[0].error) && may_be_full(a[1].error))
		return true;
	return (c->mode >= 2 || a[0].result > 16384 || a[1].result > 16384) && a[0].result > 0 && a[1].result > 0;
}

static const char *compare(enum in in, enum out out, const struct call *c, const struct answer a[2],
			   const size_t before[2], bool small_buffer, off_t start)
{
	bool vague = is_vague(out, c, a, small_buffer);
	if (!vague && (a[0].result != a[1].result || a[0].error != a[1].error))
		return "the answers differ";
	if (a[0].pipes != a[1].pipes)
		return "SIGPIPE differs";
	if (!vague &&
	    (a[0].offset != a[1].offset || a[0].position != a[1].position || a[0].out_position != a[1].out_position))
		return "offset or position differ";
	if (!vague && (a[0].messages != a[1].messages || a[0].arrived - before[0] != a[1].arrived - before[1]))
		return "what arrives differs";
	if (a[1].late && !a[0].late)
		return "it arrives late";
	for (int i = 0; i < 2; i++) {
		size_t length = a[i].result > 0 ? (size_t)a[i].result : 0;
		if (vague && in <= DIRECT && a[i].result >= 0 &&
		    (c->has_offset ? a[i].offset - start : a[i].position - start) != a[i].result)
			return "offset or position is not moved by what is returned";
		if (a[i].arrived < length || (in > DIRECT && in != ZERO && in != PROC))
			continue;
		if (is_stream(out) && !c->full && a[i].arrived != before[i] + length)
			return "what arrives is not what is returned";
		if (in <= DIRECT && (is_stream(out) || is_pipe(out)) &&
		    memcmp(got[i] + a[i].arrived - length, content + start, length) != 0)
			return "wrong bytes arrive";
	}
	return NULL;
}

/* ---- a few calls with the same descriptors ---- */

struct setting {
	bool small_buffer, header, nodelay, cork, peer_gone, shut;
};

static void set_up(enum out out, struct side *side, const struct setting *s)
{
	int small = 4096, on = 1;
	if (s->small_buffer)
		setsockopt(side->out, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	if (s->nodelay && out == TCP)
		setsockopt(side->out, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (s->shut)
		shutdown(side->out, SHUT_WR);
	if (s->peer_gone && side->peer >= 0) {
		close(side->peer);
		side->peer = -1;
		struct pollfd reset = { .fd = side->out };
		if (out == TCP && send(side->out, "", 1, MSG_NOSIGNAL) == 1)
			poll(&reset, 1, 1000); /* or it would come between two pieces */
	}
}

/* A header that is held back, or a cork of the caller's, which must be there afterwards. */
static size_t begin_answer(enum out out, struct side *side, const struct setting *s)
{
	int on = 1;
	if (out != TCP || s->peer_gone || s->shut)
		return 0;
	if (s->cork)
		setsockopt(side->out, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
	return s->header && send(side->out, "header", 6, MSG_MORE) == 6 ? 6 : 0;
}

static bool try_call(enum in in, enum out out, struct side sides[2], const struct call *c, const struct setting *s,
		     off_t position, bool last)
{
	struct answer answers[2] = { { 0 }, { 0 } };
	size_t before[2] = { 0, 0 };
	off_t start = 0;
	for (int i = 0; i < 2; i++) {
		prepare(in, out, &sides[i], c, position);
		start = c->has_offset ? c->offset : lseek(sides[i].in, 0, SEEK_CUR);
		before[i] = c->full ? 0 : begin_answer(out, &sides[i], s);
		perform(i, out, &sides[i], c, s->cork && !c->full && !s->peer_gone && !s->shut, &before[i],
			&answers[i]);
	}
	const char *what = compare(in, out, c, answers, before, s->small_buffer, start);
	/* A handler that ran before the call began, or a machine that is busy, says nothing. */
	if (what != NULL && !last && (c->mode >= 2 || answers[0].late || answers[1].late))
		return false;
	if (what != NULL) {
		char text[2][200];
		differs("  kernel: %s\n  shim:   %s\n%s", show(text[0], &answers[0]), show(text[1], &answers[1]), what);
	}
	return true;
}

static unsigned play(void)
{
	static const enum out often_out[] = { TCP, TCP, UNIX, UNIX, PIPE, PIPE, FIFO };
	enum out out = chance(75) ? often_out[below(7)] : (enum out)below(OUTS);
	enum in in = chance(80) ? (enum in)below(DIRECT + 1) : (enum in)below(INS);
	static const unsigned pipe_sizes[] = { 0, 0, 4096, 16384, 1 << 20 };
	struct setting s = { .small_buffer = is_stream(out) && chance(10),
			     .header = chance(40),
			     .nodelay = chance(30),
			     .cork = chance(15),
			     .peer_gone = chance(4),
			     .shut = is_stream(out) && chance(3) };
	/* What is not sent of a datagram is in the way of the next. */
	unsigned calls = out == UDP ? 1 : 1 + (unsigned)below(12), pipe_size = pipe_sizes[below(5)];
	bool packets = out == PIPE && chance(15);
	struct side sides[2];
	struct rlimit unlimited, limit;
	if (!available[in])
		in = EXT4;
	story_length = 0;
	tell("%s to %s%s%s%s%s%s%s%s pipe size %u\n", in_names[in], out_names[out],
	     s.small_buffer ? ", small buffer" : "", s.header ? ", header" : "", s.nodelay ? ", TCP_NODELAY" : "",
	     s.cork ? ", TCP_CORK" : "", s.peer_gone ? ", peer gone" : "", s.shut ? ", shut down" : "",
	     packets ? ", packets" : "", pipe_size);
	alarm(0);
	SYS(getrlimit(RLIMIT_FSIZE, &unlimited));
	limit = unlimited;
	resize(in);
	if ((out == FILE_OUT || out == APPEND) && chance(50)) {
		limit.rlim_cur = 100000;
		tell("RLIMIT_FSIZE 100000\n");
	}
	for (int i = 0; i < 2; i++) {
		open_out(out, &sides[i], pipe_size, packets);
		open_in(in, &sides[i]);
		set_up(out, &sides[i], &s);
	}
	unsigned done = 0;
	for (; done < calls; done++) {
		struct call c = some_call(in, out);
		off_t position = chance(95) ? (off_t)below(in <= DIRECT ? (uint64_t)file_size[in] + 100 : 100) : 0;
		if (chance(20))
			resize(in);
		if ((s.peer_gone || s.shut) && c.mode == 3)
			c.mode = 0;
		if (c.full && s.peer_gone)
			c.full = false;
		tell("size %lld, %s, %s%s: offset %lld, position %lld, count %zu, flags %u\n",
		     (long long)(in <= DIRECT ? file_size[in] : -1), modes[c.mode], c.is_splice ? "splice" : "sendfile",
		     c.full ? ", full" : "",
		     c.bad_offset   ? 8
		     : c.has_offset ? (long long)c.offset
				    : -1000,
		     (long long)position, c.count, c.flags);
		setrlimit(RLIMIT_FSIZE, &limit);
		for (int try = 1; !try_call(in, out, sides, &c, &s, position, try == 5); try++)
			;
		setrlimit(RLIMIT_FSIZE, &unlimited);
	}
	for (int i = 0; i < 2; i++)
		close_side(&sides[i]);
	return done;
}

int main(int argc, char **argv)
{
	struct sigaction pipe_action = { .sa_handler = on_pipe }, alarm_action = { .sa_handler = on_alarm },
			 stuck = { .sa_handler = on_stuck };
	uint64_t calls = 100000, only = UINT64_MAX, done = 0;
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	seed = (uint64_t)t.tv_sec * 1000003 + (uint64_t)t.tv_nsec;
	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t value = strtoull(argv[i + 1], NULL, 0);
		*(strcmp(argv[i], "--seed") == 0 ? &seed : strcmp(argv[i], "--scene") == 0 ? &only : &calls) = value;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGPIPE, &pipe_action, NULL);
	sigaction(SIGXFSZ, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	sigaction(SIGALRM, &alarm_action, NULL);
	sigaction(SIGPROF, &stuck, NULL);
	make_files();
	printf("seed %llu\n", (unsigned long long)seed);
	timer_t watchdog;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGPROF };
	SYS(timer_create(CLOCK_MONOTONIC, &event, &watchdog));
	for (scene = only == UINT64_MAX ? 0 : only; calls == 0 || done < calls; scene++) {
		struct itimerspec in_30_s = { .it_value.tv_sec = 30 };
		timer_settime(watchdog, 0, &in_30_s, NULL);
		state = seed ^ scene * 0xd1342543de82ef95;
		for (int i = 0; i <= DIRECT; i++) /* each scene begins with the same files */
			if (i != BLOCK && (available[i]) && file_size[i] != 0) {
				int fd = (int)SYS(open(file_names[i], O_RDWR));
				SYS(ftruncate(fd, 0));
				close(fd);
				file_size[i] = 0;
			}
		done += play();
		if (only != UINT64_MAX)
			break;
		if (calls == 0 && scene % 10000 == 0)
			printf("%llu calls\n", (unsigned long long)done);
	}
	printf("%llu calls, the same answers as from the kernel\n", (unsigned long long)done);
	return 0;
}
