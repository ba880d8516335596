/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Runs a command at the near end of the LAN of the benchmarks (benches/lan.c), where a server is measured:
 *
 *   lan COMMAND [ARGUMENT...]
 *
 * It has the addresses 10.77.0.1 (near) and 10.77.0.2 (far).  SNAPSEND_FAR_NETWORK in the command's environment is what
 * nsenter(1) takes as --net to run a client at the far end.  The link lasts as long as the command.  Status 77: there can
 * be no such link.
 */
#include "../benches/lan.h"
#include "../benches/veth.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void run(const struct veth *veth, char **command)
{
	char path[64];

	veth_go(veth, NEAR);
	fcntl(veth->far, F_SETFD, 0); /* the command's processes inherit it */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", veth->far);
	setenv("SNAPSEND_FAR_NETWORK", path, 1);
	execvp(command[0], command);
	die("%s: %s", command[0], strerror(errno));
}

int main(int argc, char **argv)
{
	const struct veth *veth = argc > 1 ? lan_open() : NULL;
	int status;
	pid_t child;

	if (veth == NULL || veth->why_not[0] != '\0') {
		fprintf(stderr, "lan: %s\n", veth == NULL ? "usage: lan COMMAND [ARGUMENT...]" : veth->why_not);
		return veth == NULL ? 2 : 77;
	}
	child = fork();
	if (child < 0)
		die("fork: %s", strerror(errno));
	if (child == 0)
		run(veth, argv + 1);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid: %s", strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
