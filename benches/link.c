/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The links for other programs, a server and its clients:
 *
 *	bench link wire|lan COMMAND [ARGUMENT...]
 *
 * runs a command at the near end, 10.77.0.1.  FAR_NETWORK in its environment names the network namespace of the far end, as
 * nsenter --net takes it.  The status is the command's, or 77 if the link cannot be had.
 *
 *	bench get PORT PATH ANSWER_LENGTH CONNECTIONS SECONDS SERVER_PID
 *
 * runs at the far end of the wire, and is the HTTP client there.  Prints GB/s, and the CPU seconds of the server and of the
 * machine for a GB.
 */
#include "link.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lan.h"
#include "veth.h"
#include "wire.h"

static void become_command(const struct veth *veth, char **command)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	veth_go(veth, NEAR);
	execvp(command[0], command);
	die("%s: %s", command[0], strerror(errno));
}

int run_on_link(int argc, char **argv)
{
	const struct veth *veth;
	char far_network[64];
	int status;
	pid_t child;

	if (argc < 2 || (strcmp(argv[0], "wire") != 0 && strcmp(argv[0], "lan") != 0))
		die("bench link wire|lan COMMAND [ARGUMENT...]");
	veth = argv[0][0] == 'w' ? wire_make() : lan_open();
	if (veth->why_not[0] != '\0') {
		fprintf(stderr, "bench: SKIP %s: %s\n", argv[0], veth->why_not);
		return SKIPPED;
	}
	snprintf(far_network, sizeof(far_network), "/proc/%d/fd/%d", (int)getpid(), veth->far);
	setenv("FAR_NETWORK", far_network, 1);
	child = fork();
	if (child < 0)
		die("fork: %s", strerror(errno));
	if (child == 0)
		become_command(veth, argv + 1);
	signal(SIGINT, SIG_IGN); /* the link stays until the command has ended */
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

static void print_figures(const struct shared *shared)
{
	double gb = (double)shared->bytes / 1e9;

	printf("%.3f %.4f %.4f\n", gb / shared->seconds, (double)shared->server_cpu / 1e9 / gb,
	       (double)shared->machine_cpu / 1e9 / gb);
}

/* In a child, because a failure ends the process and leaves its reason in the shared memory. */
static void get(const struct get *what)
{
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t child;

	if (shared == MAP_FAILED)
		die("no memory");
	child = fork();
	if (child < 0)
		die("fork: %s", strerror(errno));
	if (child == 0) {
		wire_get(what, shared);
		_exit(EXIT_SUCCESS);
	}
	if (waitpid(child, &status, 0) < 0 || status != 0)
		die("%s", shared->message);
	print_figures(shared);
}

int get_by_link(int argc, char **argv)
{
	struct get what;

	if (argc != 6)
		die("bench get PORT PATH ANSWER_LENGTH CONNECTIONS SECONDS SERVER_PID");
	what = (struct get){
		.port = (uint16_t)atoi(argv[0]),
		.path = argv[1],
		.answer_length = (uint32_t)strtoul(argv[2], NULL, 10),
		.connections = (unsigned)atoi(argv[3]),
		.seconds = strtod(argv[4], NULL),
		.server = atoi(argv[5]),
	};
	if (what.answer_length == 0 || what.connections == 0 || what.connections > WIRE_CONNECTIONS ||
	    !(what.seconds > 0))
		die("bench get: the answer has at least 1 byte, and there are 1 to %u connections", WIRE_CONNECTIONS);
	get(&what);
	return EXIT_SUCCESS;
}
