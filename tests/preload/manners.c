/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What hosts do to a library, one name each on the command line: nothing_at_start fork daemon chroot clearenv
 * close_all own_sigsegv reentry threads cold. Exit 0 passed, 77 skipped.
 */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIZE 300000

static int file;
static unsigned char data[SIZE];

static int count(const char *dir)
{
	int n = 0;
	DIR *d = opendir(dir);
	while (d != NULL && readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

struct reading {
	int fd;
	size_t want;
	bool right;
};

static void *reader(void *argument)
{
	struct reading *r = argument;
	static _Thread_local unsigned char buffer[65536];
	size_t at = 0;
	r->right = true;
	while (at < r->want) {
		ssize_t n = read(r->fd, buffer, sizeof buffer);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			if (buffer[i] != data[(at + (size_t)i) % SIZE])
				r->right = false;
		at += (size_t)n;
	}
	r->right = r->right && at == r->want;
	return NULL;
}

/* Sends the file once, by a socket and by a pipe, and looks at every byte. */
static void works(void)
{
	int sv[2];
	pthread_t t;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	struct reading r = { .fd = sv[1], .want = SIZE };
	CHECK(pthread_create(&t, NULL, reader, &r) == 0);
	off_t at = 0;
	while (at < SIZE) {
		ssize_t n = sendfile(sv[0], file, &at, SIZE);
		CHECK(n > 0 || errno == EINTR);
	}
	close(sv[0]);
	pthread_join(t, NULL);
	CHECK(r.right);
	close(sv[1]);
	CHECK(pipe(sv) == 0);
	at = 0;
	CHECK(splice(file, &at, sv[1], NULL, 4096, 0) == 4096);
	unsigned char page[4096];
	CHECK(read(sv[0], page, sizeof page) == sizeof page && memcmp(page, data, sizeof page) == 0);
	close(sv[0]), close(sv[1]);
}

static void nothing_at_start(void)
{
	CHECK(count("/proc/self/task") == 3); /* . and .. and one thread */
	int fds = count("/proc/self/fd");
	char line[512];
	struct stat st;
	for (int fd = 0; fd < 64; fd++)
		if (fd > 2 && fd != file && fstat(fd, &st) == 0) {
			snprintf(line, sizeof line, "/proc/self/fd/%d", fd);
			char target[256] = "";
			CHECK(readlink(line, target, sizeof target - 1) >= 0);
			CHECK(strstr(target, "stats") == NULL);
		}
	struct sigaction sa;
	for (int s = 1; s < 32; s++)
		if (s != SIGALRM && s != SIGKILL && s != SIGSTOP) {
			CHECK(sigaction(s, NULL, &sa) == 0);
			CHECK(sa.sa_handler == SIG_DFL || sa.sa_handler == SIG_IGN);
		}
	works();
	CHECK(count("/proc/self/fd") == fds); /* nor any kept */
	CHECK(count("/proc/self/task") == 3);
}

static void finish_child(pid_t pid)
{
	int status;
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static atomic_bool over;
static void *sender(void *unused)
{
	(void)unused;
	while (!atomic_load(&over))
		works();
	return NULL;
}

static void in_fork(void)
{
	pthread_t t[2];
	works();
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&t[i], NULL, sender, NULL) == 0);
	for (int i = 0; i < 30; i++) { /* in the middle of others' calls */
		pid_t pid = fork();
		if (pid == 0) {
			works();
			pid_t grandchild = fork();
			if (grandchild == 0) {
				works();
				_exit(0);
			}
			finish_child(grandchild);
			_exit(0);
		}
		finish_child(pid);
	}
	atomic_store(&over, true);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}

static volatile sig_atomic_t faults, calls;
static int sig_sv[2];

static void on_fault(int s)
{
	(void)s;
	faults++;
	_exit(9);
}
static void on_sys(int s)
{
	(void)s;
	faults++;
}

static void on_alarm(int s)
{
	int saved = errno;
	off_t at = 0;
	char buffer[4096];
	(void)s;
	if (sendfile(sig_sv[0], file, &at, sizeof buffer) == sizeof buffer) {
		CHECK(read(sig_sv[1], buffer, sizeof buffer) == sizeof buffer);
		CHECK(memcmp(buffer, data, sizeof buffer) == 0);
		calls++;
	}
	errno = saved;
}

static void reentry(void)
{
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct itimerval every = { { 0, 300 }, { 0, 300 } }, never = { { 0, 0 }, { 0, 0 } };
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sig_sv) == 0);
	sigaction(SIGVTALRM, &sa, NULL);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	for (int i = 0; i < 3000 && calls < 300; i++)
		works();
	setitimer(ITIMER_REAL, &never, NULL);
	printf("%d calls from a handler\n", (int)calls);
	CHECK(calls >= 100);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* errno stays as it was where a call succeeds. */
