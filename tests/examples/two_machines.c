/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Runs a command as on a machine of its own, beside another one: two network namespaces, between them a link whose
 * driver copies frames as a network card does.
 *
 *	two_machines COMMAND [ARGUMENT...]
 *
 * The command is on the near machine, 10.99.0.1.  FAR in its environment is the namespace of the far one, 10.99.0.2:
 * nsenter --net="$FAR" PROGRAM.  Ends with the command's status, and with 77 where there can be no such link.
 */
#include "../torture/network.h"

int main(int argc, char **argv)
{
	static struct network net;
	char far[64];
	int status;

	CHECK(argc > 1);
	zero_copy_network(&net);
	snprintf(far, sizeof far, "/proc/%d/fd/%d", (int)getpid(), net.far);
	pid_t child = (pid_t)SYS(fork());
	if (child == 0) {
		setenv("FAR", far, 1);
		execvp(argv[1], argv + 1);
		_exit(127);
	}
	SYS(waitpid(child, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
