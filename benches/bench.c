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
 */
#include "bench.h"

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS_MAX 64
#define LIST_MAX   32
#define CASES_MAX  256
#define HUGE_OPERATION GIB         /* from here on a run is one operation, not a time */
#define HUGE_LIMIT 30.0            /* seconds for it, at most */
#define WIRE       (STALLED + 1u)  /* beside enum workload, since its runs are BULK */
#define WORKLOADS  (WIRE + 1u)
#define GRACE      30.0            /* for connecting and tearing down, before a run is given up */

const struct way ways[] = {
	{ .name = "submit", .library = true, .serve = serve_by_epoll },
	{ .name = "submit_many", .library = true, .serve = serve_by_epoll },
	{ .name = "try_send", .library = true, .serve = serve_by_epoll },
	{ .name = "sendfile", .serve = serve_by_epoll },
	{ .name = "splice64k", .group = "splice", .serve = serve_by_epoll },
	{ .name = "splice1m", .group = "splice", .serve = serve_by_epoll },
	{ .name = "pread", .serve = serve_by_epoll },
	{ .name = "mmap", .serve = serve_by_epoll },
	{ .name = "zerocopy", .no_stalled = true, .serve = serve_by_epoll },
	{ .name = "uring_splice", .no_stalled = true, .serve = serve_by_ring },
	{ .name = "uring_zc", .no_stalled = true, .serve = serve_by_ring },
	{ .name = "uring_zc_plain", .group = "uring_zc", .no_stalled = true, .wire_only = true, .serve = serve_by_ring },
};
const unsigned way_count = sizeof(ways) / sizeof(ways[0]);
#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* ---- for the children ---------------------------------------------------------------------- */

__attribute__((format(printf, 3, 0), noreturn))
static void end_child(struct shared *shared, int status, const char *format, va_list arguments)
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

/* ---- options ------------------------------------------------------------------------------- */

static struct {
	bool quick, pin;
	bool workloads[WORKLOADS]; /* by enum workload, and WIRE */
	bool ways[WAYS];
	uint64_t sizes[LIST_MAX];
	unsigned size_count;
	unsigned connections[LIST_MAX];
	unsigned connection_count;
	unsigned stalled, rounds;
	double seconds, calm, patience;
	const char *dir, *congestion_control;
	FILE *csv;
} options = { .stalled = 10000, .rounds = 5, .seconds = 1.0, .patience = 30, .dir = "/var/tmp" };

__attribute__((format(printf, 1, 2), noreturn))
static void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(EXIT_FAILURE);
}

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
	static const char *const names[] = { "bulk", "answers", "cold", "stalled", "wire" };

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
		die("no such way: %s", word);
}

static void take_size(const char *word)
{
	uint64_t n = parse_number(word);

	if (n == 0 || options.size_count == LIST_MAX)
		die("--size %s", word);
	options.sizes[options.size_count++] = n;
}

static void take_connections(const char *word)
{
	uint64_t n = parse_number(word);

	if (n == 0 || n > 16384 || options.connection_count == LIST_MAX)
		die("--connections %s", word);
	options.connections[options.connection_count++] = (unsigned)n;
}

static void usage(FILE *out)
{
	fputs("bench [--quick] [--workload bulk,answers,cold,stalled,wire] [--way NAME,...] [--size N,...]\n"
	      "      [--connections N,...] [--stalled N] [--rounds N] [--seconds-per-run S] [--csv FILE]\n"
	      "      [--dir DIRECTORY] [--pin] [--calm PERCENT] [--patience S]\n"
	      "      [--congestion-control NAME]\nways:", out);
	for (unsigned i = 0; i < way_count; i++)
		fprintf(out, " %s", ways[i].name);
	fputs("\n", out);
}

