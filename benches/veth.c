/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "veth.h"

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char near_set_up[] = "ip addr add 10.77.0.1/24 dev " NEAR_DEVICE " && ip link set lo up && "
				  "ip link set " NEAR_DEVICE " up";
static const char far_set_up[] = "ip addr add 10.77.0.2/24 dev " FAR_DEVICE " && ip link set lo up && "
				 "ip link set " FAR_DEVICE " up";

bool veth_cannot(struct veth *veth, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(veth->why_not, sizeof(veth->why_not), format, arguments);
	va_end(arguments);
	return false;
}

void veth_go(const struct veth *veth, enum place place)
{
	int to = place == HOME ? veth->home : place == NEAR ? veth->near : veth->far;

	if (setns(to, CLONE_NEWNET) < 0)
		die("setns: %s", strerror(errno));
}

static int new_namespace(void)
{
	return unshare(CLONE_NEWNET) < 0 ? -1 : open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
}

/* Runs where the calling thread is.  False: one of the commands failed, and has said why. */
static bool run_commands(struct veth *veth, const char *commands, const char *end)
{
	return system(commands) == 0 || veth_cannot(veth, "the %s end of a veth pair: ip(8) or a sysctl failed", end);
}

static bool make_pair(struct veth *veth)
{
	char command[256];

	snprintf(command, sizeof(command),
		 "ip link add " FAR_DEVICE " type veth peer name " NEAR_DEVICE " netns /proc/%d/fd/%d", (int)getpid(),
		 veth->near);
	veth_go(veth, FAR);
	if (!run_commands(veth, command, "far") || !run_commands(veth, far_set_up, "far"))
		return false;
	veth_go(veth, NEAR);
	return run_commands(veth, near_set_up, "near");
}

static bool configure(struct veth *veth, const char *near_commands, const char *far_commands)
{
	veth_go(veth, NEAR);
	if (!run_commands(veth, near_commands, "near"))
		return false;
	veth_go(veth, FAR);
	return run_commands(veth, far_commands, "far");
}

bool veth_make(struct veth *veth, const char *near_commands, const char *far_commands)
{
	bool made;

	if (system("command -v ip >/dev/null 2>&1") != 0)
		return veth_cannot(veth, "no ip(8): Debian's package iproute2 has it");
	veth->home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	veth->near = veth->home < 0 ? -1 : new_namespace();
	if (veth->near < 0)
		return veth_cannot(veth, "network namespaces: %s%s", strerror(errno),
				   geteuid() != 0 ? " (it needs root)" : "");
	veth->far = new_namespace();
	made = veth->far < 0 ? veth_cannot(veth, "network namespaces: %s", strerror(errno))
			     : make_pair(veth) && configure(veth, near_commands, far_commands);
	veth_go(veth, HOME);
	return made;
}
