/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The files that are sent: made, brought into the page cache, dropped from it.
 */
#ifndef BENCH_FILES_H
#define BENCH_FILES_H

#include "common.h"

struct files {
	char path[64], huge_path[64]; /* in /proc/self/fd: the files have no names */
	uint64_t size, warm;          /* of path; its first part, which stays in the cache.  Powers of two */
	uint64_t huge_size;
};

extern struct files files;

/* Whether the content of the file that is sent cannot change: a sealed memfd, or on squashfs. */
enum frozen { MAY_CHANGE, IN_MEMORY, ON_SQUASHFS };

/* In a directory, which must outlive the program. */
void make_files(const char *directory, bool quick, enum frozen frozen);
/* Brings all of a file into the cache, unless it is there.  The huge one is made when it is first asked for. */
void warm_file(bool huge);
/* Drops the cold part, what is behind the first warm bytes, from the cache.  Reports if it stays. */
void chill_file(void);

#endif