static void parse_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "quick", no_argument, NULL, 'q' },          { "workload", required_argument, NULL, 'w' },
		{ "way", required_argument, NULL, 'y' },      { "size", required_argument, NULL, 's' },
		{ "connections", required_argument, NULL, 'c' }, { "stalled", required_argument, NULL, 't' },
		{ "rounds", required_argument, NULL, 'r' },   { "seconds-per-run", required_argument, NULL, 'S' },
		{ "csv", required_argument, NULL, 'o' },      { "dir", required_argument, NULL, 'd' },
		{ "pin", no_argument, NULL, 'p' },            { "calm", required_argument, NULL, 'C' },
		{ "patience", required_argument, NULL, 'P' }, { "congestion-control", required_argument, NULL, 'g' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	bool any_workload = false, any_way = false, rounds = false, seconds = false, stalled = false;
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'q': options.quick = true; break;
		case 'w': each_of(optarg, take_workload); any_workload = true; break;
		case 'y': each_of(optarg, take_way); any_way = true; break;
		case 's': each_of(optarg, take_size); break;
		case 'c': each_of(optarg, take_connections); break;
		case 't': options.stalled = (unsigned)smaller(parse_number(optarg), 16384); stalled = true; break;
		case 'r': options.rounds = (unsigned)smaller(parse_number(optarg), ROUNDS_MAX); rounds = true; break;
		case 'S': options.seconds = strtod(optarg, NULL); seconds = true; break;
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
		case 'h': usage(stdout); exit(EXIT_SUCCESS);
		default: usage(stderr); exit(EXIT_FAILURE);
		}
	}
	if (optind < argc) {
		usage(stderr);
		exit(EXIT_FAILURE);
	}
	for (unsigned i = 0; i < WORKLOADS && !any_workload; i++)
		options.workloads[i] = true;
	for (unsigned i = 0; i < way_count && !any_way; i++)
		options.ways[i] = options.quick || strcmp(ways[i].name, "submit_many") != 0;
	if (options.quick && !rounds)
		options.rounds = 1;
	if (options.quick && !seconds)
		options.seconds = 0.1;
	if (options.quick && !stalled)
		options.stalled = 1000;
	if (options.rounds == 0 || !(options.seconds >= 0.05 && options.seconds <= 60))
		die("--rounds from 1 to %d, --seconds-per-run from 0.05 to 60", ROUNDS_MAX);
}

/* ---- files --------------------------------------------------------------------------------- */

static struct {
	char path[4096], huge_path[4096];
	uint64_t size, warm, huge_size;
	bool chilled;              /* not all of it is in the cache */
} file;

/* Without a name from the start, so that it is gone however the benchmark ends; the children have its descriptor. */
static int make_file(char *path, const char *name)
{
	int fd;

	snprintf(path, sizeof(file.path), "%s/%s.XXXXXX", options.dir, name);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0 || unlink(path) < 0)
		die("%s: %s", path, strerror(errno));
	snprintf(path, sizeof(file.path), "/proc/self/fd/%d", fd);
	return fd;
}

static void write_pattern(int fd, uint64_t offset, uint64_t *block, size_t length)
{
	for (size_t i = 0; i < length / 8; i++)
		block[i] = pattern(offset + i * 8);
	if (pwrite(fd, block, length, (off_t)offset) != (ssize_t)length)
		die("writing a file in %s: %s", options.dir, strerror(errno));
}

static void make_files(void)
{
	uint64_t *block = malloc(MIB), available;
	int fd;

	available = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * PAGE;
	file.size = options.quick ? 192 * MIB : GIB;
	file.warm = options.quick ? 64 * MIB : 256 * MIB; /* a power of two: see wire.c */
	if (block == NULL)
		die("no memory");
	fd = make_file(file.path, "snapsend-bench");
	for (uint64_t offset = 0; offset < file.size; offset += MIB)
		write_pattern(fd, offset, block, MIB);
	/* Written back now, not in the middle of a run; and only clean pages can be dropped. */
	if (fsync(fd) < 0)
		die("fsync: %s", strerror(errno));
	/* Sparse but for a page in each MiB, which is checked; all of it is to be in the cache. */
	file.huge_size = 8 * GIB;
	while (file.huge_size > available / 2)
		file.huge_size /= 2;
	free(block);
}

