/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * bench: compares the library with the other ways that a server has, in one run.
 *
 *	bench [--quick] [--workload bulk,answers,cold,stalled,wire,lan] [--way NAME,...] [--size N,...]
 *	      [--connections N,...] [--stalled N] [--rounds N] [--seconds-per-run S] [--csv FILE]
 *	      [--dir DIRECTORY] [--pin] [--calm PERCENT] [--patience S]
 *	      [--congestion-control NAME]
 *
 * Ways of the library: submit, submit_many (only if named, or with --quick), try_send; submit_fixed and try_fixed, the
 * same with registered descriptors; on the wire and the LAN also submit with SNAPSEND_ZEROCOPY: submit_zc with registered
 * descriptors, submit_zc_unregistered without, submit_zc_new_file with a file that is opened for each operation.
 * SNAPSEND_ENGINE selects the engine.
 *
 * Other ways: sendfile, splice (splice64k, splice1m), pread, mmap, zerocopy, uring_splice, uring_zc; on the wire also
 * uring_zc_plain; on the wire and the LAN raw_ring.  The LAN has neither mmap nor the other io_uring ways.
 *
 * A case is a workload with a size and a number of connections.  In each case all ways run one after another, for
 * several rounds.  Each round begins with another way, so that other load on the machine affects all of them.  Figures
 * are medians of the rounds.  Server and client are separate processes, started anew for each run.  Their CPU time is
 * measured separately: for all threads, the library's and io_uring's included, and only for the measured time.  Samples
 * of the data that arrives are compared word by word; wrong data ends the benchmark.
 *
 * --calm PERCENT: a run waits, at most --patience seconds for a case, until other programs use no more than this share
 * of the machine.  The column "others" gives their share.
 *
 * --congestion-control NAME: used instead of the machine's, and on the wire instead of Reno.  One that paces, such as
 * bbr, sets a timer for each burst, which costs most for the ways that send most at once.
 *
 * bench link and bench get run other programs on the wire and the LAN: see link.c.
 *
 * Workloads:
 *	bulk     one connection, operations back to back; the reader copies
 *	answers  each connection sends a request, reads a header of 64 bytes and the range, and repeats
 *	cold     16 connections read ranges that are not in the page cache, 16 others warm answers of 16 KiB;
 *	         and the warm ones alone
 *	stalled  64 connections beside thousands that send requests and do not read; and the 64 alone
 *	wire     bulk on 1 and on 64 connections over a link that takes data without touching it, like a network card:
 *	         see wire.c.  As root only
 *	lan      answers over a link that copies each frame, like a network card: see lan.c.  As root only
 *
 * The sources, each of which uses only those above it:
 *	common    types, messages between the two ends, time, fatal errors
 *	measure   the client's clock and counts
 *	files     the files that are sent
 *	machine   its processors and its kernel
 *	veth      two network namespaces and a veth pair
 *	wire      a link where zero-copy is real and data is dropped, and its far end
 *	lan       a link where zero-copy is real and data is read
 *	link      these links for other programs: bench link, bench get
 *	client    the readers: bulk, and one request at a time on many connections
 *	connections  the common part of all servers: their connections
 *	classic   the ways that need neither the library nor a ring
 *	library   the library's ways
 *	server    the epoll server
 *	uring     an io_uring by raw system calls
 *	ring      the io_uring ways
 *	raw_ring  the minimum cost of zero-copy from the page cache
 *	ways      the table of ways
 *	options   the command line
 *	run       one run
 *	cases     the list of cases
 *	report    medians, tables, CSV
 *	bench     the order of the runs
 */
#include "cases.h"
#include "common.h"
#include "files.h"
#include "link.h"
#include "options.h"
#include "report.h"
#include "run.h"
#include "ways.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static bool unusable[WAYS_MAX]; /* in the current case */
static int failures, skips;

/* A way that cannot run is reported and counted, never omitted silently. */
static void count_skip(const char *what, const char *way, const char *why)
{
	fprintf(stderr, "bench: SKIP %s%s%s: %s\n", what, way != NULL ? ", " : "", way != NULL ? way : "", why);
	skips++;
}

