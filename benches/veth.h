/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Two network namespaces with a veth pair between them: the server's end is near, the client's is far.
 *
 * The namespaces have no names.  Descriptors of the benchmark are all that holds them, so that they are gone with its last
 * process, however it ends.
 */
#ifndef BENCH_VETH_H
#define BENCH_VETH_H

#include "common.h"

#define NEAR_ADDRESS UINT32_C(0x0a4d0001) /* 10.77.0.1, the same in each pair */
#define FAR_ADDRESS  UINT32_C(0x0a4d0002)
#define NEAR_DEVICE  "near0"
#define FAR_DEVICE   "far0"

enum place { HOME, NEAR, FAR };

struct veth {
	char why_not[256]; /* empty: the link is there */
	int home, near, far;
};

/* Makes the pair, and runs sh(1) commands at each end when both are up.  False: why_not has the reason. */
bool veth_make(struct veth *veth, const char *near_commands, const char *far_commands);
/* Notes why the link cannot be used.  Returns false. */
__attribute__((format(printf, 2, 3))) bool veth_cannot(struct veth *veth, const char *format, ...);
/* Takes the calling thread there. */
void veth_go(const struct veth *veth, enum place place);

#endif
