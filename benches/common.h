/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What every part of the benchmark may use: sizes, what one run is, the memory that its processes share, what its two ends
 * say to each other, time, and how to give up.  Depends on no other part.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

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

#define KIB     ((uint64_t)1 << 10)
#define MIB     ((uint64_t)1 << 20)
#define GIB     ((uint64_t)1 << 30)
#define PAGE    4096u
#define SKIPPED 77 /* exit status of a child that cannot run here, as tests/c has it */

/* ---- one run ------------------------------------------------------------------------------- */

enum workload { BULK, ANSWERS, COLD, STALLED };

/* Between server and client; bits, so that a way can name those it runs on. */
enum link { LOOPBACK = 1, WIRE = 2, LAN = 4 };

struct setup;
struct shared;
struct veth;

/* One way of sending.  The table of all of them is in ways.c. */
struct way {
	const char *name;
	const char *group; /* the name of the way that it is a variant of */
	bool library;
	bool no_stalled; /* cannot have thousands of peers stalled: a kernel thread, or pinned memory, each */
	unsigned links;  /* that it is measured on */
	int (*serve)(const struct setup *setup, struct shared *shared);
	int variant; /* which of its ways serve() is to run: its header lists them */
};

struct setup {
	enum workload workload;
	const struct way *way;
	uint64_t size;        /* of an operation or an answer */
	unsigned connections; /* that ask and read */
	unsigned cold;        /* further ones that read the cold part */
	unsigned stalled;     /* further ones that ask and never read */
	uint64_t operations;  /* bulk: the connection is one such number long; 0: endless */
	double seconds, warm_up;
	const char *path;
	uint64_t warm_size;    /* questions lie in the first so many bytes of the file ... */
	uint64_t file_size;    /* ... and cold ones between there and here */
	uint64_t pattern_step; /* the file has its pattern at the start of each so many bytes, or 0: everywhere */
	int listener, control;
	struct sockaddr_in address;
	bool pin;
	enum link link;
	const struct veth *veth;        /* of the link; NULL on loopback */
	const char *congestion_control; /* NULL: that of the machine, or of the wire */
	unsigned number;                /* of this run in the program's life */
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
	_Atomic int server_ready;   /* all connections have been accepted */
	_Atomic unsigned questions; /* that the server has read */
	_Atomic int measuring;      /* the time that counts has begun */
	_Atomic int stopping;       /* from here on broken connections are no errors */
	_Atomic int failed;
	char message[256];
	pid_t server;
	double seconds; /* what follows: in that time */
	uint64_t bytes, cold_bytes, checked;
	_Atomic uint64_t refusals;       /* submits that the library had no room for */
	uint64_t server_cpu, client_cpu; /* nanoseconds, all threads, io_uring's workers included */
	uint64_t machine_cpu;            /* nanoseconds that the machine's processors were busy or taken away */
	struct histogram times;          /* from question to last byte, the cold ones apart */
	struct histogram cold_times;
	uint32_t engine;
	struct snapsend_stats before, after;
	/* Sends that the kernel has reported, and those that it had copied after all. */
	uint64_t zerocopy_notified, zerocopy_copied;
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

/* A socket for a client of either kind: it is reset when it is closed. */
int new_client_socket(struct shared *shared);

/* ---- giving up ----------------------------------------------------------------------------- */

/* Ends the coordinator with a message. */
__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);
/* Ends a child of a run, and the run, with a message. */
__attribute__((format(printf, 2, 3), noreturn)) void fail(struct shared *shared, const char *format, ...);
/* The same where the way cannot run on this machine. */
__attribute__((format(printf, 2, 3), noreturn)) void skip(struct shared *shared, const char *format, ...);

/* ---- time ---------------------------------------------------------------------------------- */

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

#endif
