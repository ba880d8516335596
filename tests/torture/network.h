/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A network of the test's own: two namespaces, between them a veth pair, on it and on the loopback of the near
 * one 5 % of the data segments lost by nftables. They vanish with the last descriptor that refers to them.
 *
 * A veth pair hands the sender's pages to the receiver's stack, which copies them and says so; the kernel's
 * notifications would never tell of true zero-copy. With an XDP program at the far end the driver itself copies
 * each frame when it arrives, as a network card does, and the sender's pages are read until the peer has
 * acknowledged: retransmissions read them again.
 */
#ifndef SNAPSEND_TORTURE_NETWORK_H
#define SNAPSEND_TORTURE_NETWORK_H

#include "data_common.h"

#include <sys/wait.h>

#include "xdp.h"

#define NEAR_ADDRESS "10.99.0.1"
#define FAR_ADDRESS  "10.99.0.2"
#define LOOP_ADDRESS "10.98.0.1"
#define LOST_PERCENT "5"

enum path { PATH_UNIX, PATH_LOOP, PATH_VETH, PATHS };
static const char *const path_name[PATHS] = { "AF_UNIX", "loopback", "veth" };

struct network {
	int near, far; /* the namespaces */
	int xdp;       /* the link of the XDP program, -1: none, so no true zero-copy */
};

static inline void enter(int ns)
{
	SYS(setns(ns, CLONE_NEWNET));
}

/* Runs a tool in the current namespace; up to 20 words. */
static inline void tool(const char *words)
{
	char text[512], *rest = text;
	const char *argv[21];
	size_t n = 0;
	snprintf(text, sizeof text, "%s", words);
	for (char *word; (word = strtok_r(rest, " ", &rest)) != NULL && n < COUNT_OF(argv) - 1;)
		argv[n++] = word;
	argv[n] = NULL;
	int status = run_tool(argv);
	if (status == 127)
		skip("needs ip (iproute2) and nft (nftables)");
	if (status != 0)
		fail("%s: status %d", words, status);
}

/* Segments that carry data and come in there are lost at random; connections are set up undisturbed. */
static inline void lose_packets(const char *interface)
{
	char rule[256];
	tool("nft add table ip torture");
	tool("nft add chain ip torture in { type filter hook input priority 0 ; }");
	snprintf(rule, sizeof rule,
		 "nft add rule ip torture in iif %s meta length > 100 numgen random mod 100 < " LOST_PERCENT " drop",
		 interface);
	tool(rule);
}

static inline void far_set_up(struct network *n)
{
	enter(n->far);
	tool("ip link set lo up");
	tool("ip addr add " FAR_ADDRESS "/24 dev far0");
	tool("ip link set far0 mtu 3400 up");
	n->xdp = xdp_attach("far0");
	lose_packets("far0");
	enter(n->near);
}

/* A segment lost is sent again after 5 ms instead of 200: more of them in the same time. */
static inline void near_set_up(pid_t far)
{
	char text[128];
	tool("ip link set lo up");
	tool("ip addr add " LOOP_ADDRESS "/32 dev lo");
	tool("ip route replace table local local " LOOP_ADDRESS " dev lo rto_min 5ms");
	snprintf(text, sizeof text, "ip link add near0 type veth peer name far0 netns %d", (int)far);
	tool(text);
	tool("ip addr add " NEAR_ADDRESS "/24 dev near0");
	tool("ip link set near0 mtu 3400 up");
	tool("ip route replace 10.99.0.0/24 dev near0 rto_min 5ms");
	lose_packets("lo");
}

/* The process is in the near namespace afterwards. Before any thread exists. */
static inline void network_set_up(struct network *n)
{
	int ready[2];
	char path[64], byte;
	root_or_skip();
	if (unshare(CLONE_NEWNET) != 0)
		skip("no network namespaces");
	SYS(pipe2(ready, O_CLOEXEC));
	n->near = (int)SYS(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
	pid_t far = (pid_t)SYS(fork());
	if (far == 0) { /* holds the far namespace until somebody has opened it */
		bool done = unshare(CLONE_NEWNET) == 0 && write(ready[1], "", 1) == 1;
		close(ready[1]);
		if (done)
			pause();
		_exit(1);
	}
	close(ready[1]);
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	snprintf(path, sizeof path, "/proc/%d/ns/net", (int)far);
	n->far = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	near_set_up(far);
	far_set_up(n);
	kill(far, SIGKILL);
	SYS(waitpid(far, NULL, 0));
}

/* Tried in a child first, because without root, ip and nft it ends the process. False: no network, or one without
 * true zero-copy. */
static inline bool network_try(struct network *n)
{
	int status;
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0) {
		network_set_up(n);
		exit(n->xdp >= 0 ? 0 : 77);
	}
	SYS(waitpid(pid, &status, 0));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return false;
	network_set_up(n);
	return true;
}

/* One between whose ends nothing is lost. */
static inline void lossless_network(struct network *n)
{
	network_set_up(n);
	enter(n->far);
	tool("nft delete table ip torture");
	enter(n->near);
}

/* The same for tests of zero-copy; without such a thing the test is skipped. */
static inline void zero_copy_network(struct network *n)
{
	root_or_skip();
	if (strcmp(engine_name(), "portable") == 0)
		skip("this engine has no zero-copy");
	lossless_network(n);
	if (n->xdp < 0)
		skip("no XDP here, so no true zero-copy");
}

/* sv[0] is the near end and sends; rcvbuf 0: as the system has it. */
static inline void connect_over(const struct network *n, enum path path, int rcvbuf, int sv[2])
{
	if (path == PATH_UNIX) {
		unix_pair(sv);
		return;
	}
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof address;
	if (path == PATH_VETH)
		enter(n->far);
	int listener = (int)SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	if (rcvbuf > 0)
		SYS(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf));
	inet_pton(AF_INET, path == PATH_VETH ? FAR_ADDRESS : LOOP_ADDRESS, &address.sin_addr);
	SYS(bind(listener, (struct sockaddr *)&address, sizeof address));
	SYS(listen(listener, 1));
	SYS(getsockname(listener, (struct sockaddr *)&address, &length));
	enter(n->near);
	sv[0] = (int)SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	SYS(connect(sv[0], (struct sockaddr *)&address, sizeof address));
	sv[1] = (int)SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	close(listener);
}

/* Segments so far in the near namespace, where all senders are. */
struct segments {
	uint64_t sent, again;
};

static inline struct segments segments_now(void)
{
	char names[2048], values[2048];
	FILE *snmp = fopen("/proc/self/net/snmp", "re");
	CHECK(snmp != NULL);
	struct segments found = { 0, 0 };
	while (fgets(names, sizeof names, snmp) != NULL && fgets(values, sizeof values, snmp) != NULL) {
		char *name = names, *value = values, *n, *v;
		while (strncmp(names, "Tcp:", 4) == 0 && (n = strtok_r(name, " \n", &name)) != NULL &&
		       (v = strtok_r(value, " \n", &value)) != NULL) {
			if (strcmp(n, "OutSegs") == 0)
				found.sent = strtoull(v, NULL, 10);
			if (strcmp(n, "RetransSegs") == 0)
				found.again = strtoull(v, NULL, 10);
		}
	}
	fclose(snmp);
	return found;
}

#endif
