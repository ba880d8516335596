/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the parts of the benchmark share: see bench.c for what it does.
 *
 *	bench.c   command line, the order of the runs, tables, CSV
 *	server.c  the epoll server, the library and the ways that need no ring
 *	ring.c    the two io_uring ways, by raw system calls
 *	client.c  the readers: bulk, and one question at a time on many connections
 *	wire.c    a link where zero-copy is real, and its far end
 */
#ifndef BENCH_H
#define BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "snapsend.h"

#define KIB         ((uint64_t)1 << 10)
#define MIB         ((uint64_t)1 << 20)
#define GIB         ((uint64_t)1 << 30)
#define PAGE        4096u
#define SKIPPED     77           /* exit status of a child that cannot run here, as tests/c has it */
#define COLD_ANSWER MIB          /* what a connection on the cold part asks for */
#define STALL_ANSWER MIB         /* what a stalled peer asks for: more than the socket's buffers hold */
#define STALL_BUFFER (64 << 10)  /* send buffer of every connection beside stalled peers */

/* ---- one run ------------------------------------------------------------------------------- */

enum workload { BULK, ANSWERS, COLD, STALLED };

struct setup {
	enum workload workload;
	const struct way *way;
	uint64_t size;             /* of an operation or an answer */
	unsigned connections;      /* that ask and read */
	unsigned cold;             /* further ones that read the cold part */
	unsigned stalled;          /* further ones that ask and never read */
	uint64_t operations;       /* bulk: the connection is one such number long; 0: endless */
	double seconds, warm_up;
	const char *path;
	uint64_t warm_size;        /* questions lie in the first so many bytes of the file ... */
	uint64_t file_size;        /* ... and cold ones between there and here */
	uint64_t pattern_step;     /* the file has its pattern at the start of each so many bytes, or 0: everywhere */
	int listener, control;
	struct sockaddr_in address;
	bool pin;
	bool wire;                 /* bulk on each connection, over wire.c's link */
	unsigned number;           /* of this run in the program's life */
};

/* Times in nanoseconds, in steps of 1/64 of their power of two. */
#define HISTOGRAM_STEPS 64u
#define HISTOGRAM_SIZE  (HISTOGRAM_STEPS * 40)

struct histogram {
	uint64_t count;
	uint32_t buckets[HISTOGRAM_SIZE];
};

/* In memory that coordinator, server and client share. */
struct shared {
	_Atomic int server_ready;  /* all connections have been accepted */
	_Atomic unsigned questions; /* that the server has read */
	_Atomic int measuring;     /* the time that counts has begun */
	_Atomic int stopping;      /* from here on broken connections are no errors */
	_Atomic int failed;
	char message[256];
	pid_t server;
	double seconds;            /* what follows: in that time */
	uint64_t bytes, cold_bytes, checked;
	_Atomic uint64_t refusals; /* submits that the library had no room for */
	uint64_t server_cpu, client_cpu; /* nanoseconds, all threads, io_uring's workers included */
	uint64_t machine_cpu;      /* nanoseconds that the machine's processors were busy or taken away */
	struct histogram times;    /* from question to last byte, the cold ones apart */
	struct histogram cold_times;
	uint32_t engine;
	struct snapsend_stats before, after;
	uint64_t zerocopy_notified, zerocopy_copied; /* sends the kernel has reported, and those it had copied after all */
};

/* ---- the protocol -------------------------------------------------------------------------- */

/* Ask for a range; the highest bit of the offset says nothing to the server. */
struct question {
	uint64_t offset, length;
};

#define HEADER_MAGIC UINT64_C(0x646e657370616e73)

struct header {
	uint64_t magic, offset, length, sequence;
	uint64_t zero[4];
};

#define PATTERN_FACTOR UINT64_C(0x9e3779b97f4a7c15)

/* The file's contents, word by word, so that any word can be checked by itself. */
static inline uint64_t pattern(uint64_t offset)
{
	return (offset / 8 + 1) * PATTERN_FACTOR;
}