static void make_huge_file(void)
{
	uint64_t block[PAGE / 8];
	int fd;

	if (file.huge_path[0] != '\0')
		return;
	fd = make_file(file.huge_path, "snapsend-bench-huge");
	for (uint64_t offset = 0; offset < file.huge_size; offset += MIB)
		write_pattern(fd, offset, block, PAGE);
	if (ftruncate(fd, (off_t)file.huge_size) < 0 || fsync(fd) < 0)
		die("%s: %s", file.huge_path, strerror(errno));
}

/* Reading is what brings a file into the cache in the same way for all. */
static void warm(const char *path, uint64_t offset, uint64_t until)
{
	char *block = malloc(MIB);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || block == NULL)
		die("%s: %s", path, strerror(errno));
	for (; offset < until; offset += MIB)
		if (pread(fd, block, MIB, (off_t)offset) < 0)
			die("%s: %s", path, strerror(errno));
	close(fd);
	free(block);
}

/* Drops the cold part from the cache and looks whether it has gone.  mincore(2) starts no read. */
static void chill(void)
{
	uint64_t length = file.size - file.warm, resident = 0;
	int fd = open(file.path, O_RDONLY | O_CLOEXEC);
	unsigned char *pages = malloc(length / PAGE);
	void *map;

	if (fd < 0 || pages == NULL)
		die("%s: %s", file.path, strerror(errno));
	posix_fadvise(fd, (off_t)file.warm, (off_t)length, POSIX_FADV_DONTNEED);
	map = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, (off_t)file.warm);
	if (map == MAP_FAILED || mincore(map, length, pages) < 0)
		die("mincore: %s", strerror(errno));
	for (uint64_t i = 0; i < length / PAGE; i++)
		resident += pages[i] & 1;
	munmap(map, length);
	free(pages);
	close(fd);
	if (resident * 20 > length / PAGE)
		fprintf(stderr, "bench: %" PRIu64 " MiB of the cold part stayed in the cache\n",
			resident * PAGE / MIB);
	file.chilled = true;
}

/* ---- one run ------------------------------------------------------------------------------- */

struct result {
	bool valid;
	double rate;               /* GB/s */
	double cold_rate;
	double answers;            /* per second */
	double server_cpu, client_cpu, machine_cpu; /* s/GB */
	double p50, p99, p999;     /* microseconds */
	double enters, wakeups;    /* per operation */
	double zerocopy_notified, zerocopy_copied; /* see struct shared */
	double foreign;            /* share of the machine's processors that others had meanwhile */
};

static struct shared *shared;

static void become(const char *name, bool pin, int cpu)
{
	cpu_set_t set;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, name);
	/* Nothing that goes wrong keeps a process for ever. */
	alarm((unsigned)(options.seconds * 2 + HUGE_LIMIT + GRACE));
	if (!pin)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		fail(shared, "sched_setaffinity: %s", strerror(errno));
}

/* Waits for a child; true if it has ended by then.  Its status is left in *status. */
static bool await(pid_t child, double seconds, int *status)
{
	int fd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd wait = { .fd = fd, .events = POLLIN };

	if (fd < 0)
		die("pidfd_open: %s", strerror(errno));
	while (poll(&wait, 1, (int)(seconds * 1000)) < 0 && errno == EINTR)
		;
	close(fd);
	if ((wait.revents & POLLIN) == 0)
		return false;
	return waitpid(child, status, 0) == child;
}

static void end(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* Sockets that are accepted have the listener's; the clients only ask. */
static void choose_congestion_control(int listener)
{
	const char *wanted = options.congestion_control;
	static bool said;
	char name[32] = "";
	socklen_t length = sizeof(name) - 1;

	if (wanted != NULL &&
	    setsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, wanted, (socklen_t)strlen(wanted)) < 0)
		die("--congestion-control %s: %s", wanted, strerror(errno));
	if (said || getsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, name, &length) < 0)
		return;
	printf("congestion control on loopback: %s\n", name);
	said = true;
}

