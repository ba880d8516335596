/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Every system call of the library's, and every completion of its io_uring, fails with every error that it can
 * give, one at a time: the first calls of each kind, then ever more sparsely, and on a busy machine only the first
 * two. FAULTS=all: every single one. FAULTS=kind:errno:n (as the message of a failure says it): that one alone. */
#include "faults_scenario.h"

static struct scenario scenario;
static struct workers workers;
static int64_t begun;

#define BUSY_MS 45000 /* the thorough part takes no longer */

static void one(enum fault_kind kind, int error, unsigned number)
{
	struct fault_plan plan = { .kind = kind, .first = number, .last = number, .error = error };
	snprintf(scenario.what, sizeof scenario.what, "%s:%s:%u%s", fault_kinds[kind].name, fault_errno_name(error),
		 number, scenario.far ? " (far peers)" : "");
	int64_t begin = now_ms();
	scenario_run(&scenario, plan);
	workers.counts->runs++;
	workers.counts->hits += atomic_load(&faults_given);
	if (getenv("FAULTS") != NULL || now_ms() - begin > 3000)
		printf("%s: %lld ms%s\n", scenario.what, (long long)(now_ms() - begin), scenario.dead ? ", dead" : "");
}

static unsigned next_number(unsigned number, bool all)
{
	return all || number < 4 ? number + 1 : number + number / 2;
}

static void all_of(enum fault_kind kind, unsigned count, bool all)
{
	for (int i = 0; i < errnos_of(kind); i++)
		for (unsigned number = 1; number <= count; number = next_number(number, all)) {
			if (!all && number > 2 && now_ms() - begun > BUSY_MS)
				workers.counts->left_out++;
			else
				one(kind, fault_kinds[kind].errnos[i], number);
		}
}

static void named(const char *name)
{
	for (int kind = 0; kind < FAULT_KINDS_COUNT; kind++)
		for (int i = 0; i < errnos_of((enum fault_kind)kind); i++) {
			char start[160];
			snprintf(start, sizeof start, "%s:%s:", fault_kinds[kind].name,
				 fault_errno_name(fault_kinds[kind].errnos[i]));
			if (is_for_worker(&workers, kind) && strncmp(name, start, strlen(start)) == 0)
				one((enum fault_kind)kind, fault_kinds[kind].errnos[i],
				    (unsigned)atoi(name + strlen(start)));
		}
}

/* How often the scenario makes each kind of call when nothing fails. */
static void count_calls(unsigned calls[FAULT_KINDS_COUNT])
{
	snprintf(scenario.what, sizeof scenario.what, "nothing fails");
	for (int i = 0; i < 2; i++)
		scenario_run(&scenario, (struct fault_plan){ 0 });
	for (int kind = 0; kind < FAULT_KINDS_COUNT; kind++)
		calls[kind] = atomic_load(&fault_calls[kind]);
}

int main(void)
{
	const char *wish = getenv("FAULTS");
	begun = now_ms();
	workers = start_workers();
	scenario = scenario_files();
	for (int far = 0; far < 2; far++) {
		unsigned calls[FAULT_KINDS_COUNT];
		scenario.far = far == 1;
		count_calls(calls);
		if (wish != NULL && strcmp(wish, "all") != 0) {
			named(wish);
			continue;
		}
		for (int kind = 0; kind < FAULT_KINDS_COUNT; kind++) {
			bool differs = kind == K_CQE_ZEROCOPY || kind == K_NOTIFICATION || kind == K_CQE_POLL ||
				       kind == K_URING_ENTER || kind == K_MINCORE || kind == K_MMAP || kind == K_STATX;
			if (!is_for_worker(&workers, kind) || (far && !differs))
				continue; /* another worker's, or as near */
			int64_t begin = now_ms();
			all_of((enum fault_kind)kind, calls[kind], wish != NULL);
			if (calls[kind] > 0)
				printf("%-45s %4u calls, %5lld ms\n", fault_kinds[kind].name, calls[kind],
				       (long long)(now_ms() - begin));
		}
	}
	if (scenario.died)
		workers.counts->deaths++;
	end_workers(&workers);
	printf("%u runs, %u faults, %u left out%s\n", workers.counts->runs, workers.counts->hits,
	       workers.counts->left_out, workers.counts->deaths > 0 ? "; some contexts died and said so" : "");
	/* Which calls are made differs a little from run to run. */
	CHECK(wish != NULL || workers.counts->hits > workers.counts->runs / 2);
	return 0;
}