static void keeps_errno(void)
{
	int sv[2];
	off_t at = 0;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	errno = 4711;
	CHECK(sendfile(sv[0], file, &at, 1000) == 1000 && errno == 4711);
	CHECK(sendfile(sv[0], file, NULL, 0) == 0 && errno == 4711);
	at = SIZE;
	CHECK(sendfile(sv[0], file, &at, 1000) == 0 && errno == 4711);
}

/* A blocking call on a file that is not in memory: the disk works while the peer reads. */
static void cold(void)
{
	enum { LENGTH = 48 << 20 };
	char name[] = "./snapsend-cold-XXXXXX";
	int big = mkstemp(name);
	CHECK(big >= 0);
	unlink(name);
	for (int i = 0; i < LENGTH; i += SIZE)
		CHECK(write(big, data, SIZE) == SIZE);
	double took[2] = { 1e9, 1e9 };
	for (int round = 0; round < 6; round++) {
		int sv[2];
		pthread_t t;
		fsync(big);
		posix_fadvise(big, 0, 0, POSIX_FADV_DONTNEED);
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
		struct reading r = { .fd = sv[1], .want = LENGTH };
		CHECK(pthread_create(&t, NULL, reader, &r) == 0);
		double begin = now();
		off_t at = 0;
		while (at < LENGTH) {
			ssize_t n = round % 2 ? sendfile(sv[0], big, &at, (size_t)(LENGTH - at))
					      : (ssize_t)syscall(SYS_sendfile, sv[0], big, &at, (size_t)(LENGTH - at));
			CHECK(n > 0);
		}
		pthread_join(t, NULL);
		double one = now() - begin;
		if (one < took[round % 2])
			took[round % 2] = one;
		CHECK(r.right);
		close(sv[0]), close(sv[1]);
	}
	printf("cold, 48 MiB: the kernel's sendfile %.0f ms, ours %.0f ms\n", took[0] * 1e3, took[1] * 1e3);
	CHECK(took[1] < took[0] * 2 + 0.1); /* a shared machine: a bound for the grossly wrong */
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	char name[] = "/tmp/snapsend-manners-XXXXXX";
	alarm(60);
	file = mkstemp(name);
	CHECK(file >= 0);
	unlink(name);
	for (int i = 0; i < SIZE; i++)
		data[i] = (unsigned char)(i * 7 + i / 256);
	CHECK(write(file, data, SIZE) == SIZE);
	if (strcmp(what, "nothing_at_start") == 0) {
		nothing_at_start();
	} else if (strcmp(what, "fork") == 0) {
		in_fork();
	} else if (strcmp(what, "daemon") == 0) {
		int p[2];
		CHECK(pipe(p) == 0);
		works();
		pid_t pid = fork();
		if (pid == 0) {
			if (daemon(0, 0) != 0)
				_exit(1);
			works();
			CHECK(write(p[1], "!", 1) == 1);
			_exit(0);
		}
		close(p[1]);
		char c = 0;
		CHECK(read(p[0], &c, 1) == 1 && c == '!');
		finish_child(pid);
	} else if (strcmp(what, "chroot") == 0) {
		char dir[] = "/tmp/snapsend-root-XXXXXX";
		if (geteuid() != 0) {
			printf("SKIP: not root\n");
			return 77;
		}
		CHECK(mkdtemp(dir) != NULL && chdir(dir) == 0 && rmdir(dir) == 0 && chroot(".") == 0);
		CHECK(setgid(65534) == 0 && setuid(65534) == 0);
		works();
	} else if (strcmp(what, "clearenv") == 0) {
		clearenv();
		extern char **environ;
		environ = NULL;
		works();
	} else if (strcmp(what, "close_all") == 0) {
		int kept;
		works();
		kept = fcntl(file, F_DUPFD, 900);
		for (int fd = 0; fd < 900; fd++)
			close(fd);
		file = kept;
		works();
		for (int fd = 0; fd < 900; fd++)
			close(fd);
		works();
	} else if (strcmp(what, "own_handlers") == 0) {
		signal(SIGSEGV, on_fault);
		signal(SIGBUS, on_fault);
		signal(SIGSYS, on_sys);
		works();
		CHECK(sendfile(1, file, (off_t *)8, 10) == -1 && errno == EFAULT);
		int sv[2];
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
		CHECK(sendfile(sv[0], file, (off_t *)8, 10) == -1 && errno == EFAULT);
		CHECK(ftruncate(file, 100) == 0); /* no mapping of it to fault in */
		off_t at = 0;
		CHECK(sendfile(sv[0], file, &at, SIZE) == 100);
		CHECK(faults == 0);
	} else if (strcmp(what, "reentry") == 0) {
		reentry();
	} else if (strcmp(what, "errno") == 0) {
		keeps_errno();
	} else if (strcmp(what, "cold") == 0) {
		cold();
	} else {
		dprintf(2, "which?\n");
		return 2;
	}
	return 0;
}