static void listen_for(struct setup *setup)
{
	socklen_t length = sizeof(setup->address);

	setup->address = (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_addr.s_addr = setup->wire ? wire_near_address() : htonl(INADDR_LOOPBACK) };
	if (setup->wire)
		wire_go(WIRE_NEAR);
	setup->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setup->control = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (setup->listener < 0 || setup->control < 0 ||
	    bind(setup->listener, (struct sockaddr *)&setup->address, length) < 0 ||
	    listen(setup->listener, 4096) < 0 ||
	    getsockname(setup->listener, (struct sockaddr *)&setup->address, &length) < 0)
		die("listening: %s", strerror(errno));
	if (setup->wire)
		wire_go(WIRE_HOME);
	else
		choose_congestion_control(setup->listener);
}

static pid_t start(const struct setup *setup, bool server)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child < 0)
		die("fork: %s", strerror(errno));
	if (child > 0)
		return child;
	become(server ? "bench-server" : "bench-client", setup->pin, server ? 0 : 1);
	if (setup->wire)
		wire_go(server ? WIRE_NEAR : WIRE_FAR);
	if (server)
		_exit(setup->way->serve(setup, shared));
	close(setup->listener);
	run_client(setup, shared);
	_exit(EXIT_SUCCESS);
}

static void take_result(struct result *result)
{
	double gb = (double)(shared->bytes + shared->cold_bytes) / 1e9;
	const struct snapsend_stats *a = &shared->before, *b = &shared->after;
	uint64_t operations = b->done_ok - a->done_ok;
	double foreign = (double)shared->machine_cpu - (double)(shared->server_cpu + shared->client_cpu);

	*result = (struct result){
		.valid = gb > 0 && shared->seconds > 0,
		.rate = (double)shared->bytes / 1e9 / shared->seconds,
		.cold_rate = (double)shared->cold_bytes / 1e9 / shared->seconds,
		.answers = (double)shared->times.count / shared->seconds,
		.server_cpu = (double)shared->server_cpu / 1e9 / gb,
		.client_cpu = (double)shared->client_cpu / 1e9 / gb,
		.machine_cpu = (double)shared->machine_cpu / 1e9 / gb,
		.p50 = percentile(&shared->times, 0.5) / 1000,
		.p99 = percentile(&shared->times, 0.99) / 1000,
		.p999 = percentile(&shared->times, 0.999) / 1000,
		.enters = operations > 0 ? (double)(b->kernel_enters - a->kernel_enters) / (double)operations : NAN,
		.wakeups = operations > 0 ? (double)(b->wakeups - a->wakeups) / (double)operations : NAN,
		.zerocopy_notified = (double)shared->zerocopy_notified,
		.zerocopy_copied = (double)shared->zerocopy_copied,
		.foreign = fmax(foreign / 1e9 / shared->seconds / (double)sysconf(_SC_NPROCESSORS_ONLN), 0),
	};
}

static unsigned runs;

/* EXIT_SUCCESS, EXIT_FAILURE or SKIPPED; but for the first, shared->message says why. */
static int run(struct setup *setup, struct result *result)
{
	int server_status = -1, client_status = -1, status;
	pid_t server, client;
	bool ended;

	memset(shared, 0, sizeof(*shared));
	setup->number = runs++;
	listen_for(setup);
	server = shared->server = start(setup, true);
	client = start(setup, false);
	close(setup->listener);
	ended = false;
	/* The client ends first, unless the server has failed: then the client would wait in vain. */
	for (double left = setup->warm_up + setup->seconds + GRACE; left > 0 && !ended; left -= 0.25) {
		ended = await(client, 0.25, &client_status);
		if (!ended && atomic_load(&shared->failed))
			break;
	}
	if (!ended)
		end(client);
	if (!ended || !await(server, GRACE / 2, &server_status))
		end(server);
	close(setup->control);
	status = atomic_load(&shared->failed);
	if (status == 0 && (server_status != 0 || client_status != 0)) {
		snprintf(shared->message, sizeof(shared->message), "server ended with %#x, client with %#x",
			 (unsigned)server_status, (unsigned)client_status);
		status = EXIT_FAILURE;
	}
	if (status == 0) {
		take_result(result);
		if (!result->valid) {
			snprintf(shared->message, sizeof(shared->message), "nothing has come in the time that counts");
			status = EXIT_FAILURE;
		}
	}
	return status;
}

