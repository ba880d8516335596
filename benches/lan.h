/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The LAN: a link that copies each frame on arrival, as a network card does, with a real reader behind it.
 */
#ifndef BENCH_LAN_H
#define BENCH_LAN_H

#include "common.h"

/* Makes the link. */
const struct veth *lan_open(void);

#endif
