/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * three_moments: prints when SENT, SNAPSHOT and DONE of one operation with SNAPSEND_ZEROCOPY come, while the peer reads
 * late.
 *
 *	three_moments                  the peer is a child process, which reads after a second
 *	three_moments ADDRESS PORT     an IPv4 address, on which for example this runs:
 *	                               nc -l 9000 | (sleep 3; cat >/dev/null)
 *
 * To a peer on the same machine the kernel always copies, and all three come before the peer reads.  To another machine
 * the pages of the file itself are in the socket: SENT comes at once, SNAPSHOT and DONE when the peer has acknowledged
 * them.  The file is made in $TMPDIR or /tmp, which should be on one of the file systems that snapsend-ways(7) names.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sys/wait.h>
#include <time.h>

#include "loopback.h"
#include "snapsend.h"

#define FILE_BYTES (256u << 10)
#define LATE_MS    1000

static int64_t started;

/* Starts a child process that is the peer. */
static int connect_to_child(pid_t *child)
{
	const struct timespec late = { .tv_sec = LATE_MS / 1000 };
	static char buffer[FILE_BYTES];
	int sender, peer;

	*child = loopback_child(&sender, &peer);
	if (*child == 0) {
		nanosleep(&late, NULL);
		_exit(read_all(peer, buffer, sizeof(buffer)) == sizeof(buffer) ? 0 : 1);
	}
	return sender;
}

static int make_file(void)
{
	static char content[FILE_BYTES];
	int fd = scratch_file();

	memset(content, 'a', sizeof(content));
	write_at(fd, content, sizeof(content), 0);
	return fd;
}

/* Prints the completions of the operation until its DONE, which is returned. */
static struct snapsend_completion watch(snapsend_t *ctx)
{
	struct snapsend_completion completion;

	for (;;) {
		int r = snapsend_poll(ctx, &completion, 1, -1);

		if (r == -EINTR)
			continue;
		if (r < 0)
			die("snapsend_poll", r);
		printf("%6" PRId64 " ms  ", milliseconds() - started);
		if (completion.event == SNAPSEND_EVENT_SENT) {
			puts("SENT: all bytes are in the socket, which is free for other data");
		} else if (completion.event == SNAPSEND_EVENT_SNAPSHOT) {
			puts("SNAPSHOT: the file may change");
		} else {
			printf("DONE: %s; the file and the socket may be closed\n", strerror(-completion.status));
			return completion;
		}
	}
}

int main(int argc, char **argv)
{
	struct snapsend_request request = {
		.length = FILE_BYTES,
		.flags = SNAPSEND_ZEROCOPY | SNAPSEND_NOTIFY_SENT | SNAPSEND_NOTIFY_SNAPSHOT,
		.timeout_ms = 60000,
	};
	struct snapsend_completion done;
	struct snapsend_stats stats;
	int buffer = 2 * FILE_BYTES, status = 0, r;
	pid_t child = 0;
	snapsend_t *ctx;

	if (argc != 1 && argc != 3) {
		fprintf(stderr, "usage: %s [ADDRESS PORT]\n", argv[0]);
		return 2;
	}
	request.file_fd = make_file();
	request.socket_fd = argc == 3 ? tcp_connect(argv[1], argv[2]) : connect_to_child(&child);
	/* So that everything fits into the socket although the peer does not read. */
	setsockopt(request.socket_fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	r = snapsend_create(NULL, 0, &ctx);
	if (r < 0)
		die("snapsend_create", r);
	started = milliseconds();
	r = snapsend_submit(ctx, &request, sizeof(request), NULL);
	if (r < 0)
		die("snapsend_submit", r);
	done = watch(ctx);
	r = snapsend_get_stats(ctx, &stats, sizeof(stats));
	if (r < 0)
		die("snapsend_get_stats", r);
	printf("%" PRIu64 " bytes were sent from the page cache itself%s\n", stats.bytes_page_cache,
	       stats.bytes_page_cache != 0 ? "" : ": the operation went as without SNAPSEND_ZEROCOPY");
	snapsend_destroy(ctx);
	close(request.socket_fd);
	close(request.file_fd);
	if (child != 0 && waitpid(child, &status, 0) < 0)
		die("waitpid", errno);
	return done.status < 0 || status != 0;
}
