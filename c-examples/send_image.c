/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * send_image: sends a VM image that is in use, as it is at one instant, to another machine or to a
 * peer of its own.
 *
 *	send_image IMAGE               to a child process, which counts the bytes
 *	send_image IMAGE ADDRESS PORT  to an IPv4 address, on which for example this runs: nc -l 9000 >copy
 *
 * The image is on XFS or btrfs, whose files can be cloned, in a directory that this program may write to.  The virtual
 * machine goes on writing, and its writes after the snapshot are not in what arrives.  A file that fits into the pool
 * (20 MiB) is read, not cloned: hold back its writers until the snapshot.  A longer one on another file system gives
 * EMSGSIZE.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <sys/wait.h>

#include "loopback.h"
#include "snapsend.h"

/* Starts a child process that reads everything. */
static int connect_to_child(void)
{
	static char buffer[1u << 16];
	uint64_t total = 0;
	int sender, peer;
	ssize_t n;

	if (loopback_child(&sender, &peer) == 0) {
		while ((n = read(peer, buffer, sizeof(buffer))) > 0)
			total += (uint64_t)n;
		printf("peer: %" PRIu64 " bytes\n", total);
		fflush(stdout);
		_exit(n < 0);
	}
	return sender;
}

/* Waits for an event of the only operation. */
static struct snapsend_completion next_event(snapsend_t *ctx)
{
	struct snapsend_completion event;
	int count = snapsend_poll(ctx, &event, 1, -1);

	if (count < 1)
		die("snapsend_poll", count);
	return event;
}

int main(int argc, char **argv)
{
	struct snapsend_request request = { .length = SNAPSEND_TO_EOF,
					    .flags = SNAPSEND_EXACT | SNAPSEND_NOTIFY_SNAPSHOT };
	struct snapsend_completion event;
	snapsend_t *ctx;
	int error;

	if (argc != 2 && argc != 4) {
		fprintf(stderr, "usage: %s IMAGE [ADDRESS PORT]\n", argv[0]);
		return 2;
	}
	request.socket_fd = argc == 4 ? tcp_connect(argv[2], argv[3]) : connect_to_child();
	request.file_fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (request.file_fd < 0)
		die(argv[1], errno);
	error = snapsend_create(NULL, 0, &ctx);
	if (error < 0)
		die("snapsend_create", error);
	error = snapsend_submit(ctx, &request, sizeof(request), NULL);
	if (error < 0)
		die("snapsend_submit", error);
	event = next_event(ctx);
	if (event.event == SNAPSEND_EVENT_SNAPSHOT) {
		/* Here a server would let the guest's file systems thaw. */
		printf("snapshot taken, after %" PRIu64 " bytes were sent\n", event.wire_bytes);
		fflush(stdout);
		event = next_event(ctx);
	}
	snapsend_destroy(ctx);
	if (event.status < 0)
		die(argv[1], event.status);
	printf("sent: %" PRIu64 " bytes\n", event.file_bytes);
	close(request.socket_fd);
	while (argc == 2 && wait(NULL) < 0 && errno == EINTR)
		;
	return 0;
}
