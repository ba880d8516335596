/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* 500 processes with one context each, all of which have been used and are idle: under 500 MiB together. */
#include "manners_common.h"

#define PROCESSES 500
#define LENGTH    (2 * MIB)

static void one_process(int file, int ready, int end)
{
	char byte;
	struct reader reader;
	int sv[2];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	time_limit(100);
	snapsend_t *ctx = create_ctx();
	tcp_pair(sv);
	for (uint32_t flags = 0; flags < 3; flags++) { /* none, EAGER, EXACT */
		struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
		request.flags = flags;
		reader_start_check(&reader, sv[1], LENGTH, 0, 101);
		wait_done(ctx, submit_ok(ctx, &request), NULL);
		reader_join(&reader);
	}
	CHECK_EQ(write(ready, "x", 1), 1);
	SYS(read(end, &byte, 1)); /* end of file, for all at once */
	destroy_ctx(ctx);
	test_leave(0);
}

/* Of a process, with its share of what it has in common with others. */
static long pss_kib(pid_t pid)
{
	char path[64], line[256];
	long kib = -1;
	snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
	FILE *rollup = fopen(path, "re");
	if (rollup == NULL)
		skip("no smaps_rollup");
	while (kib < 0 && fgets(line, sizeof line, rollup) != NULL)
		sscanf(line, "Pss: %ld", &kib);
	fclose(rollup);
	CHECK_GE(kib, 0);
	return kib;
}

static long available_kib(void)
{
	char line[256];
	long kib = 0;
	FILE *info = fopen("/proc/meminfo", "re");
	CHECK(info != NULL);
	while (fgets(line, sizeof line, info) != NULL)
		if (sscanf(line, "MemAvailable: %ld", &kib) == 1)
			break;
	fclose(info);
	return kib;
}

int main(void)
{
	static pid_t pids[PROCESSES];
	int ready[2], end[2], status, file = temp_file(LENGTH, 101);
	long total = 0, most = 0;
	time_limit(110);
	SYS(pipe2(ready, O_CLOEXEC));
	SYS(pipe2(end, O_CLOEXEC));
	long before = available_kib();
	for (int i = 0; i < PROCESSES; i++) {
		char byte;
		pids[i] = (pid_t)SYS(fork());
		if (pids[i] == 0) {
			close(end[1]);
			one_process(file, ready[1], end[0]);
		}
		if (i >= 8) /* a few at a time */
			CHECK_EQ(read(ready[0], &byte, 1), 1);
	}
	for (int i = 0; i < 8; i++) {
		char byte;
		CHECK_EQ(read(ready[0], &byte, 1), 1);
	}
	sleep_ms(5000);
	for (int i = 0; i < PROCESSES; i++) {
		long kib = pss_kib(pids[i]);
		total += kib;
		most = kib > most ? kib : most;
	}
	printf("%ld MiB in all, %ld KiB the largest; the machine has %ld MiB less\n", total / 1024, most,
	       (before - available_kib()) / 1024);
	close(end[1]);
	for (int i = 0; i < PROCESSES; i++) {
		SYS(waitpid(pids[i], &status, 0));
		CHECK(ended_well(status));
	}
#ifndef __SANITIZE_ADDRESS__
	CHECK_LT(total, 500 * 1024);
#endif
	return 0;
}
