/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the tests of manners (manners_*.c) share, beyond common.h and data_common.h.
 *
 *   processes  in_child: a part of the test in a process of its own  parts_done: what main returns after such
 *              ended_well  library_path
 *   seccomp    struct refusal  refuse: system calls that fail from here on, in this thread and its children
 *   library    create_engine  try_create  info_of  engine_left_to_library
 *              transfers: every way, over TCP and AF_UNIX, warm and cold
 *              refused_cleanly: create fails with that errno and leaves nothing behind
 *              must_let_go: the library keeps no descriptor of the host's open
 *   watched    what a host opens after it has closed everything: nobody else may touch it
 */
#ifndef SNAPSEND_TESTS_MANNERS_COMMON_H
#define SNAPSEND_TESTS_MANNERS_COMMON_H

#include "data_common.h"

#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ---- processes --------------------------------------------------------------------------------- */

static inline bool ended_well(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int parts_ran, parts_failed;

/* Runs body in a forked process; one that fails does not keep the next ones from running. Must be called while no
 * other thread exists. */
static inline void in_child(const char *name, void (*body)(const void *), const void *argument)
{
	int status;
	doing(name);
	fflush(NULL);
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		time_limit(55); /* alarms are not inherited */
		body(argument);
		test_leave(0);
	}
	SYS(waitpid(pid, &status, 0));
	doing("");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		return;
	parts_ran++;
	if (ended_well(status))
		return;
	parts_failed++;
	if (WIFSIGNALED(status))
		fprintf(stderr, "FAIL: %s: signal %d (%s)\n", name, WTERMSIG(status), strsignal(WTERMSIG(status)));
}

/* The test's exit status; skipped when no part could run, each of which has said why. */
static inline int parts_done(void)
{
	return parts_failed > 0 ? 1 : parts_ran > 0 ? 0 : 77;
}

/* The file that the library was loaded from. */
static inline const char *library_path(void)
{
	static char path[PATH_MAX];
	Dl_info found;
	union {
		const char *(*function)(void);
		void *address;
	} symbol = { .function = snapsend_version_string };
	if (dladdr(symbol.address, &found) == 0 || found.dli_fname == NULL || realpath(found.dli_fname, path) == NULL)
		fail("dladdr does not know the library");
	if (strstr(path, ".so") == NULL)
		skip("the library is not a shared one here");
	return path;
}

/* ---- system calls that are refused ----------------------------------------------------------------- */

enum when { ALWAYS, IF_EQUAL, IF_ANY_BIT };

struct refusal {
	int call;  /* SYS_... */
	int error; /* what it gives; 0: the supervisor is asked */
	enum when when;
	int argument;   /* from 0 */
	uint32_t value; /* of the low half of that argument */
};

#define REFUSALS_MAX 24

/* Returns the supervisor's descriptor when one is asked for, else 0. */
static inline int refuse_with_flags(const struct refusal *refusals, size_t count, unsigned flags)
{
	struct sock_filter code[REFUSALS_MAX * 5 + 1];
	unsigned short n = 0;
	CHECK_ULE(count, REFUSALS_MAX);
	for (size_t i = 0; i < count; i++) {
		const struct refusal *r = &refusals[i];
		unsigned low = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0 : 4;
		unsigned argument = (unsigned)offsetof(struct seccomp_data, args) + 8 * (unsigned)r->argument + low;
		unsigned char skips = r->when == ALWAYS ? 1 : 3;
		unsigned answer = r->error == 0 ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_ERRNO | (unsigned)r->error;
		code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)r->call, 0, skips);
		if (r->when != ALWAYS) {
			int test = r->when == IF_EQUAL ? BPF_JEQ : BPF_JSET;
			code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument);
			code[n++] =
				(struct sock_filter)BPF_JUMP((unsigned short)(BPF_JMP | test | BPF_K), r->value, 0, 1);
		}
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { .len = n, .filter = code };
	long result = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (result == 0)
		result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
	if (result < 0)
		skip("no seccomp filters here");
	return (int)result;
}

/* For this thread and those that it starts. */
static inline void refuse(const struct refusal *refusals, size_t count)
{
	(void)refuse_with_flags(refusals, count, 0);
}

/* ---- the library ------------------------------------------------------------------------------------- */

/* AUTO means what the library finds, not what the runner asks for. */
static inline void engine_left_to_library(void)
{
	unsetenv("SNAPSEND_ENGINE");
}

static inline int try_create(uint32_t engine, snapsend_t **ctx)
{
	struct snapsend_options options;
	memset(&options, 0, sizeof options);
	options.engine = engine;
	*ctx = NULL;
	return snapsend_create(&options, sizeof options, ctx);
}