static void count_skipped_workload(const char *workload, const char *why)
{
	count_skip(workload, NULL, why);
}

/* With --calm P, a run waits until others use no more than P percent of the machine, and is done again when
 * they have used more meanwhile; the calmest one counts.  That takes at most --patience S for each case. */
static double patience_left;

static void wait_for_calm(void)
{
	uint64_t processors = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);

	while (options.calm > 0 && patience_left > 0) {
		uint64_t time = nanoseconds(CLOCK_MONOTONIC), busy = machine_cpu();

		usleep(150000);
		busy = machine_cpu() - busy;
		time = nanoseconds(CLOCK_MONOTONIC) - time;
		if ((double)busy <= options.calm * (double)(time * processors))
			return;
		patience_left -= (double)time / 1e9;
	}
}

static int run_calmly(struct one_case *c, struct result *result)
{
	struct result again;
	int status;

	wait_for_calm();
	status = run(&c->setup, result);
	while (status == 0 && options.calm > 0 && result->foreign > options.calm && patience_left > 0) {
		patience_left -= c->setup.seconds + c->setup.warm_up;
		if (c->setup.cold > 0)
			chill_file();
		wait_for_calm();
		status = run(&c->setup, &again);
		if (status == 0 && again.foreign < result->foreign)
			*result = again;
	}
	return status;
}

static void run_way(struct one_case *c, unsigned way, unsigned round, struct result *result)
{
	int status;

	c->setup.way = &ways[way];
	result->valid = false;
	if (c->setup.cold > 0)
		chill_file();
	status = run_calmly(c, result);
	if (status == 0) {
		write_csv(c, way, round, result);
		return;
	}
	if (status == SKIPPED) {
		count_skip(c->name, ways[way].name, run_message());
		unusable[way] = true;
		return;
	}
	fprintf(stderr, "bench: FAILED %s, %s: %s\n", c->name, ways[way].name, run_message());
	failures++;
	/* Figures of what does not work are worth nothing. */
	if (strncmp(run_message(), "WRONG DATA", 10) == 0)
		exit(EXIT_FAILURE);
}

static void run_case(struct one_case *c)
{
	static struct result results[WAYS_MAX][ROUNDS_MAX];
	unsigned chosen[WAYS_MAX], count = 0;

	memset(results, 0, sizeof(results));
	memset(unusable, 0, sizeof(unusable));
	patience_left = options.patience;
	for (unsigned i = 0; i < way_count; i++)
		if (options.ways[i] && !(ways[i].no_stalled && c->setup.workload == STALLED) &&
		    (ways[i].links & c->setup.link) != 0)
			chosen[count++] = i;
	if (c->setup.cold == 0)
		warm_file(c->setup.path == files.huge_path);
	for (unsigned round = 0; round < options.rounds; round++) {
		for (unsigned i = 0; i < count; i++) {
			unsigned way = chosen[(i + round) % count];

			if (!unusable[way])
				run_way(c, way, round, &results[way][round]);
		}
	}
	for (unsigned i = 0; i < count; i++)
		summarise(c, chosen[i], results[chosen[i]]);
	print_case(c);
}

int main(int argc, char **argv)
{
	struct rlimit limit;

	if (argc > 1 && strcmp(argv[1], "link") == 0)
		return run_on_link(argc - 2, argv + 2);
	if (argc > 1 && strcmp(argv[1], "get") == 0)
		return get_by_link(argc - 2, argv + 2);
	parse_options(argc, argv);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
		if (limit.rlim_cur != RLIM_INFINITY && options.stalled + 256 > limit.rlim_cur)
			options.stalled = limit.rlim_cur > 512 ? (unsigned)limit.rlim_cur - 256 : 0;
	}
	signal(SIGPIPE, SIG_IGN);
	make_files(options.dir, options.quick, options.frozen);
	plan_cases(count_skipped_workload);
	print_machine();
	for (int i = 0; i < case_count; i++)
		run_case(&cases[i]);
	print_summary();
	printf("\n%u runs, %d failed, %d skipped\n", run_count(), failures, skips);
	return failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
