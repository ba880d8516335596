/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A veth pair with an XDP program in the driver of the far end.  The driver copies each frame when it arrives, so that the
 * sender's pages are read until the peer has acknowledged them, and zero-copy is real.  The reader is the one of the
 * loopback: it copies what arrives and compares samples.
 *
 * The copy of each frame costs more than the ways differ by, and falls on whichever process runs at the time: this
 * link shows correctness and latency, and only the whole machine's CPU time says what a way costs.
 */
#include "lan.h"

#include "../tests/torture/xdp.h"
#include "veth.h"

/* A frame and its headers must fit one page where XDP is in use.  Nothing learnt from one run for the next. */
#define MTU "3400"

static struct veth veth;

const struct veth *lan_open(void)
{
	if (veth_make(&veth,
		      "ip link set " NEAR_DEVICE " mtu " MTU " && echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save",
		      "ip link set " FAR_DEVICE " mtu " MTU)) {
		veth_go(&veth, FAR);
		if (xdp_attach(FAR_DEVICE) < 0)
			veth_cannot(&veth, "attaching an XDP program to the driver of veth: %s", strerror(errno));
		veth_go(&veth, HOME);
	}
	return &veth;
}
