/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the tests of the data path (data_*.c) share, beyond common.h.
 *
 *   sockets   KINDS  kind_name  pair_of_kind  pair_of_protocol  room_in  unread  expect_eof  expect_silence
 *             stuff_socket  swallow  reader_start_slow
 *   files     image_of  file_put  file_spoil  drop_cache  drop_cache_wholly  cached_bytes  reuse_number
 *             truncate_at_random
 *   transfer  submit_range
 *             transfer_ok: one operation to a reading peer, everything checked
 *             call_done  every_way: by each call, with each flag, small and large, warm and cold
 *   snapshot  struct shot  shot_changed  shot_matrix: file changed as soon as it may be, and the controls
 *   machine   root_or_skip  private_mounts  loop_attach  image_attach  overlay_attach  run_tool  have_tool  raise_fd_limit
 */
#ifndef SNAPSEND_TESTS_DATA_COMMON_H
#define SNAPSEND_TESTS_DATA_COMMON_H

#include "common.h"

#include <linux/loop.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/vfs.h>
#include <sys/wait.h>

/* ---- sockets --------------------------------------------------------------------------------- */

enum kind { TCP4, TCP6, UNIX, KINDS };
static const char *const kind_name[KINDS] = { "TCP over IPv4", "TCP over IPv6", "AF_UNIX" };

/* False where the family does not exist. sndbuf 0: the system's; beyond what the system allows, for root. */
static inline bool pair_of_kind(enum kind kind, int sv[2], int sndbuf)
{
	static const int family[KINDS] = { AF_INET, AF_INET6, AF_UNIX };
	if (!pair_sized(family[kind], sv, sndbuf, 0))
		return false;
	if (sndbuf > 0)
		(void)setsockopt(sv[0], SOL_SOCKET, SO_SNDBUFFORCE, &sndbuf, sizeof sndbuf);
	return true;
}

/* Connected by IPPROTO_MPTCP or another protocol over IPv4. False where the kernel has none. */
static inline bool pair_of_protocol(int protocol, int sv[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol);
	if (listener < 0)
		return false;
	SYS(bind(listener, (struct sockaddr *)&address, length));
	SYS(listen(listener, 1));
	SYS(getsockname(listener, (struct sockaddr *)&address, &length));
	sv[0] = (int)SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol));
	SYS(connect(sv[0], (struct sockaddr *)&address, length));
	sv[1] = (int)SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	close(listener);
	return true;
}

/* So many bytes go into a socket whose peer reads nothing, and it still is writable: AF_UNIX calls itself full
 * at a quarter of the buffer, in which there are also the kernel's own structures. */
static inline size_t room_in(int fd)
{
	int buffer;
	socklen_t length = sizeof buffer;
	SYS(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, &length));
	return (size_t)buffer / 8;
}

static inline void close_pair(int sv[2])
{
	close(sv[0]);
	close(sv[1]);
}

/* Bytes that wait in a receive queue. */
static inline int unread(int fd)
{
	int n = 0;
	SYS(ioctl(fd, FIONREAD, &n));
	return n;
}

