/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "cases.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "files.h"
#include "lan.h"
#include "options.h"
#include "veth.h"
#include "wire.h"

#define CASES_MAX      256
#define HUGE_OPERATION GIB  /* from here on a run is one operation, not a time */
#define HUGE_LIMIT     30.0 /* seconds for it, at most */

struct one_case cases[CASES_MAX];
int case_count;

static void print_size(char *out, size_t room, uint64_t n)
{
	if (n % GIB == 0)
		snprintf(out, room, "%" PRIu64 "G", n / GIB);
	else if (n % MIB == 0)
		snprintf(out, room, "%" PRIu64 "M", n / MIB);
	else if (n % KIB == 0)
		snprintf(out, room, "%" PRIu64 "K", n / KIB);
	else
		snprintf(out, room, "%" PRIu64, n);
}

static void name_case(struct one_case *c, const char *workload)
{
	char size[32];

	print_size(size, sizeof(size), c->setup.size);
	snprintf(c->name, sizeof(c->name), "%s %ux%s", workload, c->setup.connections, size);
}

static struct one_case *add_case(enum workload workload, uint64_t size, unsigned connections)
{
	struct one_case *c = &cases[case_count];
	char text[32];

	if (case_count == CASES_MAX)
		die("too many cases");
	print_size(text, sizeof(text), size);
	c->alone = -1;
	c->setup = (struct setup){
		.workload = workload,
		.size = size,
		.connections = connections,
		/* At first windows grow, and segments lost to small ones come again after 200 ms. */
		.seconds = options.seconds,
		.warm_up = options.quick ? 0.1 : fmax(options.seconds * 0.2, 0.3),
		.path = files.path,
		.warm_size = files.warm,
		.file_size = files.size,
		.pin = options.pin,
		.link = LOOPBACK,
		.congestion_control = options.congestion_control,
	};
	if (workload == BULK)
		snprintf(c->name, sizeof(c->name), "bulk %s", text);
	else
		name_case(c, "answers");
	case_count++;
	return c;
}

static void plan_bulk(void)
{
	static const uint64_t usual[] = { 64 * KIB, 256 * KIB, MIB, 16 * MIB, 8 * GIB }, quick[] = { 64 * KIB, MIB };
	const uint64_t *sizes = options.quick ? quick : usual;
	unsigned count = options.quick ? 2 : 5;

	if (options.size_count > 0) {
		sizes = options.sizes;
		count = options.size_count;
	}
	for (unsigned i = 0; i < count; i++) {
		struct one_case *c;

		if (sizes[i] < HUGE_OPERATION) {
			if (sizes[i] > files.size)
				die("--size of bulk: at most %" PRIu64 ", or 1G and more", files.size);
			c = add_case(BULK, sizes[i], 1);
			c->setup.file_size = files.size / sizes[i] * sizes[i];
			continue;
		}
		c = add_case(BULK, smaller(sizes[i], files.huge_size), 1);
		c->setup.operations = 1;
		c->setup.seconds = HUGE_LIMIT;
		c->setup.warm_up = 0;
		c->setup.path = files.huge_path;
		c->setup.file_size = files.huge_size;
		c->setup.pattern_step = MIB;
	}
}

static void plan_answers(void)
{
	static const uint64_t usual[] = { 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB };
	static const unsigned usual_connections[] = { 1, 16, 64, 1024 };
	static const struct {
		unsigned connections;
		uint64_t size;
	} quick[] = { { 1, 4 * KIB }, { 16, 64 * KIB }, { 64, 256 * KIB }, { 16, MIB }, { 1024, 16 * KIB } };
	const uint64_t *sizes = options.size_count > 0 ? options.sizes : usual;
	const unsigned *connections = options.connection_count > 0 ? options.connections : usual_connections;
	unsigned size_count = options.size_count > 0 ? options.size_count : 5;
	unsigned connection_count = options.connection_count > 0 ? options.connection_count : 4;

	if (options.quick && options.size_count == 0 && options.connection_count == 0) {
		for (unsigned i = 0; i < sizeof(quick) / sizeof(quick[0]); i++)
			add_case(ANSWERS, quick[i].size, quick[i].connections);
		return;
	}
	for (unsigned i = 0; i < connection_count; i++) {
		for (unsigned j = 0; j < size_count; j++) {
			if (sizes[j] > files.warm)
				continue;
			add_case(ANSWERS, sizes[j], connections[i]);
		}
	}
}

