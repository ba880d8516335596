/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* The library's threads block every signal and carry its name; the caller's mask stays as it is. */
#include "common.h"

static const char *status_line(const char *task, const char *name, char *line, size_t size)
{
	char path[300];
	snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
	FILE *file = fopen(path, "re");
	if (file == NULL)
		return NULL;
	const char *found = NULL;
	while (found == NULL && fgets(line, (int)size, file) != NULL)
		if (strncmp(line, name, strlen(name)) == 0)
			found = line + strlen(name);
	fclose(file);
	if (found != NULL)
		line[strcspn(line, "\n")] = 0;
	return found;
}

static atomic_int wrong_thread;
static pthread_t main_thread;

static void handler(int sig)
{
	(void)sig;
	if (!pthread_equal(pthread_self(), main_thread))
		atomic_fetch_add(&wrong_thread, 1);
}

int main(void)
{
	int sv[2], named = 0;
	char self[32], line[256];
	sigset_t before, after;
	snprintf(self, sizeof self, "%d", (int)getpid());
	main_thread = pthread_self();
	CHECK_EQ(count_threads(), 1);
	struct sigaction dispositions[65];
	for (int sig = 1; sig <= SIGRTMAX; sig++) /* not those that the C library keeps for itself */
		if (sigaction(sig, NULL, &dispositions[sig]) != 0)
			dispositions[sig].sa_handler = SIG_ERR;
	SYS(pthread_sigmask(SIG_SETMASK, NULL, &before));
	snapsend_t *ctx = create_ctx();
	unix_pair(sv);
	int file = temp_file(4 * MIB, 1);
	struct reader reader;
	reader_init(&reader, sv[1], 3 * 4 * MIB);
	reader_go(&reader);
	for (uint32_t flags = 0; flags < 3; flags++) { /* whatever threads it makes, it makes them now */
		struct snapsend_request request = make_request(sv[0], file, 0, 4 * MIB);
		request.flags = flags;
		posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
		wait_done(ctx, submit_ok(ctx, &request), NULL);
	}
	reader_join(&reader);
	wait_threads(2, 500);

	DIR *tasks = opendir("/proc/self/task");
	CHECK(tasks != NULL);
	for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
		if (task->d_name[0] == '.' || strcmp(task->d_name, self) == 0)
			continue;
		const char *name = status_line(task->d_name, "Name:\t", line, sizeof line);
		if (name == NULL || strncmp(name, "iou-", 4) == 0) /* gone, or the kernel's own workers */
			continue;
		printf("thread %s", name);
		if (strstr(name, "snapsend") == NULL)
			fail("a thread named \"%s\"", name);
		named++;
		const char *mask = status_line(task->d_name, "SigBlk:\t", line, sizeof line);
		CHECK(mask != NULL);
		uint64_t blocked = strtoull(mask, NULL, 16);
		printf(" blocks %" PRIx64 "\n", blocked);
		for (int sig = 1; sig <= 64; sig++) {
			/* Two that nobody can block, and those that the C library keeps for itself. */
			if (sig == SIGKILL || sig == SIGSTOP || (sig > 31 && sig < SIGRTMIN))
				continue;
			if (!(blocked >> (sig - 1) & 1))
				fail("signal %d is not blocked", sig);
		}
	}
	closedir(tasks);
	CHECK_GE(named, 1);

	/* The caller's mask, and where signals to the process go. */
	SYS(pthread_sigmask(SIG_SETMASK, NULL, &after));
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		CHECK_EQ(sigismember(&after, sig), sigismember(&before, sig));
	struct sigaction sa, old;
	memset(&sa, 0, sizeof sa);
	sa.sa_handler = handler;
	SYS(sigaction(SIGUSR1, &sa, &old));
	CHECK(old.sa_handler == SIG_DFL);
	for (int i = 0; i < 200; i++)
		SYS(kill(getpid(), SIGUSR1));
	CHECK_EQ(atomic_load(&wrong_thread), 0);

	/* Dispositions are untouched. */
	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		if (sig == SIGUSR1 || sigaction(sig, NULL, &old) != 0)
			continue;
		if (old.sa_handler != dispositions[sig].sa_handler)
			fail("the handler of signal %d was changed", sig);
	}
	destroy_ctx(ctx);
	return 0;
}
