/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Functions that return -errno leave errno alone, on success and on failure. */
#include "common.h"
#include <sys/wait.h>

#define MARK 4242
/* The call, then errno looked at before anything else can change it. */
#define KEEPS(call)                                                                          \
	do {                                                                                 \
		errno = MARK;                                                                \
		long long keeps_result = (long long)(call);                                  \
		int keeps_errno = errno;                                                     \
		if (keeps_errno != MARK)                                                     \
			fail("%s (%lld) set errno to %d", #call, keeps_result, keeps_errno); \
	} while (0)

int main(void)
{
	int sv[2], stalled[2];
	snapsend_t *ctx = NULL;
	struct snapsend_options options;
	struct snapsend_completion completion;
	struct snapsend_info info;
	struct snapsend_stats stats;
	uint64_t id;
	unix_pair(sv);
	unix_pair(stalled);
	int file = temp_file(MIB, 1);
	memset(&options, 0, sizeof options);
	fill_socket(stalled[0]);

	options.engine = 99;
	KEEPS(snapsend_create(&options, sizeof options, &ctx));
	options.engine = 0;
	KEEPS(snapsend_create(&options, sizeof options, &ctx));
	CHECK(ctx != NULL);
	KEEPS(snapsend_version());
	KEEPS(snapsend_version_string() != NULL);
	KEEPS(snapsend_event_fd(ctx));
	KEEPS(snapsend_get_info(ctx, &info, sizeof info));
	KEEPS(snapsend_get_info(ctx, &info, 0));
	KEEPS(snapsend_get_stats(ctx, &stats, sizeof stats));

	struct snapsend_request request = make_request(sv[0], file, 0, 1000);
	KEEPS(snapsend_submit(ctx, &request, sizeof request, &id));
	KEEPS(snapsend_poll(ctx, &completion, 1, WAIT_MS));
	KEEPS(snapsend_poll(ctx, &completion, 1, 0));
	KEEPS(snapsend_poll(ctx, &completion, 1, 10));
	KEEPS(snapsend_poll(ctx, &completion, 0, 10));
	KEEPS(snapsend_submit_many(ctx, &request, sizeof request, 1, &id));
	KEEPS(snapsend_poll(ctx, &completion, 1, -1));
	KEEPS(snapsend_send(ctx, &request, sizeof request, &completion));
	KEEPS(snapsend_try_send(ctx, &request, sizeof request, &completion));
	KEEPS(snapsend_cancel(ctx, 12345));
	KEEPS(snapsend_cancel_socket(ctx, sv[0]));
	KEEPS(snapsend_cancel_socket(ctx, -1));
	KEEPS(snapsend_cancel_socket(ctx, file));

	/* Where system calls fail inside: bad descriptors, full and broken sockets, the end of the file. */
	request.socket_fd = -1;
	KEEPS(snapsend_submit(ctx, &request, sizeof request, &id));
	request.socket_fd = file;
	KEEPS(snapsend_send(ctx, &request, sizeof request, &completion));
	request = make_request(sv[0], -5, 0, 1000);
	KEEPS(snapsend_try_send(ctx, &request, sizeof request, &completion));
	request = make_request(sv[0], file, 10 * MIB, 1000);
	KEEPS(snapsend_try_send(ctx, &request, sizeof request, &completion));
	KEEPS(snapsend_send(ctx, &request, sizeof request, &completion));
	request = make_request(stalled[0], file, 0, 1000);
	request.timeout_ms = 50;
	KEEPS(snapsend_try_send(ctx, &request, sizeof request, &completion));
	KEEPS(snapsend_send(ctx, &request, sizeof request, &completion));
	KEEPS(snapsend_submit(ctx, &request, sizeof request, &id));
	KEEPS(snapsend_cancel(ctx, id));
	close(sv[1]);
	request = make_request(sv[0], file, 0, 1000);
	KEEPS(snapsend_try_send(ctx, &request, sizeof request, &completion));
	KEEPS(snapsend_send(ctx, &request, sizeof request, &completion));

	pid_t child = (pid_t)SYS(fork());
	if (child == 0) {
		KEEPS(snapsend_poll(ctx, &completion, 1, 0));
		KEEPS(snapsend_destroy(ctx));
		_exit(0);
	}
	int status;
	SYS(waitpid(child, &status, 0));
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	KEEPS(snapsend_destroy(ctx));
	KEEPS(snapsend_destroy(NULL));
	return 0;
}