/* The peer must see the end of the stream, and no byte, within ms. */
static inline void expect_eof(int fd, int ms)
{
	char byte;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	if (poll(&p, 1, ms) != 1)
		fail("no end of stream within %d ms", ms);
	CHECK_EQ(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
}

/* A receive queue holds nothing, and the connection is open. */
static inline void expect_silence(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
	if (n != -1 || errno != EAGAIN)
		fail("a byte or an end on a connection that should be silent: %zd", n);
}

/* Fills it until neither end takes more, as fill_socket does, but quickly; how many bytes. */
static inline uint64_t stuff_socket(int fd)
{
	static const unsigned char zeros[65536];
	uint64_t total = 0;
	/* TCP moves some of it to the peer yet; and there may be room for a little that poll(2) does not speak of. */
	for (int refused = 0; refused < 4;) {
		ssize_t n = send(fd, zeros, sizeof zeros, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			total += (uint64_t)n;
			refused = 0;
		} else {
			CHECK_EQ(errno, EAGAIN);
			refused++;
			sleep_ms(10);
		}
	}
	return total;
}

/* Takes that many bytes. */
static inline void swallow(int fd, uint64_t length)
{
	static unsigned char junk[65536];
	while (length > 0) {
		ssize_t n = recv(fd, junk, length < sizeof junk ? (size_t)length : sizeof junk, 0);
		CHECK_GT(n, 0);
		length -= (uint64_t)n;
	}
}

/* A peer that pauses after every 32 KiB; keeps all that it reads. */
static inline void reader_start_slow(struct reader *r, int fd, int pause_us)
{
	reader_init(r, fd, UINT64_MAX);
	r->keep = true, r->step = 32 * 1024, r->pause_us = pause_us;
	reader_go(r);
}

/* ---- files ------------------------------------------------------------------------------------ */

/* Bytes offset.. of the pattern in memory: comparing with memory is faster than computing. */
static inline unsigned char *image_of(uint64_t offset, size_t length, uint64_t seed)
{
	unsigned char *image = malloc(length + 1);
	CHECK(image != NULL);
	pattern_fill(image, offset, length, seed);
	return image;
}

static inline void file_put(int fd, uint64_t offset, const void *data, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t n = pwrite(fd, (const char *)data + at, length - at, (off_t)(offset + at));
		if (n <= 0)
			fail("pwrite: %s", n < 0 ? strerror(errno) : "0 bytes");
		at += (size_t)n;
	}
}

/* Other bytes into the range: each differs from the image. */
static inline void file_spoil(int fd, uint64_t offset, const unsigned char *image, size_t length)
{
	unsigned char block[65536];
	for (size_t at = 0; at < length;) {
		size_t n = length - at < sizeof block ? length - at : sizeof block;
		for (size_t i = 0; i < n; i++)
			block[i] = (unsigned char)~image[at + i];
		file_put(fd, offset + at, block, n);
		at += n;
	}
}

static inline size_t count_different(const unsigned char *a, const unsigned char *b, size_t length)
{
	size_t n = 0;
	if (memcmp(a, b, length) != 0)
		for (size_t i = 0; i < length; i++)
			n += a[i] != b[i];
	return n;
}

/* How much of the range is in the page cache, by mincore. */
static inline size_t cached_bytes(int fd, size_t length)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (length + page - 1) / page, in = 0;
	unsigned char *present = malloc(pages + 1);
	void *map = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(present != NULL && map != MAP_FAILED);
	SYS(mincore(map, length, present));
	for (size_t i = 0; i < pages; i++)
		in += present[i] & 1;
	munmap(map, length);
	free(present);
	return in * page;
}

/* Out of the page cache, as far as the file system does that (tmpfs does not). */
static inline void drop_cache(int fd)
{
	SYS(fdatasync(fd));
	CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
}

/* The same, and what is still being read ahead is waited for. */
static inline void drop_cache_wholly(int fd, size_t length)
{
	for (int i = 0; i < 200; i++) {
		CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
		if (cached_bytes(fd, length) == 0)
			return;
		sleep_ms(5);
	}
	fail("pages of the file stay in the cache: something maps or reads it");
}

/* The least request: a range and a socket. */
static inline uint64_t submit_range(snapsend_t *ctx, int socket, int file, uint64_t offset, uint64_t length)
{
	struct snapsend_request request = make_request(socket, file, offset, length);
	return submit_ok(ctx, &request);
}

/* Another file behind the number of a descriptor: by dup2 at once, by close and open, or it is closed and left so. */
static inline void reuse_number(int round, int number, int other)
{
	if (rand() % 4 == 0)
		usleep((useconds_t)(rand() % 100));
	if (round % 3 == 0) {
		SYS(dup2(other, number));
	} else {
		close(number);
		if (round % 3 == 1)
			CHECK_EQ(SYS(fcntl(other, F_DUPFD_CLOEXEC, number)), number);
	}
}

/* Some time within 6 ms the file gets some length below this one, which it has: its new length. */
static inline size_t truncate_at_random(int fd, size_t length)
{
	usleep((useconds_t)(rand() % 6000));
	size_t cut = (size_t)rand() % length;
	SYS(ftruncate(fd, (off_t)cut));
	return cut;
}

