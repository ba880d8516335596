/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * bench: the library beside every other way that a server has today, in one run.
 *
 *	bench [--quick] [--workload bulk,answers,cold,stalled,wire] [--way NAME,...] [--size N,...]
 *	      [--connections N,...] [--stalled N] [--rounds N] [--seconds-per-run S] [--csv FILE]
 *	      [--dir DIRECTORY] [--pin] [--calm PERCENT] [--patience S]
 *	      [--congestion-control NAME]
 *
 * Ways: submit, submit_many (only when named, or with --quick), try_send; sendfile, splice (splice64k, splice1m), pread,
 * mmap, zerocopy, uring_splice, uring_zc, and on the wire uring_zc_plain.  The library's engine is chosen by SNAPSEND_ENGINE.
 *
 * For each case (a workload with a size and a number of connections) all ways run one after the other,
 * and that for several rounds, each beginning with another way: what else the machine does meets all of
 * them alike.  Figures are medians over the rounds.  Server and client are processes of their own, made
 * anew for each run, so that the CPU time of each can be told: for all threads, the library's and
 * io_uring's included, and only for the time that counts.  Samples of what arrives are checked word by word;
 * wrong data ends everything.
 *
 * --calm PERCENT makes runs wait, at most --patience seconds for a case, until others use no more than so much of
 * the machine; the column "others" says how much they had.
 *
 * --congestion-control NAME, on loopback, instead of what the machine has.  One that paces, as bbr does, sets a timer for
 * each burst, which meets most who send most at once.
 *
 * Workloads:
 *	bulk     one connection, operations back to back; the reader copies
 *	answers  each connection asks, reads a header of 64 bytes and the range, and asks again
 *	cold     16 connections read ranges that are not in the page cache, 16 others warm answers of 16 KiB;
 *	         and the warm ones alone
 *	stalled  64 connections beside thousands that ask and do not read; and the 64 alone
 *	wire     bulk on 1 and on 64 connections over a link that takes data without touching it, as a network card
 *	         does: see wire.c.  As root only
 *
 * The sources, each of which uses only those above it:
 *	common    types, what the two ends say to each other, time, giving up
 *	measure   the client's clock and counts
 *	files     the files that are sent
 *	wire      a link where zero-copy is real, and its far end
 *	client    the readers: bulk, and one question at a time on many connections
 *	connections  what all servers do with a connection
 *	classic   the ways that need neither the library nor a ring
 *	server    the epoll server, and the library
 *	ring      the io_uring ways, by raw system calls
 *	ways      the table of ways
 *	options   the command line
 *	run       one run
 *	cases     which runs there are to be
 *	report    medians, tables, CSV
 *	bench     the order of the runs
 */
#include "cases.h"
#include "common.h"
#include "files.h"
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

static bool unusable[WAYS_MAX]; /* in the case in hand */
static int failures, skips;

/* What cannot run here is said and counted, never left out in silence. */
static void count_skip(const char *what, const char *way, const char *why)
{
	fprintf(stderr, "bench: SKIP %s%s%s: %s\n", what, way != NULL ? ", " : "", way != NULL ? way : "", why);
	skips++;
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
		    (c->setup.wire || !ways[i].wire_only))
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
	const char *why_not;

	parse_options(argc, argv);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
		if (limit.rlim_cur != RLIM_INFINITY && options.stalled + 256 > limit.rlim_cur)
			options.stalled = limit.rlim_cur > 512 ? (unsigned)limit.rlim_cur - 256 : 0;
	}
	signal(SIGPIPE, SIG_IGN);
	make_files(options.dir, options.quick);
	why_not = plan_cases();
	if (why_not != NULL)
		count_skip("wire", NULL, why_not);
	for (int i = 0; i < case_count; i++)
		run_case(&cases[i]);
	print_summary();
	printf("\n%u runs, %d failed, %d skipped\n", run_count(), failures, skips);
	return failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
