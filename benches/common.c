/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "common.h"

#include <inttypes.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(EXIT_FAILURE);
}

__attribute__((format(printf, 3, 0), noreturn)) static void end_child(struct shared *shared, int status,
								      const char *format, va_list arguments)
{
	int before = 0;

	/* The first message counts: the other side fails because this one did. */
	if (atomic_compare_exchange_strong(&shared->failed, &before, status))
		vsnprintf(shared->message, sizeof(shared->message), format, arguments);
	_exit(status);
}

void fail(struct shared *shared, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	end_child(shared, EXIT_FAILURE, format, arguments);
}

void skip(struct shared *shared, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	end_child(shared, SKIPPED, format, arguments);
}

/* A reset leaves no TIME_WAIT behind: thousands of connections a minute would use up the ports. */
int new_client_socket(struct shared *shared)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail(shared, "client: socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

uint64_t machine_cpu(void)
{
	uint64_t user = 0, nice = 0, system = 0, idle, iowait, irq = 0, softirq = 0, steal = 0;
	FILE *stat = fopen("/proc/stat", "re");

	if (stat != NULL) {
		if (fscanf(stat,
			   "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
			   " %" SCNu64,
			   &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal) != 8)
			user = nice = system = irq = softirq = steal = 0;
		fclose(stat);
	}
	return (user + nice + system + irq + softirq + steal) * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

static unsigned bucket_of(uint64_t ns)
{
	unsigned shift, index;

	if (ns < HISTOGRAM_STEPS)
		return (unsigned)ns;
	shift = 63u - (unsigned)__builtin_clzll(ns) - 6;
	index = (shift + 1) * HISTOGRAM_STEPS + (unsigned)(ns >> shift & (HISTOGRAM_STEPS - 1));
	return index < HISTOGRAM_SIZE ? index : HISTOGRAM_SIZE - 1;
}

void note_time(struct histogram *histogram, uint64_t ns)
{
	histogram->buckets[bucket_of(ns)]++;
	histogram->count++;
}

double percentile(const struct histogram *histogram, double share)
{
	uint64_t rank = (uint64_t)ceil(share * (double)histogram->count), seen = 0;

	for (unsigned i = 0; i < HISTOGRAM_SIZE && histogram->count > 0; i++) {
		seen += histogram->buckets[i];
		if (seen >= rank && histogram->buckets[i] > 0) {
			unsigned shift = i < HISTOGRAM_STEPS ? 0 : i / HISTOGRAM_STEPS - 1;
			uint64_t base = i < HISTOGRAM_STEPS ? i : HISTOGRAM_STEPS + i % HISTOGRAM_STEPS;

			return (double)((base << shift) + ((uint64_t)1 << shift) / 2);
		}
	}
	return 0;
}