/* ---- one operation to a peer that reads ----------------------------------------------------------- */

/* Sends request to sv[0]; sv[1] must get exactly these bytes and no more, and the DONE must say so. */
static inline struct snapsend_completion transfer_ok(snapsend_t *ctx, int sv[2], struct snapsend_request request,
						     const unsigned char *want, size_t length)
{
	struct snapsend_completion done;
	struct reader reader;
	static uint64_t serial = 0x5eed;
	request.socket_fd = sv[0];
	request.user_data = ++serial;
	reader_start_keep(&reader, sv[1], length);
	uint64_t id = submit_ok(ctx, &request);
	wait_done(ctx, id, &done);
	if (done.status != 0)
		fail("offset %" PRIu64 " length %" PRIu64 " flags %u: status %d (%s), %" PRIu64 " bytes",
		     request.offset, request.length, request.flags, done.status, strerror(-done.status),
		     done.wire_bytes);
	CHECK_UEQ(done.wire_bytes, length);
	CHECK_UEQ(done.user_data, request.user_data);
	reader_join(&reader);
	if (length > 0 && memcmp(reader.data, want, length) != 0)
		fail("offset %" PRIu64 " length %" PRIu64 " flags %u: wrong bytes arrived", request.offset,
		     request.length, request.flags);
	CHECK_EQ(unread(sv[1]), 0);
	reader_free(&reader);
	return done;
}

/* ---- each way through the library -------------------------------------------------------------- */

enum call { CALL_SUBMIT, CALL_SEND, CALL_TRY_SEND, CALLS };

/* One operation by that call; its DONE, taken. */
static inline struct snapsend_completion call_done(snapsend_t *ctx, enum call call, struct snapsend_request request)
{
	struct snapsend_completion done;
	memset(&done, 0, sizeof done);
	if (call == CALL_SUBMIT) {
		wait_done(ctx, submit_ok(ctx, &request), &done);
	} else if (call == CALL_SEND) {
		CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &done), 0);
	} else {
		int result = snapsend_try_send(ctx, &request, sizeof request, &done);
		CHECK(result == 0 || result == 1);
		if (result == 0)
			wait_done(ctx, done.id, &done);
	}
	return done;
}

/* Sends the first bytes of the file, whose image it is, by every call, with every flag, small and whole, warm
 * and cold; before each operation prepare, and after the DONE of each check, is called (either may be NULL). */
static inline void every_way(snapsend_t *ctx, int sv[2], int file, const unsigned char *image, size_t length,
			     void (*prepare)(void *), void (*check)(void *), void *argument)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	const size_t lengths[] = { 1000, length < 100000 ? length : 100000, length };
	for (size_t i = 0; i < 2 * CALLS * COUNT_OF(flags) * COUNT_OF(lengths); i++) {
		struct reader reader;
		size_t n = lengths[i / 2 / CALLS / COUNT_OF(flags)];
		struct snapsend_request request = make_request(sv[0], file, 0, n);
		request.flags = flags[i / 2 / CALLS % COUNT_OF(flags)];
		if (prepare != NULL)
			prepare(argument);
		if (i % 2)
			posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
		reader_start_keep(&reader, sv[1], n);
		struct snapsend_completion done = call_done(ctx, (enum call)(i / 2 % CALLS), request);
		if (check != NULL)
			check(argument);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.wire_bytes, n);
		reader_join(&reader);
		CHECK(memcmp(reader.data, image, n) == 0);
		reader_free(&reader);
	}
}

/* ---- the snapshot: the file is changed as soon as it may be, before the peer has read --------------- */

enum way { WAY_DONE, WAY_EVENT, WAY_SENDFILE, WAY_SPLICE };

struct shot {
	enum kind kind;
	enum way way; /* what says that the file may change */
	bool cold;
	size_t length;
	uint32_t flags;
	bool wrapped; /* with header and trailer */
};

