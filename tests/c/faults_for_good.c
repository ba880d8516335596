/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Each kind of call fails with each of its errors for good, from the first, the third and the tenth call on; what a
 * kernel says only for a while fails thirty times in a row. The context says that it is dead, or does without. */
#include "faults_scenario.h"

static struct scenario scenario;
static struct workers workers;

/* Said for good, these would keep any program waiting: "not now". io_uring_enter is given up all the same, after
 * seconds. */
static bool takes_long(enum fault_kind kind, int error)
{
	return kind == K_URING_ENTER && (error == EAGAIN || error == EBUSY);
}

static bool passes(enum fault_kind kind, int error)
{
	if (kind == K_URING_ENTER)
		return error == EINTR || error == SPURIOUS;
	switch (error) {
	case EINTR:
	case EAGAIN:
	case SPURIOUS:
	case LATE:
	case ETOOMANYREFS: return true;
	case ENOMEM:
	case ENOBUFS:
		return kind == K_SEND || kind == K_CQE_SEND || kind == K_CQE_ZEROCOPY || kind == K_CQE_POLL ||
		       kind == K_BELL || kind == K_CQE_MULTIPOLL || kind == K_CLEAR_BELL || kind == K_SEND_BYTES;
	case EINVAL:
	case ECANCELED: return kind == K_CQE_POLL || kind == K_CQE_MULTIPOLL;
	default: return false;
	}
}

static void one(enum fault_kind kind, int error, unsigned first)
{
	bool passing = passes(kind, error);
	struct fault_plan plan = {
		.kind = kind, .first = first, .last = passing ? first + 29 : UINT_MAX, .error = error
	};
	snprintf(scenario.what, sizeof scenario.what, "%s:%s from %u on%s%s", fault_kinds[kind].name,
		 fault_errno_name(error), first, passing ? ", for a while" : "", scenario.far ? " (far peers)" : "");
	int64_t begin = now_ms();
	scenario_run(&scenario, plan);
	workers.counts->runs++;
	workers.counts->deaths += scenario.dead;
	if (now_ms() - begin > 3000)
		printf("%s: %lld ms%s\n", scenario.what, (long long)(now_ms() - begin), scenario.dead ? ", dead" : "");
}

/* Made only, or mostly, where peers are on other machines. */
static bool is_far(enum fault_kind kind)
{
	return kind == K_CQE_ZEROCOPY || kind == K_NOTIFICATION || kind == K_MINCORE || kind == K_DISCONNECT;
}

int main(int argc, char **argv)
{
	static const unsigned firsts[] = { 1, 3, 10 };
	const char *only = argc > 1 ? argv[1] : NULL;
	time_limit(60);
	workers = start_workers();
	scenario = scenario_files();
	for (int kind = 0; kind < FAULT_KINDS_COUNT; kind++) {
		if (only != NULL && strcmp(only, fault_kinds[kind].name) != 0)
			continue;
		for (int i = 0; i < errnos_of((enum fault_kind)kind); i++)
			for (size_t first = 0; first < COUNT_OF(firsts); first++) {
				if (!is_for_worker(&workers, kind + i) ||
				    (takes_long((enum fault_kind)kind, fault_kinds[kind].errnos[i]) &&
				     firsts[first] != 10))
					continue;
				scenario.far = is_far((enum fault_kind)kind);
				one((enum fault_kind)kind, fault_kinds[kind].errnos[i], firsts[first]);
				if (atomic_load(&faults_given) == 0)
					break; /* not so many calls, or none on this engine */
			}
	}
	end_workers(&workers);
	printf("%u runs; %u times the context died and said so\n", workers.counts->runs, workers.counts->deaths);
	CHECK(only != NULL || workers.counts->deaths > 0);
	return 0;
}
