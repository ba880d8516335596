/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An io_uring with two entries and room for two completions: the submission queue is full all the time, and
 * completions overflow into the kernel's backlog. Nothing is lost, with faults on top and without. */
#include "faults_scenario.h"

int main(void)
{
	struct scenario scenario = scenario_files();
	if (strcmp(engine_name(), "portable") == 0)
		skip("no ring in this engine");
	fault_ring_entries = 2;
	for (int i = 0; i < 100; i++) {
		struct fault_plan plan = { .at_random = i < 40 ? 0 : 500, .seed = (unsigned)i };
		scenario.far = i % 4 == 3;
		snprintf(scenario.what, sizeof scenario.what, "tiny ring, run %d", i);
		scenario_run(&scenario, plan);
	}
	CHECK_GT(fault_overflows, 0);
	printf("%u times completions had overflowed\n", fault_overflows);
	return 0;
}