#define SHOT_OFFSET 4097        /* of the range in the file: not a page's start */
#define SHOT_HELD   (512 * KIB) /* so much, if it has room, the peer leaves unread until the file was changed */
#define SHOT_SNDBUF (4 * 1024 * 1024)
#define SHOT_WRAP   1001 /* bytes of header, and of trailer */

static inline void sendfile_all(int to, int from, uint64_t offset, size_t length)
{
	off_t at = (off_t)offset;
	while (length > 0) {
		ssize_t n = sendfile(to, from, &at, length);
		CHECK_GT(n, 0);
		length -= (size_t)n;
	}
}

static inline void splice_all(int to, int from, uint64_t offset, size_t length)
{
	int p[2];
	loff_t at = (loff_t)offset;
	SYS(pipe2(p, O_CLOEXEC));
	while (length > 0) {
		ssize_t n = splice(from, &at, p[1], NULL, length < 65536 ? length : 65536, 0);
		CHECK_GT(n, 0);
		length -= (size_t)n;
		while (n > 0) {
			ssize_t m = splice(p[0], NULL, to, NULL, (size_t)n, 0);
			CHECK_GT(m, 0);
			n -= m;
		}
	}
	close_pair(p);
}

/* Returns when the file may change, by what the way promises; the id when a DONE is still to come. */
static inline uint64_t shot_send(snapsend_t *ctx, int to, int file, const struct shot *s, struct iovec *wrap)
{
	if (s->way == WAY_SENDFILE || s->way == WAY_SPLICE) {
		if (s->wrapped)
			CHECK_EQ(send(to, wrap[0].iov_base, SHOT_WRAP, 0), SHOT_WRAP);
		if (s->way == WAY_SENDFILE)
			sendfile_all(to, file, SHOT_OFFSET, s->length);
		else
			splice_all(to, file, SHOT_OFFSET, s->length);
		if (s->wrapped)
			CHECK_EQ(send(to, wrap[1].iov_base, SHOT_WRAP, 0), SHOT_WRAP);
		return 0;
	}
	struct snapsend_completion event;
	struct snapsend_request request = make_request(to, file, SHOT_OFFSET, s->length);
	request.flags = s->flags | (s->way == WAY_EVENT ? SNAPSEND_NOTIFY_SNAPSHOT : 0);
	if (s->wrapped) {
		request.header = &wrap[0], request.header_count = 1;
		request.trailer = &wrap[1], request.trailer_count = 1;
	}
	uint64_t id = submit_ok(ctx, &request);
	if (s->way == WAY_EVENT) {
		if (!wait_event(ctx, id, SNAPSEND_EVENT_SNAPSHOT, &event, WAIT_MS))
			fail("no SNAPSHOT for %zu bytes, flags %u", s->length, s->flags);
		return id;
	}
	wait_done(ctx, id, &event);
	CHECK_EQ(event.status, 0);
	CHECK_UEQ(event.file_bytes, s->length);
	CHECK_UEQ(event.wire_bytes, s->length + (s->wrapped ? 2 * SHOT_WRAP : 0));
	return 0;
}

/* One transfer; how many bytes of the range arrived otherwise than they were at submit. */
static inline size_t shot_changed(snapsend_t *ctx, int file, const unsigned char *image, const struct shot *s)
{
	int sv[2];
	if (!pair_of_kind(s->kind, sv, SHOT_SNDBUF))
		return 0;
	unsigned char head[SHOT_WRAP], tail[SHOT_WRAP];
	struct iovec wrap[2] = { { head, sizeof head }, { tail, sizeof tail } };
	memset(head, 'H', sizeof head);
	memset(tail, 'T', sizeof tail);
	size_t edge = s->wrapped ? SHOT_WRAP : 0, total = s->length + 2 * edge;
	size_t held = room_in(sv[0]) < SHOT_HELD ? room_in(sv[0]) : SHOT_HELD;
	held = total < held ? total : held;

	file_put(file, SHOT_OFFSET, image, s->length);
	if (s->cold)
		drop_cache(file);
	struct reader first, rest;
	reader_start_keep(&first, sv[1], total - held);
	uint64_t id = shot_send(ctx, sv[0], file, s, wrap);
	file_spoil(file, SHOT_OFFSET, image, s->length);
	reader_join(&first);
	reader_start_keep(&rest, sv[1], held);
	reader_join(&rest);
	if (id != 0) {
		struct snapsend_completion done;
		wait_done(ctx, id, &done);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.wire_bytes, total);
	}
	unsigned char *got = malloc(total);
	CHECK(got != NULL);
	if (total > held)
		memcpy(got, first.data, total - held);
	memcpy(got + (total - held), rest.data, held);
	CHECK(memcmp(got, head, edge) == 0 && memcmp(got + total - edge, tail, edge) == 0);
	size_t changed = count_different(got + edge, image, s->length);
	CHECK_EQ(unread(sv[1]), 0);
	free(got);
	reader_free(&first);
	reader_free(&rest);
	close_pair(sv);
	return changed;
}