/* ---- cases --------------------------------------------------------------------------------- */

struct one_case {
	struct setup setup;
	char name[48];
	int alone;                 /* index of the case without the cold or stalled ones, or -1 */
	struct result median[WAYS];
	double lowest[WAYS], highest[WAYS];
};

static struct one_case cases[CASES_MAX];
static int case_count;
static bool unusable[WAYS];
static int failures, skips;

/* What cannot run here is said and counted, never left out in silence. */
static void count_skip(const char *what, const char *way, const char *why)
{
	fprintf(stderr, "bench: SKIP %s%s%s: %s\n", what, way != NULL ? ", " : "", way != NULL ? way : "", why);
	skips++;
}

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

static struct one_case *add_case(enum workload workload, uint64_t size, unsigned connections)
{
	struct one_case *c = &cases[case_count];
	char text[32];

	if (case_count == CASES_MAX)
		die("too many cases");
	print_size(text, sizeof(text), size);
	c->alone = -1;
	c->setup = (struct setup){
		.workload = workload, .size = size, .connections = connections,
		/* At first windows grow, and segments lost to small ones come again after 200 ms. */
		.seconds = options.seconds, .warm_up = options.quick ? 0.1 : fmax(options.seconds * 0.2, 0.3),
		.path = file.path, .warm_size = file.warm, .file_size = file.size, .pin = options.pin,
	};
	if (workload == BULK)
		snprintf(c->name, sizeof(c->name), "bulk %s", text);
	else
		snprintf(c->name, sizeof(c->name), "answers %ux%s", connections, text);
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
			if (sizes[i] > file.size)
				die("--size of bulk: at most %" PRIu64 ", or 1G and more", file.size);
			c = add_case(BULK, sizes[i], 1);
			c->setup.file_size = file.size / sizes[i] * sizes[i];
			continue;
		}
		c = add_case(BULK, smaller(sizes[i], file.huge_size), 1);
		c->setup.operations = 1;
		c->setup.seconds = HUGE_LIMIT;
		c->setup.warm_up = 0;
		c->setup.path = file.huge_path;
		c->setup.file_size = file.huge_size;
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
			if (sizes[j] > file.warm)
				continue;
			add_case(ANSWERS, sizes[j], connections[i]);
		}
	}
}

static void plan_wire(void)
{
	static const uint64_t usual[] = { 64 * KIB, 256 * KIB, MIB, 16 * MIB }, quick[] = { MIB };
	static const unsigned usual_connections[] = { 1, 64 };
	const uint64_t *sizes = options.size_count > 0 ? options.sizes : options.quick ? quick : usual;
	const unsigned *connections = options.connection_count > 0 ? options.connections : usual_connections;
	unsigned size_count = options.size_count > 0 ? options.size_count : options.quick ? 1 : 4;
	unsigned connection_count = options.connection_count > 0 ? options.connection_count : 2;
	const char *why_not = wire_open(file.warm);

	if (why_not != NULL) {
		count_skip("wire", NULL, why_not);
		return;
	}
	for (unsigned i = 0; i < connection_count; i++) {
		for (unsigned j = 0; j < size_count; j++) {
			struct one_case *c;
			char text[32];

			/* Connections start in different operations of a file that they go round in. */
			if (file.warm % sizes[j] != 0 || connections[i] > WIRE_CONNECTIONS)
				continue;
			c = add_case(BULK, sizes[j], connections[i]);
			print_size(text, sizeof(text), sizes[j]);
			snprintf(c->name, sizeof(c->name), "wire %ux%s", connections[i], text);
			c->setup.wire = true;
			c->setup.file_size = file.warm;
		}
	}
}

