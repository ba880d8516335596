/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the tests of files whose content cannot change (frozen_*.c) share, beyond data_common.h.
 *
 *   files      memory_file: an open memfd with a pattern  seal  SEALS: those that make it frozen
 *   counters   frozen_bytes: sent by reference so far
 *   transfer   by_reference: sends a file once it is known to be quick; the bytes that went by reference
 */
#ifndef SNAPSEND_TESTS_FROZEN_H
#define SNAPSEND_TESTS_FROZEN_H

#include "data_common.h"

#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

static inline int memory_file(size_t length, uint64_t seed)
{
	int file = (int)SYS(memfd_create("frozen", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	unsigned char *image = image_of(0, length, seed);
	file_put(file, 0, image, length);
	free(image);
	return file;
}

static inline void seal(int file, int seals)
{
	SYS(fcntl(file, F_ADD_SEALS, seals));
}

static inline uint64_t frozen_bytes(snapsend_t *ctx)
{
	return stats_of(ctx).bytes_frozen;
}

/* Sends the first bytes of a file several times: the library reads a file before it believes that it is quick. */
static inline uint64_t by_reference(snapsend_t *ctx, int file, const unsigned char *image, size_t length)
{
	int sv[2];
	tcp_pair(sv);
	set_nonblock(sv[0]);
	uint64_t before = frozen_bytes(ctx);
	for (int i = 0; i < 4; i++)
		(void)transfer_ok(ctx, sv, make_request(sv[0], file, 0, length), image, length);
	close_pair(sv);
	return frozen_bytes(ctx) - before;
}

#endif