/* The same harness must catch those that cannot keep the promise, or it proves nothing. */
static inline void shot_controls(int file, const unsigned char *image, struct shot s)
{
	for (s.way = WAY_SENDFILE; s.way <= WAY_SPLICE; s.way++)
		if (shot_changed(NULL, file, image, &s) == 0)
			fail("%s was not caught: %zu bytes over %s", s.way == WAY_SENDFILE ? "sendfile" : "splice",
			     s.length, kind_name[s.kind]);
}

static inline bool kind_exists(enum kind kind)
{
	int sv[2];
	if (!pair_of_kind(kind, sv, 0))
		return false;
	close_pair(sv);
	return true;
}

/* Over every kind of socket, warm and cold, small and large. */
static inline void shot_matrix(enum way way, uint32_t flags, bool wrapped)
{
	static const size_t lengths[] = { 1, 1000, 70001, 300 * KIB, 3 * MIB + 7, 12 * MIB };
	size_t most = lengths[COUNT_OF(lengths) - 1];
	snapsend_t *ctx = create_ctx();
	unsigned char *image = image_of(SHOT_OFFSET, most, 21);
	int file = temp_file(SHOT_OFFSET + most + 5000, 21);
	for (int kind = 0; kind < KINDS; kind++) {
		if (!kind_exists((enum kind)kind))
			continue;
		doing(kind_name[kind]);
		for (size_t i = 0; i < 2 * COUNT_OF(lengths); i++) {
			struct shot s = { .kind = (enum kind)kind,
					  .way = way,
					  .cold = i % 2,
					  .length = lengths[i / 2],
					  .flags = flags,
					  .wrapped = wrapped };
			size_t changed = shot_changed(ctx, file, image, &s);
			if (changed != 0)
				fail("%zu of %zu bytes arrived changed (%s)", changed, s.length,
				     s.cold ? "cold" : "warm");
			if (s.length >= 1000)
				shot_controls(file, image, s);
		}
	}
	free(image);
	close(file);
	destroy_ctx(ctx);
}

/* ---- the machine -------------------------------------------------------------------------------------- */

static inline void root_or_skip(void)
{
	if (geteuid() != 0)
		skip("needs root");
}

/* Descriptors for tests with very many of them. */
static inline void raise_fd_limit(rlim_t wanted)
{
	struct rlimit limit;
	SYS(getrlimit(RLIMIT_NOFILE, &limit));
	if (limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = wanted;
	if (limit.rlim_max < wanted)
		limit.rlim_max = wanted;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		skip("cannot raise RLIMIT_NOFILE");
}

/* Mounts of its own for this process, which vanish with it however it ends; a folder that is an empty
 * tmpfs. Must be called before any thread exists. */
static inline const char *private_mounts(void)
{
	root_or_skip();
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		skip("no mount namespace of its own");
	const char *dir = access("/mnt", F_OK) == 0 ? "/mnt" : "/tmp";
	if (mount("none", dir, "tmpfs", 0, NULL) != 0)
		skip("cannot mount tmpfs");
	return dir;
}

/* A loop device over a file; opened, and let go by the kernel with its last user. */
static inline int loop_attach(int backing, char path[64])
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		skip("no loop devices");
	for (int tries = 0; tries < 50; tries++) {
		int number = (int)SYS(ioctl(control, LOOP_CTL_GET_FREE));
		snprintf(path, 64, "/dev/loop%d", number);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		struct loop_config config;
		memset(&config, 0, sizeof config);
		config.fd = (uint32_t)backing;
		config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
			close(control);
			return fd;
		}
		if (fd >= 0)
			close(fd);
		sleep_ms(20); /* somebody else was faster */
	}
	skip("no free loop device");
}