static void plan(void)
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
	if (options.workloads[WIRE])
		plan_wire();
}

/* ---- figures ------------------------------------------------------------------------------- */

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

/* On the wire the client's time is the sender's, too: see wire.c. */
static double cpu_cost(const struct one_case *c, const struct result *r)
{
	return c->setup.wire ? r->server_cpu + r->client_cpu : r->server_cpu;
}

static void summarise(struct one_case *c, unsigned way, const struct result *results)
{
	static const size_t fields[] = {
		offsetof(struct result, rate), offsetof(struct result, cold_rate), offsetof(struct result, answers),
		offsetof(struct result, server_cpu), offsetof(struct result, client_cpu),
		offsetof(struct result, machine_cpu),
		offsetof(struct result, p50), offsetof(struct result, p99), offsetof(struct result, p999),
		offsetof(struct result, enters), offsetof(struct result, wakeups), offsetof(struct result, foreign),
		offsetof(struct result, zerocopy_notified), offsetof(struct result, zerocopy_copied),
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

static void print_case(const struct one_case *c)
{
	const struct one_case *alone = c->alone >= 0 ? &cases[c->alone] : NULL;

	printf("\n%s\n%-14s %7s %15s %9s %7s %8s %8s %8s %8s %8s %8s %7s %7s %6s%s\n", c->name, "way", "GB/s", "min-max",
	       "answers/s", "/best", "srv s/GB", "cli s/GB", "all s/GB", "p50 us", "p99 us", "p99.9 us", "enters",
	       "wakeups", "others", alone != NULL ? "  p99/alone" : c->setup.wire ? " not copied" : "");
	for (unsigned i = 0; i < way_count; i++) {
		const struct result *m = &c->median[i];
		char span[32];

		if (!m->valid)
			continue;
		snprintf(span, sizeof(span), "%.2f-%.2f", c->lowest[i], c->highest[i]);
		printf("%-14s %7.2f %15s", ways[i].name, speed(c, m), span);
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
		if (ways[i].library && !isnan(m->enters))
			printf(" %7.3f %7.3f", m->enters, m->wakeups);
		else
			printf(" %7s %7s", "-", "-");
		printf(" %5.0f%%", m->foreign * 100);
		if (alone != NULL && alone->median[i].p99 > 0)
			printf(" %10.2f", m->p99 / alone->median[i].p99);
		if (c->setup.wire && m->zerocopy_notified > 0)
			printf(" %4.0f of %.0f", m->zerocopy_notified - m->zerocopy_copied, m->zerocopy_notified);
		printf("\n");
	}
	fflush(stdout);
}

/* The library in each case, as parts of what the others reach. */
static void print_summary(void)
{
	static const char *const others[] = { "sendfile", "splice", "pread", "mmap", "zerocopy", "uring_splice", "uring_zc" };
	const unsigned count = sizeof(others) / sizeof(others[0]);

	printf("\nThe library's rate divided by that of (splice: the better pipe; cpu: server s/GB divided by sendfile's,\n"
	       "on the wire that of server and client together)\n"
	       "%-26s %-11s", "case", "way");
	for (unsigned i = 0; i < count; i++)
		printf(" %12s", others[i]);
	printf(" %8s %8s\n", "best", "cpu");
	for (int k = 0; k < case_count; k++) {
		const struct one_case *c = &cases[k];

		for (unsigned i = 0; i < way_count; i++) {
			double cpu = 0;

			if (!ways[i].library || !c->median[i].valid)
				continue;
			printf("%-26s %-11s", c->name, ways[i].name);
			for (unsigned o = 0; o < count; o++) {
				printf("     ");
				print_ratio(speed(c, &c->median[i]), best_other(c, others[o]));
			}
			printf(" ");
			print_ratio(speed(c, &c->median[i]), best_other(c, NULL));
			for (unsigned o = 0; o < way_count; o++)
				if (strcmp(ways[o].name, "sendfile") == 0 && c->median[o].valid)
					cpu = cpu_cost(c, &c->median[o]);
			printf(" ");
			print_ratio(cpu_cost(c, &c->median[i]), cpu);
			printf("\n");
		}
	}
}

static void write_csv(const struct one_case *c, unsigned way, unsigned round, const struct result *r)
{
	static const char *const engines[] = { "", "uring", "portable" };
	static bool headed;

	if (options.csv == NULL)
		return;
	if (!headed)
		fputs("case,way,engine,size,connections,cold,stalled,round,gb_per_s,cold_gb_per_s,answers_per_s,"
		      "server_cpu_s_per_gb,client_cpu_s_per_gb,machine_cpu_s_per_gb,p50_us,p99_us,p999_us,enters_per_op,wakeups_per_op,"
		      "others_share,words_checked,zerocopy_notified,zerocopy_copied\n", options.csv);
	headed = true;
	fprintf(options.csv, "%s,%s,%s,%" PRIu64 ",%u,%u,%u,%u,%.4f,%.4f,%.1f,%.5f,%.5f,%.5f,%.2f,%.2f,%.2f,",
		c->name,
		ways[way].name, shared->engine < 3 ? engines[shared->engine] : "?", c->setup.size,
		c->setup.connections, c->setup.cold, c->setup.stalled, round, r->rate, r->cold_rate, r->answers,
		r->server_cpu, r->client_cpu, r->machine_cpu, r->p50, r->p99, r->p999);
	if (ways[way].library && !isnan(r->enters))
		fprintf(options.csv, "%.4f,%.4f", r->enters, r->wakeups);
	else
		fputs(",", options.csv);
	fprintf(options.csv, ",%.3f,%" PRIu64 ",%.0f,%.0f\n", r->foreign, shared->checked, r->zerocopy_notified,
		r->zerocopy_copied);
	fflush(options.csv);
}

/* ---- the order of things ------------------------------------------------------------------- */

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
			chill();
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
		chill();
	status = run_calmly(c, result);
	if (status == 0) {
		write_csv(c, way, round, result);
		return;
	}
	if (status == SKIPPED) {
		count_skip(c->name, ways[way].name, shared->message);
		unusable[way] = true;
		return;
	}
	fprintf(stderr, "bench: FAILED %s, %s: %s\n", c->name, ways[way].name, shared->message);
	failures++;
	/* Figures of what does not work are worth nothing. */
	if (strncmp(shared->message, "WRONG DATA", 10) == 0)
		exit(EXIT_FAILURE);
}

static void run_case(struct one_case *c)
{
	static struct result results[WAYS][ROUNDS_MAX];
	unsigned chosen[WAYS], count = 0;

	memset(results, 0, sizeof(results));
	memset(unusable, 0, sizeof(unusable));
	patience_left = options.patience;
	for (unsigned i = 0; i < way_count; i++)
		if (options.ways[i] && !(ways[i].no_stalled && c->setup.workload == STALLED) &&
		    (c->setup.wire || !ways[i].wire_only))
			chosen[count++] = i;
	if (c->setup.path == file.huge_path) {
		make_huge_file();
		warm(file.huge_path, 0, file.huge_size);
	} else if (file.chilled && c->setup.cold == 0) {
		warm(file.path, 0, file.size);
		file.chilled = false;
	}
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

	parse_options(argc, argv);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
		if (limit.rlim_cur != RLIM_INFINITY && options.stalled + 256 > limit.rlim_cur)
			options.stalled = limit.rlim_cur > 512 ? (unsigned)limit.rlim_cur - 256 : 0;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("no memory");
	signal(SIGPIPE, SIG_IGN);
	make_files();
	plan();
	for (int i = 0; i < case_count; i++)
		run_case(&cases[i]);
	print_summary();
	printf("\n%u runs, %d failed, %d skipped\n", runs, failures, skips);
	return failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
