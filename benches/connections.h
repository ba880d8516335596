/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What all servers do with a connection: accept it, take a question, take what comes next.
 */
#ifndef BENCH_CONNECTIONS_H
#define BENCH_CONNECTIONS_H

#include "common.h"

struct buffer;

struct connection {
	int fd, file_fd;
	uint32_t index;
	bool busy;                        /* an operation is in hand */
	int request_socket, request_file; /* the library: what requests name, descriptors or handles */
	unsigned in_flight;               /* the library: operations submitted */
	bool waiting;                     /* the library had no room for the operation in hand */
	struct connection *next_waiting;
	struct iovec header_part;
	uint64_t operations; /* begun so far */
	uint64_t start;      /* bulk: of its first operation, in the file */
	struct header header;
	unsigned header_left;
	uint64_t offset, left; /* of the range in hand, what has not been sent */

	struct buffer *buffer; /* pread, zerocopy: holds what is to be sent next */
	size_t from, until;
	struct buffer **sent; /* zerocopy: ring of those that sends are out for, by the kernel's numbers */
	uint32_t sent_first, sent_next;
	char *map; /* mmap: the window in hand */
	size_t map_length;
	int pipe[2]; /* splice */
	size_t in_pipe;
};

/* What a push function says of the operation in hand. */
enum { BROKEN = -1, BLOCKED = 0, DONE = 1, REFUSED = 2 };

typedef int (*push_function)(struct connection *c);

/* Accepts all connections; blocking says how. */
struct connection *accept_all(const struct setup *setup, struct shared *shared, bool blocking);
/* Makes the question the operation in hand. */
void take_question(const struct setup *setup, struct shared *shared, struct connection *c,
		   const struct question *question);
/* Bulk: makes the next operation the one in hand.  False: there is none. */
bool take_next(const struct setup *setup, struct shared *shared, struct connection *c);

#endif
