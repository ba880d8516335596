/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "machine.h"
#include "options.h"

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, unsigned count)
{
	qsort(values, count, sizeof(*values), compare_doubles);
	return count % 2 != 0 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Cold ranges count where there are some. */
static double speed(const struct one_case *c, const struct result *r)
{
	return c->setup.cold > 0 ? r->cold_rate : r->rate;
}

/* On the wire the client's time is the sender's, too, and on the LAN anybody's: see wire.c and lan.c. */
static double cpu_cost(const struct one_case *c, const struct result *r)
{
	return c->setup.link == WIRE  ? r->server_cpu + r->client_cpu
	       : c->setup.link == LAN ? r->machine_cpu
				      : r->server_cpu;
}

void summarise(struct one_case *c, unsigned way, const struct result *results)
{
	static const size_t fields[] = {
		offsetof(struct result, rate),
		offsetof(struct result, cold_rate),
		offsetof(struct result, answers),
		offsetof(struct result, server_cpu),
		offsetof(struct result, client_cpu),
		offsetof(struct result, machine_cpu),
		offsetof(struct result, p50),
		offsetof(struct result, p99),
		offsetof(struct result, p999),
		offsetof(struct result, enters),
		offsetof(struct result, wakeups),
		offsetof(struct result, page_cache),
		offsetof(struct result, foreign),
		offsetof(struct result, zerocopy_notified),
		offsetof(struct result, zerocopy_copied),
	};
	double values[ROUNDS_MAX];
	unsigned count = 0;

	for (unsigned f = 0; f < sizeof(fields) / sizeof(fields[0]); f++) {
		count = 0;
		for (unsigned i = 0; i < options.rounds; i++)
			if (results[i].valid)
				memcpy(&values[count++], (const char *)&results[i] + fields[f], sizeof(double));
		if (count == 0)
			return;
		double m = median(values, count);

		memcpy((char *)&c->median[way] + fields[f], &m, sizeof(m));
	}
	c->median[way].valid = true;
	c->lowest[way] = INFINITY;
	for (unsigned i = 0; i < options.rounds; i++) {
		if (!results[i].valid)
			continue;
		c->lowest[way] = fmin(c->lowest[way], speed(c, &results[i]));
		c->highest[way] = fmax(c->highest[way], speed(c, &results[i]));
	}
}

/* The best rate among ways that are not the library, of one name or group, or of all (NULL). */
static double best_other(const struct one_case *c, const char *name)
{
	double best = 0;

	for (unsigned i = 0; i < way_count; i++) {
		if (ways[i].library || !c->median[i].valid)
			continue;
		if (name == NULL || strcmp(name, ways[i].name) == 0 ||
		    (ways[i].group != NULL && strcmp(name, ways[i].group) == 0))
			best = fmax(best, speed(c, &c->median[i]));
	}
	return best;
}

static void print_ratio(double a, double b)
{
	if (b > 0 && a > 0)
		printf(" %7.2f", a / b);
	else
		printf(" %7s", "-");
}

static void print_row(const struct one_case *c, const struct one_case *alone, unsigned way)
{
	const struct result *m = &c->median[way];
	char span[32];

	snprintf(span, sizeof(span), "%.2f-%.2f", c->lowest[way], c->highest[way]);
	printf("%-22s %7.2f %15s", ways[way].name, speed(c, m), span);
	if (c->setup.workload == BULK)
		printf(" %9s", "-");
	else
		printf(" %9.0f", m->answers);
	print_ratio(speed(c, m), best_other(c, NULL));
	printf(" %8.3f %8.3f %8.3f", m->server_cpu, m->client_cpu, m->machine_cpu);
	if (c->setup.workload == BULK)
		printf(" %8s %8s %8s", "-", "-", "-");
	else
		printf(" %8.0f %8.0f %8.0f", m->p50, m->p99, m->p999);
	if (ways[way].library && !isnan(m->enters))
		printf(" %7.3f %7.3f", m->enters, m->wakeups);
	else
		printf(" %7s %7s", "-", "-");
	printf(" %5.0f%%", m->foreign * 100);
	if (alone != NULL && alone->median[way].p99 > 0)
		printf(" %10.2f", m->p99 / alone->median[way].p99);
	if (c->setup.link != LOOPBACK && ways[way].library)
		printf(" %9.0f%%", m->page_cache * 100);
	else if (c->setup.link != LOOPBACK)
		printf(" %10s", "-");
	if (c->setup.link != LOOPBACK && m->zerocopy_notified > 0)
		printf(" %4.0f of %.0f", m->zerocopy_notified - m->zerocopy_copied, m->zerocopy_notified);
	printf("\n");
}

void print_machine(void)
{
	printf("%s, Linux %s\n", processor_name(), kernel_release());
}

void print_case(const struct one_case *c)
{
	const struct one_case *alone = c->alone >= 0 ? &cases[c->alone] : NULL;

	printf("\n%s, %s\n", c->name, run_congestion_control());
	printf("%-22s %7s %15s %9s %7s %8s %8s %8s %8s %8s %8s %7s %7s %6s%s\n", "way", "GB/s", "min-max", "answers/s",
	       "/best", "srv s/GB", "cli s/GB", "all s/GB", "p50 us", "p99 us", "p99.9 us", "enters", "wakeups",
	       "others",
	       alone != NULL               ? "  p99/alone"
	       : c->setup.link != LOOPBACK ? " page cache not copied"
					   : "");
	for (unsigned i = 0; i < way_count; i++)
		if (c->median[i].valid)
			print_row(c, alone, i);
	fflush(stdout);
}

static const char *const others[] = { "sendfile", "splice",       "pread",    "mmap",
				      "zerocopy", "uring_splice", "uring_zc", "raw_ring" };
#define OTHERS (sizeof(others) / sizeof(others[0]))

static void print_summary_row(const struct one_case *c, unsigned way)
{
	const struct result *m = &c->median[way];
	double cpu = 0;

	printf("%-26s %-22s", c->name, ways[way].name);
	for (unsigned o = 0; o < OTHERS; o++) {
		printf("     ");
		print_ratio(speed(c, m), best_other(c, others[o]));
	}
	printf(" ");
	print_ratio(speed(c, m), best_other(c, NULL));
	for (unsigned o = 0; o < way_count; o++)
		if (strcmp(ways[o].name, "sendfile") == 0 && c->median[o].valid)
			cpu = cpu_cost(c, &c->median[o]);
	printf(" ");
	print_ratio(cpu_cost(c, m), cpu);
	printf("\n");
}

void print_summary(void)
{
	printf("\nThe library's rate divided by that of (splice: the better pipe; cpu: server s/GB divided by sendfile's,\n"
	       "on the wire that of server and client together, on the LAN the whole machine's)\n"
	       "%-26s %-22s",
	       "case", "way");
	for (unsigned i = 0; i < OTHERS; i++)
		printf(" %12s", others[i]);
	printf(" %8s %8s\n", "best", "cpu");
	for (int k = 0; k < case_count; k++)
		for (unsigned i = 0; i < way_count; i++)
			if (ways[i].library && cases[k].median[i].valid)
				print_summary_row(&cases[k], i);
}

void write_csv(const struct one_case *c, unsigned way, unsigned round, const struct result *r)
{
	static const char *const engines[] = { "", "uring", "portable" };
	static bool headed;

	if (options.csv == NULL)
		return;
	if (!headed)
		fputs("case,way,engine,size,connections,cold,stalled,round,gb_per_s,cold_gb_per_s,answers_per_s,"
		      "server_cpu_s_per_gb,client_cpu_s_per_gb,machine_cpu_s_per_gb,p50_us,p99_us,p999_us,enters_per_op,wakeups_per_op,"
		      "others_share,words_checked,page_cache_share,zerocopy_notified,zerocopy_copied,processor,kernel,congestion_control\n",
		      options.csv);
	headed = true;
	fprintf(options.csv, "%s,%s,%s,%" PRIu64 ",%u,%u,%u,%u,%.4f,%.4f,%.1f,%.5f,%.5f,%.5f,%.2f,%.2f,%.2f,", c->name,
		ways[way].name, r->engine < 3 ? engines[r->engine] : "?", c->setup.size, c->setup.connections,
		c->setup.cold, c->setup.stalled, round, r->rate, r->cold_rate, r->answers, r->server_cpu, r->client_cpu,
		r->machine_cpu, r->p50, r->p99, r->p999);
	if (ways[way].library && !isnan(r->enters))
		fprintf(options.csv, "%.4f,%.4f", r->enters, r->wakeups);
	else
		fputs(",", options.csv);
	fprintf(options.csv, ",%.3f,%" PRIu64 ",%.4f,%.0f,%.0f,%s,%s,%s\n", r->foreign, r->checked, r->page_cache,
		r->zerocopy_notified, r->zerocopy_copied, processor_name(), kernel_release(), run_congestion_control());
	fflush(options.csv);
}
