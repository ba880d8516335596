/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "measure.h"

#include <inttypes.h>
#include <unistd.h>

#define FIRST_LIMIT_NS 5000000000u /* for what comes first, beyond the time of the run */

static const struct setup *setup;
static struct shared *shared;
static clockid_t server_clock;
static uint64_t total_bytes, total_cold, checked; /* since the start */
static uint64_t begin_time, begin_bytes, begin_cold, begin_server, begin_client, begin_machine;

void prepare_measuring(const struct setup *the_setup, struct shared *the_shared)
{
	setup = the_setup;
	shared = the_shared;
	if (clock_getcpuclockid(shared->server, &server_clock) != 0)
		fail(shared, "client: the server's CPU clock");
}

void count_received(uint64_t bytes)
{
	total_bytes += bytes;
}

void count_cold(uint64_t bytes)
{
	total_cold += bytes;
}

uint64_t total_received(void)
{
	return total_bytes;
}

void count_checked(uint64_t words)
{
	checked += words;
}

uint64_t server_time(void)
{
	return nanoseconds(server_clock);
}

uint64_t begin_measuring(uint64_t now)
{
	begin_time = now;
	begin_bytes = total_bytes;
	begin_cold = total_cold;
	begin_machine = machine_cpu();
	begin_server = server_time();
	begin_client = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
	atomic_store(&shared->measuring, 1);
	return now + (uint64_t)(setup->seconds * 1e9);
}

bool is_overdue(uint64_t now, uint64_t limit)
{
	return now >= limit && now - limit >= FIRST_LIMIT_NS;
}

bool is_over(uint64_t now, uint64_t limit)
{
	return now >= limit && (total_bytes > begin_bytes || is_overdue(now, limit));
}

void end_measuring(uint64_t now)
{
	uint64_t one = 1;

	shared->server_cpu = server_time() - begin_server;
	shared->client_cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - begin_client;
	shared->machine_cpu = machine_cpu() - begin_machine;
	shared->seconds = (double)(now - begin_time) / 1e9;
	shared->bytes = total_bytes - begin_bytes;
	shared->cold_bytes = total_cold - begin_cold;
	shared->checked = checked;
	atomic_store(&shared->stopping, 1);
	if (write(setup->control, &one, sizeof(one)) != sizeof(one))
		fail(shared, "client: eventfd: %s", strerror(errno));
	if (checked == 0)
		fail(shared, "client: nothing has come (the library said EAGAIN %" PRIu64 " times)",
		     atomic_load(&shared->refusals));
}
