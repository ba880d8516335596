/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Any call and any completion fails with anything it can give: one in 1000, 100, 30. FAULT_SECONDS and FAULT_SEED
 * in the environment: for how long, and with which seed to begin. */
#include "faults_scenario.h"

static unsigned number_from(const char *name, unsigned otherwise)
{
	const char *value = getenv(name);
	return value != NULL && *value ? (unsigned)atoi(value) : otherwise;
}

int main(void)
{
	static const unsigned rates[] = { 1000, 100, 30 };
	struct scenario scenario = scenario_files();
	unsigned seed = number_from("FAULT_SEED", 1), runs = 0, given = 0, deaths = 0, created = 0;
	for (int64_t end = now_ms() + 1000 * number_from("FAULT_SECONDS", 8); now_ms() < end; seed++) {
		struct fault_plan plan = { .at_random = rates[seed % COUNT_OF(rates)], .seed = seed };
		scenario.far = seed % 4 == 0;
		snprintf(scenario.what, sizeof scenario.what, "one in %u, seed %u", plan.at_random, seed);
		scenario_run(&scenario, plan);
		runs++, given += atomic_load(&faults_given), deaths += scenario.dead, created += scenario.ctx != NULL;
	}
	printf("%u runs, %u faults, %u contexts made, of which %u died\n", runs, given, created, deaths);
	CHECK_GT(given, runs);
	CHECK_GT(created, runs / 4);
	return 0;
}
