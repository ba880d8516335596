/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "options.h"

#include <getopt.h>
#include <stdlib.h>

struct options options = { .stalled = 10000, .rounds = 5, .seconds = 1.0, .patience = 30, .dir = "/var/tmp" };

/* What the command line has, so that --quick does not change it. */
static struct {
	bool workload, way, rounds, seconds, stalled;
} given;

/* 65536, 64K, 1M, 8G */
static uint64_t parse_number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (end == text || *text == '-')
		die("not a number: %s", text);
	if (*end == 'k' || *end == 'K')
		n *= KIB, end++;
	else if (*end == 'm' || *end == 'M')
		n *= MIB, end++;
	else if (*end == 'g' || *end == 'G')
		n *= GIB, end++;
	if (*end != '\0')
		die("not a number: %s", text);
	return n;
}

static void each_of(char *list, void (*take)(const char *word))
{
	for (char *word = strtok(list, ","); word != NULL; word = strtok(NULL, ","))
		take(word);
}

static void take_workload(const char *word)
{
	static const char *const names[] = { "bulk", "answers", "cold", "stalled", "wire", "lan" };

	for (unsigned i = 0; i < WORKLOADS; i++) {
		if (strcmp(word, names[i]) == 0) {
			options.workloads[i] = true;
			return;
		}
	}
	die("no such workload: %s", word);
}

static void take_way(const char *word)
{
	bool found = false;

	for (unsigned i = 0; i < way_count; i++) {
		if (strcmp(word, ways[i].name) == 0 || (ways[i].group != NULL && strcmp(word, ways[i].group) == 0))
			options.ways[i] = found = true;
	}
	if (!found)
		die("unknown way %s", word);
}

static void take_size(const char *word)
{
	uint64_t n = parse_number(word);

	if (n == 0 || options.size_count == LIST_MAX)
		die("invalid --size %s", word);
	options.sizes[options.size_count++] = n;
}

static void take_connections(const char *word)
{
	uint64_t n = parse_number(word);

	if (n == 0 || n > 16384 || options.connection_count == LIST_MAX)
		die("invalid --connections %s (use 1 to 16384)", word);
	options.connections[options.connection_count++] = (unsigned)n;
}

static void take_frozen(const char *word)
{
	if (strcmp(word, "memory") != 0 && strcmp(word, "squashfs") != 0)
		die("unknown --frozen %s (use memory or squashfs)", word);
	options.frozen = strcmp(word, "memory") == 0 ? IN_MEMORY : ON_SQUASHFS;
}

static void usage(FILE *out)
{
	fputs("bench [--quick] [--workload bulk,answers,cold,stalled,wire,lan] [--way NAME,...] [--size N,...]\n"
	      "      [--connections N,...] [--stalled N] [--rounds N] [--seconds-per-run S] [--csv FILE]\n"
	      "      [--dir DIRECTORY] [--pin] [--calm PERCENT] [--patience S]\n"
	      "      [--congestion-control NAME] [--frozen memory|squashfs]\nways:",
	      out);
	for (unsigned i = 0; i < way_count; i++)
		fprintf(out, " %s", ways[i].name);
	fputs("\n", out);
}

static void take_option(int c)
{
	switch (c) {
	case 'q': options.quick = true; break;
	case 'w':
		each_of(optarg, take_workload);
		given.workload = true;
		break;
	case 'y':
		each_of(optarg, take_way);
		given.way = true;
		break;
	case 's': each_of(optarg, take_size); break;
	case 'c': each_of(optarg, take_connections); break;
	case 't':
		options.stalled = (unsigned)smaller(parse_number(optarg), 16384);
		given.stalled = true;
		break;
	case 'r':
		options.rounds = (unsigned)smaller(parse_number(optarg), ROUNDS_MAX);
		given.rounds = true;
		break;
	case 'S':
		options.seconds = strtod(optarg, NULL);
		given.seconds = true;
		break;
	case 'o':
		options.csv = strcmp(optarg, "-") == 0 ? stdout : fopen(optarg, "we");
		if (options.csv == NULL)
			die("%s: %s", optarg, strerror(errno));
		break;
	case 'd': options.dir = optarg; break;
	case 'C': options.calm = strtod(optarg, NULL) / 100; break;
	case 'P': options.patience = strtod(optarg, NULL); break;
	case 'g': options.congestion_control = optarg; break;
	case 'p': options.pin = true; break;
	case 'f': take_frozen(optarg); break;
	case 'h': usage(stdout); exit(EXIT_SUCCESS);
	default: usage(stderr); exit(EXIT_FAILURE);
	}
}

static void fill_defaults(void)
{
	for (unsigned i = 0; i < WORKLOADS && !given.workload; i++)
		options.workloads[i] = true;
	for (unsigned i = 0; i < way_count && !given.way; i++)
		options.ways[i] = options.quick || strcmp(ways[i].name, "submit_many") != 0;
	if (options.quick && !given.rounds)
		options.rounds = 1;
	if (options.quick && !given.seconds)
		options.seconds = 0.1;
	if (options.quick && !given.stalled)
		options.stalled = 1000;
	if (options.rounds == 0 || !(options.seconds >= 0.05 && options.seconds <= 60))
		die("--rounds from 1 to %d, --seconds-per-run from 0.05 to 60", ROUNDS_MAX);
}

void parse_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "quick", no_argument, NULL, 'q' },
		{ "workload", required_argument, NULL, 'w' },
		{ "way", required_argument, NULL, 'y' },
		{ "size", required_argument, NULL, 's' },
		{ "connections", required_argument, NULL, 'c' },
		{ "stalled", required_argument, NULL, 't' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "seconds-per-run", required_argument, NULL, 'S' },
		{ "csv", required_argument, NULL, 'o' },
		{ "dir", required_argument, NULL, 'd' },
		{ "pin", no_argument, NULL, 'p' },
		{ "calm", required_argument, NULL, 'C' },
		{ "patience", required_argument, NULL, 'P' },
		{ "congestion-control", required_argument, NULL, 'g' },
		{ "frozen", required_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
		take_option(c);
	if (optind < argc) {
		usage(stderr);
		exit(EXIT_FAILURE);
	}
	fill_defaults();
}