static void add_wire(const struct veth *veth, uint64_t size, unsigned connections)
{
	struct one_case *c;

	/* Connections start in different operations of a file that they go round in. */
	if (files.warm % size != 0 || connections > WIRE_CONNECTIONS)
		return;
	c = add_case(BULK, size, connections);
	name_case(c, "wire");
	c->setup.link = WIRE;
	c->setup.veth = veth;
	c->setup.file_size = files.warm;
}

static void add_lan(const struct veth *veth, uint64_t size, unsigned connections)
{
	struct one_case *c;

	if (size > files.warm)
		return;
	c = add_case(ANSWERS, size, connections);
	name_case(c, "lan");
	c->setup.link = LAN;
	c->setup.veth = veth;
}

/* Every size with every number of connections. */
static void plan_link(const struct veth *veth, const uint64_t *sizes, unsigned size_count,
		      void (*add)(const struct veth *veth, uint64_t size, unsigned connections))
{
	static const unsigned usual_connections[] = { 1, 64 };
	const unsigned *connections = options.connection_count > 0 ? options.connections : usual_connections;
	unsigned connection_count = options.connection_count > 0 ? options.connection_count : 2;

	if (options.size_count > 0) {
		sizes = options.sizes;
		size_count = options.size_count;
	}
	for (unsigned i = 0; i < connection_count; i++)
		for (unsigned j = 0; j < size_count; j++)
			add(veth, sizes[j], connections[i]);
}

static void plan_wire(void (*cannot_run)(const char *workload, const char *why))
{
	static const uint64_t usual[] = { 16 * KIB, 64 * KIB, 256 * KIB, MIB, 16 * MIB }, quick[] = { MIB };
	const struct veth *veth = wire_open(files.warm);

	if (veth->why_not[0] != '\0')
		cannot_run("wire", veth->why_not);
	else if (options.quick)
		plan_link(veth, quick, 1, add_wire);
	else
		plan_link(veth, usual, 5, add_wire);
}

static void plan_lan(void (*cannot_run)(const char *workload, const char *why))
{
	static const uint64_t usual[] = { 16 * KIB, 64 * KIB, 256 * KIB, MIB };
	const struct veth *veth = lan_open();

	if (veth->why_not[0] != '\0')
		cannot_run("lan", veth->why_not);
	else if (options.quick && options.size_count == 0 && options.connection_count == 0)
		add_lan(veth, 256 * KIB, 16);
	else
		plan_link(veth, usual, 4, add_lan);
}

void plan_cases(void (*cannot_run)(const char *workload, const char *why))
{
	struct one_case *c;

	if (options.workloads[BULK])
		plan_bulk();
	if (options.workloads[ANSWERS])
		plan_answers();
	if (options.workloads[COLD]) {
		c = add_case(COLD, 16 * KIB, 16);
		strcpy(c->name, "cold: 16x16K alone");
		c = add_case(COLD, 16 * KIB, 16);
		strcpy(c->name, "cold: 16x1M cold + 16x16K");
		c->setup.cold = 16;
		/* The time that counts begins at once: cold data is soon used up. */
		c->setup.warm_up = 0;
		c->setup.seconds = options.seconds * 2;
		c->alone = case_count - 2;
	}
	if (options.workloads[STALLED]) {
		c = add_case(STALLED, 16 * KIB, 64);
		strcpy(c->name, "stalled: 64x16K alone");
		c = add_case(STALLED, 16 * KIB, 64);
		snprintf(c->name, sizeof(c->name), "stalled: %u + 64x16K", options.stalled);
		c->setup.stalled = options.stalled;
		c->alone = case_count - 2;
	}
	if (options.workloads[ON_WIRE])
		plan_wire(cannot_run);
	if (options.workloads[ON_LAN])
		plan_lan(cannot_run);
}
