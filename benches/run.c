/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "run.h"

#include <math.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "veth.h"
#include "wire.h"

#define GRACE 30.0 /* for connecting and tearing down, before a run is given up */

static struct shared *shared;
static unsigned runs;
static char congestion_control[16];

const char *run_message(void)
{
	return shared->message;
}

const char *run_congestion_control(void)
{
	return congestion_control;
}

unsigned run_count(void)
{
	return runs;
}

static void become(const char *name, const struct setup *setup, int cpu)
{
	cpu_set_t set;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, name);
	/* Nothing that goes wrong keeps a process for ever. */
	alarm((unsigned)(setup->warm_up + setup->seconds + 2 * GRACE));
	if (!setup->pin)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		fail(shared, "sched_setaffinity: %s", strerror(errno));
}

/* Waits for a child; true if it has ended by then.  Its status is left in *status. */
static bool await(pid_t child, double seconds, int *status)
{
	int fd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd wait = { .fd = fd, .events = POLLIN };

	if (fd < 0)
		die("pidfd_open: %s", strerror(errno));
	while (poll(&wait, 1, (int)(seconds * 1000)) < 0 && errno == EINTR)
		;
	close(fd);
	if ((wait.revents & POLLIN) == 0)
		return false;
	return waitpid(child, status, 0) == child;
}

static void end(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* Sockets that are accepted have the listener's; the clients only ask. */
static void choose_congestion_control(const struct setup *setup)
{
	const char *wanted = setup->congestion_control;
	socklen_t length = sizeof(congestion_control) - 1;

	if (wanted != NULL &&
	    setsockopt(setup->listener, IPPROTO_TCP, TCP_CONGESTION, wanted, (socklen_t)strlen(wanted)) < 0)
		die("--congestion-control %s: %s", wanted, strerror(errno));
	memset(congestion_control, 0, sizeof(congestion_control));
	getsockopt(setup->listener, IPPROTO_TCP, TCP_CONGESTION, congestion_control, &length);
}

static void listen_for(struct setup *setup)
{
	socklen_t length = sizeof(setup->address);

	setup->address =
		(struct sockaddr_in){ .sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(setup->veth != NULL ? NEAR_ADDRESS : INADDR_LOOPBACK) };
	if (setup->veth != NULL)
		veth_go(setup->veth, NEAR);
	setup->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setup->control = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (setup->listener < 0 || setup->control < 0 ||
	    bind(setup->listener, (struct sockaddr *)&setup->address, length) < 0 ||
	    listen(setup->listener, 4096) < 0 ||
	    getsockname(setup->listener, (struct sockaddr *)&setup->address, &length) < 0)
		die("listening: %s", strerror(errno));
	choose_congestion_control(setup);
	if (setup->veth != NULL)
		veth_go(setup->veth, HOME);
}

static pid_t start(const struct setup *setup, bool server)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child < 0)
		die("fork: %s", strerror(errno));
	if (child > 0)
		return child;
	become(server ? "bench-server" : "bench-client", setup, server ? 0 : 1);
	if (setup->veth != NULL)
		veth_go(setup->veth, server ? NEAR : FAR);
	if (server)
		_exit(setup->way->serve(setup, shared));
	close(setup->listener);
	if (setup->link == WIRE)
		run_far_end(setup, shared);
	else
		run_client(setup, shared);
	_exit(EXIT_SUCCESS);
}

/* File data given to sockets, by whatever method. */
static uint64_t moved(const struct snapsend_stats *stats)
{
	return stats->bytes_copied + stats->bytes_zerocopy;
}

static double share(uint64_t part, uint64_t of)
{
	return of > 0 ? (double)part / (double)of : 0;
}

static void take_result(struct result *result)
{
	double gb = (double)(shared->bytes + shared->cold_bytes) / 1e9;
	const struct snapsend_stats *a = &shared->before, *b = &shared->after;
	uint64_t operations = b->done_ok - a->done_ok;
	double foreign = (double)shared->machine_cpu - (double)(shared->server_cpu + shared->client_cpu);

	*result = (struct result){
		.valid = gb > 0 && shared->seconds > 0,
		.rate = (double)shared->bytes / 1e9 / shared->seconds,
		.cold_rate = (double)shared->cold_bytes / 1e9 / shared->seconds,
		.answers = (double)shared->times.count / shared->seconds,
		.server_cpu = (double)shared->server_cpu / 1e9 / gb,
		.client_cpu = (double)shared->client_cpu / 1e9 / gb,
		.machine_cpu = (double)shared->machine_cpu / 1e9 / gb,
		.p50 = percentile(&shared->times, 0.5) / 1000,
		.p99 = percentile(&shared->times, 0.99) / 1000,
		.p999 = percentile(&shared->times, 0.999) / 1000,
		.enters = operations > 0 ? (double)(b->kernel_enters - a->kernel_enters) / (double)operations : NAN,
		.wakeups = operations > 0 ? (double)(b->wakeups - a->wakeups) / (double)operations : NAN,
		.zerocopy_notified = (double)shared->zerocopy_notified,
		.zerocopy_copied = (double)shared->zerocopy_copied,
		.page_cache = share(b->bytes_page_cache - a->bytes_page_cache, moved(b) - moved(a)),
		.foreign = fmax(foreign / 1e9 / shared->seconds / (double)sysconf(_SC_NPROCESSORS_ONLN), 0),
		.engine = shared->engine,
		.checked = shared->checked,
	};
}

/* What the two processes came to. */
static int outcome(int server_status, int client_status, struct result *result)
{
	int status = atomic_load(&shared->failed);

	if (status == 0 && (server_status != 0 || client_status != 0)) {
		snprintf(shared->message, sizeof(shared->message), "server ended with %#x, client with %#x",
			 (unsigned)server_status, (unsigned)client_status);
		status = EXIT_FAILURE;
	}
	if (status == 0) {
		take_result(result);
		if (!result->valid) {
			snprintf(shared->message, sizeof(shared->message), "nothing has come in the time that counts");
			status = EXIT_FAILURE;
		}
	}
	return status;
}

int run(struct setup *setup, struct result *result)
{
	int server_status = -1, client_status = -1;
	pid_t server, client;
	bool ended;

	if (shared == NULL)
		shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("no memory");
	memset(shared, 0, sizeof(*shared));
	setup->number = runs++;
	listen_for(setup);
	server = shared->server = start(setup, true);
	client = start(setup, false);
	close(setup->listener);
	ended = false;
	/* The client ends first, unless the server has failed: then the client would wait in vain. */
	for (double left = setup->warm_up + setup->seconds + GRACE; left > 0 && !ended; left -= 0.25) {
		ended = await(client, 0.25, &client_status);
		if (!ended && atomic_load(&shared->failed))
			break;
	}
	if (!ended)
		end(client);
	if (!ended || !await(server, GRACE / 2, &server_status))
		end(server);
	close(setup->control);
	return outcome(server_status, client_status, result);
}