static inline snapsend_t *create_engine(uint32_t engine)
{
	snapsend_t *ctx;
	int result = try_create(engine, &ctx);
	if (result != 0)
		fail("snapsend_create, engine %u: %d (%s)", engine, result, strerror(-result));
	return ctx;
}

static inline struct snapsend_info info_of(snapsend_t *ctx)
{
	struct snapsend_info info;
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	return info;
}

#define TRANSFERS_LENGTH (2 * MIB + 77)

static inline void transfers_with(snapsend_t *ctx, int file)
{
	unsigned char *image = image_of(0, TRANSFERS_LENGTH, 81);
	for (int kind = 0; kind < KINDS; kind += UNIX - TCP4) {
		int sv[2];
		CHECK(pair_of_kind((enum kind)kind, sv, 0));
		every_way(ctx, sv, file, image, TRANSFERS_LENGTH, NULL, NULL, NULL);
		CHECK_EQ(unread(sv[1]), 0);
		close_pair(sv);
	}
	free(image);
}

/* By every call, with every flag, small and large, warm and cold: all right. */
static inline void transfers(snapsend_t *ctx)
{
	int file = temp_file(TRANSFERS_LENGTH, 81);
	SYS(fdatasync(file));
	transfers_with(ctx, file);
	close(file);
}

static inline void refused_cleanly(uint32_t engine, int error)
{
	int fds = count_fds(), threads = wait_threads(1, 500);
	for (int i = 0; i < 20; i++) {
		snapsend_t *ctx;
		int result = try_create(engine, &ctx);
		if (result != -error || ctx != NULL)
			fail("snapsend_create, engine %u: %d, expected %d%s", engine, result, -error,
			     ctx != NULL ? ", and a context" : "");
	}
	CHECK_EQ(count_fds(), fds);
	CHECK_EQ(wait_threads(threads, 2000), threads);
}

/* The host's last copy of a descriptor closes the connection, whatever the library's thread was started with. */
static inline void must_let_go(int fd, int peer)
{
	close(fd);
	expect_eof(peer, 2000);
}

/* ---- descriptors that somebody might touch -------------------------------------------------------------- */

#define WATCHED_EACH 24
#define WATCHED_MARK "mark"

struct watched {
	int sockets[WATCHED_EACH][2], pipes[WATCHED_EACH][2], files[WATCHED_EACH], empty[WATCHED_EACH][2];
};

/* Sockets of which each end holds an unread mark, empty sockets, pipes with a mark, files with a pattern. They
 * take the lowest numbers there are. */
static inline void watched_open(struct watched *w)
{
	for (int i = 0; i < WATCHED_EACH; i++) {
		unix_pair(w->sockets[i]);
		unix_pair(w->empty[i]);
		SYS(pipe2(w->pipes[i], O_CLOEXEC | O_NONBLOCK));
		for (int end = 0; end < 2; end++)
			CHECK_EQ(send(w->sockets[i][end], WATCHED_MARK, 4, 0), 4);
		CHECK_EQ(write(w->pipes[i][1], WATCHED_MARK, 4), 4);
		w->files[i] = temp_file(4096, 500 + (uint64_t)i);
		SYS(lseek(w->files[i], 123 + i, SEEK_SET));
	}
}

static inline void watched_mark(int fd)
{
	char got[16];
	ssize_t n = read(fd, got, sizeof got);
	if (n != 4 || memcmp(got, WATCHED_MARK, 4) != 0)
		fail("somebody read from or wrote to descriptor %d, which is the host's: %zd bytes there", fd, n);
}

/* They are open and as they were left. Takes the marks. */
static inline void watched_check(struct watched *w)
{
	unsigned char content[8192];
	for (int i = 0; i < WATCHED_EACH; i++) {
		for (int end = 0; end < 2; end++) {
			watched_mark(w->sockets[i][end]);
			expect_silence(w->sockets[i][end]);
			expect_silence(w->empty[i][end]);
		}
		watched_mark(w->pipes[i][0]);
		CHECK_EQ(read(w->pipes[i][0], content, 1), -1);
		CHECK_EQ(errno, EAGAIN);
		CHECK_EQ(lseek(w->files[i], 0, SEEK_CUR), 123 + i);
		CHECK_EQ(pread(w->files[i], content, sizeof content, 0), 4096);
		CHECK_UEQ(pattern_bad(content, 0, 4096, 500 + (uint64_t)i), SIZE_MAX);
	}
}

static inline void watched_close(struct watched *w)
{
	for (int i = 0; i < WATCHED_EACH; i++) {
		close_pair(w->sockets[i]);
		close_pair(w->empty[i]);
		close_pair(w->pipes[i]);
		SYS(close(w->files[i]));
	}
}

#endif