/* ---- ways ---------------------------------------------------------------------------------- */

struct way {
	const char *name;
	const char *group;         /* the name of the way that it is a variant of */
	bool library;
	bool no_stalled;           /* cannot have thousands of peers stalled: a kernel thread, or pinned memory, each */
	bool wire_only;            /* differs from another way only where zero-copy is real */
	int (*serve)(const struct setup *setup, struct shared *shared);
};

extern const struct way ways[];
extern const unsigned way_count;

int serve_by_epoll(const struct setup *setup, struct shared *shared);
int serve_by_ring(const struct setup *setup, struct shared *shared);
void run_client(const struct setup *setup, struct shared *shared);

/* ---- the wire, see wire.c ------------------------------------------------------------------ */

#define WIRE_CONNECTIONS 128u    /* of a run, at most; a power of two */

enum wire_place { WIRE_HOME, WIRE_NEAR, WIRE_FAR };

/* Makes the link, once; NULL, or why it cannot be made here.  The file's size is a power of two up to 2 GiB. */
const char *wire_open(uint64_t file_size);
/* Takes the calling thread there. */
void wire_go(enum wire_place place);
/* The server's, in network order. */
uint32_t wire_near_address(void);
void run_far_end(const struct setup *setup, struct shared *shared);

/* ---- the client's clock and counts, in client.c -------------------------------------------- */

/* A socket that is reset when it is closed. */
int new_client_socket(void);
void count_received(uint64_t bytes);
void count_checked(uint64_t words);
/* When the run is to end. */
uint64_t begin_measuring(uint64_t now);
bool is_over(uint64_t now, uint64_t limit);
void end_measuring(uint64_t now);

/* ---- help ---------------------------------------------------------------------------------- */

/* Ends the process, and the run, with a message. */
__attribute__((format(printf, 2, 3), noreturn))
void fail(struct shared *shared, const char *format, ...);
/* The same where the way cannot run on this machine. */
__attribute__((format(printf, 2, 3), noreturn))
void skip(struct shared *shared, const char *format, ...);

static inline uint64_t nanoseconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Nanoseconds that the machine's processors have been busy, or taken away by its host. */
uint64_t machine_cpu(void);

void note_time(struct histogram *histogram, uint64_t ns);
/* In nanoseconds; 0 when nothing was noted. */
double percentile(const struct histogram *histogram, double share);

/* ---- server side, for server.c and ring.c -------------------------------------------------- */

struct buffer;

struct connection {
	int fd, file_fd;
	uint32_t index;
	bool busy;                 /* an operation is in hand */
	bool readable;             /* the library: a question came before the last answer's DONE was seen */
	unsigned in_flight;        /* the library: operations submitted */
	bool waiting;              /* the library had no room for the operation in hand */
	struct connection *next_waiting;
	struct iovec header_part;
	uint64_t operations;       /* begun so far */
	uint64_t start;            /* bulk: of its first operation, in the file */
	struct header header;
	unsigned header_left;
	uint64_t offset, left;     /* of the range in hand, what has not been sent */

	struct buffer *buffer;     /* pread, zerocopy: holds what is to be sent next */
	size_t from, until;
	struct buffer **sent;      /* zerocopy: ring of those that sends are out for, by the kernel's numbers */
	uint32_t sent_first, sent_next;
	char *map;                 /* mmap: the window in hand */
	size_t map_length;
	int pipe[2];               /* splice */
	size_t in_pipe;
};

/* Accepts all connections; blocking says how. */
struct connection *accept_all(const struct setup *setup, struct shared *shared, bool blocking);
/* Makes the question the operation in hand. */
void take_question(const struct setup *setup, struct shared *shared, struct connection *c,
		   const struct question *question);
/* Bulk: makes the next operation the one in hand.  False: there is none. */
bool take_next(const struct setup *setup, struct shared *shared, struct connection *c);

#endif