/* Runs a program; its exit status, 127 when it is not there. Only its errors are shown, in the test's log. */
static inline int run_tool(const char *const argv[])
{
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, 0), dup2(null, 1);
		setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	int status;
	SYS(waitpid(pid, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

/* A file of that size in dir, on a loop device, with a file system from mkfs, mounted at dir/name. */
static inline void image_attach(const char *dir, const char *name, const char *type, uint64_t size,
				char mounted[PATH_MAX])
{
	char image[PATH_MAX], mkfs[64], device[64];
	snprintf(mounted, PATH_MAX, "%s/%s", dir, name);
	snprintf(image, sizeof image, "%s/%s.img", dir, name);
	snprintf(mkfs, sizeof mkfs, "mkfs.%s", type);
	int backing = (int)SYS(open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	SYS(ftruncate(backing, (off_t)size));
	const char *const argv[] = { mkfs, "-q", image, NULL };
	int status = run_tool(argv);
	if (status == 127)
		skip("no mkfs for this file system here");
	CHECK_EQ(status, 0);
	int loop = loop_attach(backing, device);
	SYS(mkdir(mounted, 0700));
	if (mount(device, mounted, type, 0, NULL) != 0)
		skip("the kernel does not mount this file system");
	close(loop);
	close(backing);
}

/* An overlayfs at dir/merged, whose lower layer has a file of that name holding the pattern. */
static inline void overlay_attach(const char *dir, const char *name, uint64_t length, uint64_t seed)
{
	static const char *const layers[] = { "lower", "upper", "work", "merged" };
	char path[PATH_MAX], options[3 * PATH_MAX];
	for (size_t i = 0; i < COUNT_OF(layers); i++) {
		snprintf(path, sizeof path, "%s/%s", dir, layers[i]);
		SYS(mkdir(path, 0700));
	}
	snprintf(path, sizeof path, "%s/lower/%s", dir, name);
	int file = (int)SYS(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	pattern_write(file, 0, length, seed);
	close(file);
	snprintf(options, sizeof options, "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", dir, dir, dir);
	snprintf(path, sizeof path, "%s/merged", dir);
	if (mount("overlay", path, "overlay", 0, options) != 0)
		skip("no overlayfs here");
}

/* ---- a file system: everything that depends on it, in a folder on it ------------------------------------ */

#define FS_LENGTH (5 * MIB + 123)

static inline int file_in(const char *dir, uint64_t length, uint64_t seed)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/file-XXXXXX", dir);
	int fd = (int)SYS(mkostemp(path, O_CLOEXEC));
	unlink(path);
	pattern_write(fd, 0, length, seed);
	return fd;
}

static inline void fs_ranges(snapsend_t *ctx, int file, const unsigned char *image)
{
	int sv[2];
	struct snapsend_completion done;
	tcp_pair(sv);
	every_way(ctx, sv, file, image, FS_LENGTH, NULL, NULL, NULL);
	for (int i = 0; i < 20; i++) {
		uint64_t offset = (uint64_t)rand() % FS_LENGTH;
		transfer_ok(ctx, sv, make_request(-1, file, offset, SNAPSEND_TO_EOF), image + offset,
			    FS_LENGTH - offset);
		if (i % 2)
			drop_cache(file);
	}
	struct snapsend_request past = make_request(sv[0], file, 1, FS_LENGTH);
	wait_done(ctx, submit_ok(ctx, &past), &done);
	CHECK_EQ(done.status, -ENODATA);
	CHECK_UEQ(done.wire_bytes, 0);
	close_pair(sv);
}

static inline void fs_snapshots(snapsend_t *ctx, int file, const unsigned char *image)
{
	for (size_t i = 0; i < 24; i++) {
		struct shot s = { .kind = i % 2 ? TCP4 : UNIX,
				  .way = i / 2 % 2 ? WAY_EVENT : WAY_DONE,
				  .cold = i / 4 % 2,
				  .length = i / 8 == 0   ? 1000
					    : i / 8 == 1 ? 300 * KIB
							 : 4 * MIB };
		CHECK_UEQ(shot_changed(ctx, file, image + SHOT_OFFSET, &s), 0);
		file_put(file, 0, image, FS_LENGTH);
	}
}

/* Truncated while a slow peer reads. */
static inline void fs_truncation(snapsend_t *ctx, int file, const unsigned char *image)
{
	for (int i = 0; i < 20; i++) {
		int sv[2];
		struct reader reader;
		struct snapsend_completion done;
		file_put(file, 0, image, FS_LENGTH);
		unix_pair(sv);
		reader_start_slow(&reader, sv[1], 50);
		struct snapsend_request request = make_request(sv[0], file, 0, FS_LENGTH);
		uint64_t id = submit_ok(ctx, &request);
		size_t cut = truncate_at_random(file, FS_LENGTH);
		wait_done(ctx, id, &done);
		SYS(shutdown(sv[0], SHUT_WR));
		uint64_t got = reader_join(&reader);
		CHECK(done.status == 0 || done.status == -ENODATA);
		CHECK_UEQ(got, done.wire_bytes);
		CHECK(got == 0 || memcmp(reader.data, image, got < cut ? got : cut) == 0);
		reader_free(&reader);
		close_pair(sv);
	}
	file_put(file, 0, image, FS_LENGTH);
}

static inline void fs_holes(snapsend_t *ctx, const char *dir)
{
	int file = file_in(dir, 0, 0), sv[2];
	unsigned char *image = calloc(1, FS_LENGTH);
	CHECK(image != NULL);
	SYS(ftruncate(file, FS_LENGTH));
	pattern_fill(image + 777777, 777777, 100000, 44);
	file_put(file, 777777, image + 777777, 100000);
	tcp_pair(sv);
	for (int i = 0; i < 2; i++) {
		transfer_ok(ctx, sv, make_request(-1, file, 3, FS_LENGTH - 3), image + 3, FS_LENGTH - 3);
		drop_cache(file);
	}
	free(image);
	close(file);
	close_pair(sv);
}

/* A read on overlayfs may ask anybody: what lies below it is not known, and may be a file server. */
static inline bool asks_nobody(int file)
{
	struct statfs fs;
	SYS(fstatfs(file, &fs));
	return fs.f_type != OVERLAYFS_SUPER_MAGIC;
}

/* What is short and in the page cache needs no other thread. */
static inline void fs_warm(snapsend_t *ctx, int file, const unsigned char *image)
{
	int sv[2];
	unsigned char got[10000];
	struct snapsend_completion done;
	pair_of_kind(UNIX, sv, 0);
	SYS(pread(file, got, sizeof got, 5000));
	struct snapsend_request request = make_request(sv[0], file, 5000, sizeof got);
	CHECK_EQ(snapsend_try_send(ctx, &request, sizeof request, &done), 1);
	CHECK(done.flags & SNAPSEND_WAS_INLINE);
	CHECK_UEQ(read_all(sv[1], got, sizeof got), sizeof got);
	CHECK(memcmp(got, image + 5000, sizeof got) == 0);
	close_pair(sv);
}

static inline void exercise_file_system(const char *dir)
{
	snapsend_t *ctx = create_ctx();
	int file = file_in(dir, FS_LENGTH, 43);
	unsigned char *image = image_of(0, FS_LENGTH, 43);
	srand(43);
	doing("warm");
	if (asks_nobody(file) && has_statmount())
		fs_warm(ctx, file, image);
	doing("ranges");
	fs_ranges(ctx, file, image);
	doing("snapshots");
	fs_snapshots(ctx, file, image);
	doing("truncation");
	fs_truncation(ctx, file, image);
	doing("holes");
	fs_holes(ctx, dir);
	doing("");
	free(image);
	close(file);
	destroy_ctx(ctx);
}

#endif
