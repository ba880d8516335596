/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A check in a program under the shim, in any of its processes. The program ends with status 1 where it fails. */
#ifndef SNAPSEND_PRELOAD_CHECK_H
#define SNAPSEND_PRELOAD_CHECK_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHECK(x)                                                                         \
	do {                                                                             \
		if (!(x)) {                                                              \
			dprintf(2, "line %d: %s (%s)\n", __LINE__, #x, strerror(errno)); \
			_exit(1);                                                        \
		}                                                                        \
	} while (0)

#endif
