/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The wrong kind of descriptor is refused by submit; a socket without a connection either so, or by the
 * completion with wire_bytes 0. */
#include "common.h"
#include <sys/eventfd.h>

static snapsend_t *ctx;

/* -errno at once, or a DONE that says that nothing went out. */
static void ends_badly(int socket_fd, int file, int not_this_status)
{
	struct snapsend_request request = make_request(socket_fd, file, 0, 100);
	struct snapsend_completion completion;
	uint64_t id = 0;
	int result = snapsend_submit(ctx, &request, sizeof request, &id);
	CHECK_LE(result, 0);
	if (result == 0) {
		wait_done(ctx, id, &completion);
		CHECK_LT(completion.status, 0);
		CHECK_NE(completion.status, not_this_status);
		CHECK_UEQ(completion.wire_bytes, 0);
		CHECK_UEQ(completion.file_bytes, 0);
	}
	result = snapsend_send(ctx, &request, sizeof request, &completion);
	CHECK_LE(result, 0);
	if (result == 0) {
		CHECK_LT(completion.status, 0);
		CHECK_UEQ(completion.wire_bytes, 0);
	}
	result = snapsend_try_send(ctx, &request, sizeof request, &completion);
	CHECK_LE(result, 1);
	if (result == 0)
		wait_done(ctx, completion.id, &completion);
	if (result >= 0) {
		CHECK_LT(completion.status, 0);
		CHECK_UEQ(completion.wire_bytes, 0);
	}
}

int main(void)
{
	char path[PATH_MAX];
	int sv[2], pipes[2], pairs[2];
	struct sockaddr_storage address;
	socklen_t length;
	ctx = create_ctx();
	unix_pair(sv);
	int file = temp_file_path(100, 1, path);
	SYS(pipe2(pipes, O_CLOEXEC));
	int closed = closed_fd();
	int directory = (int)SYS(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int write_only = (int)SYS(open(path, O_WRONLY | O_CLOEXEC));
	int path_only = (int)SYS(open(path, O_PATH | O_CLOEXEC));
	int event = (int)SYS(eventfd(0, EFD_CLOEXEC));
	int null = (int)SYS(open("/dev/null", O_RDWR | O_CLOEXEC));

	/* As socket_fd. */
	struct snapsend_request request = make_request(closed, file, 0, 100);
	CHECK_EQ(rejected(ctx, &request), EBADF);
	static const int32_t never_open[] = { -1, -2, INT32_MIN, INT32_MAX };
	for (size_t i = 0; i < COUNT_OF(never_open); i++) {
		request.socket_fd = never_open[i];
		CHECK_EQ(rejected(ctx, &request), EBADF);
	}
	const int no_sockets[] = { file, pipes[1], directory, event, null };
	for (size_t i = 0; i < COUNT_OF(no_sockets); i++) {
		request.socket_fd = no_sockets[i];
		CHECK_EQ(rejected(ctx, &request), ENOTSOCK);
	}
	request.socket_fd = path_only;
	CHECK_GT(rejected(ctx, &request), 0);
	static const int kinds[][2] = { { AF_INET, SOCK_DGRAM }, { AF_UNIX, SOCK_DGRAM }, { AF_UNIX, SOCK_SEQPACKET } };
	for (size_t i = 0; i < COUNT_OF(kinds); i++) {
		request.socket_fd = (int)SYS(socket(kinds[i][0], kinds[i][1] | SOCK_CLOEXEC, 0));
		CHECK_GT(rejected(ctx, &request), 0);
		close(request.socket_fd);
	}
	SYS(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pairs)); /* a connected one too */
	request.socket_fd = pairs[0];
	CHECK_GT(rejected(ctx, &request), 0);
	CHECK_UEQ(drain(pairs[1], 5), 0);

	/* As file_fd. */
	request = make_request(sv[0], closed, 0, 100);
	CHECK_EQ(rejected(ctx, &request), EBADF);
	static const int32_t no_files[] = { -2, INT32_MIN, INT32_MAX };
	for (size_t i = 0; i < COUNT_OF(no_files); i++) {
		request.file_fd = no_files[i];
		CHECK_EQ(rejected(ctx, &request), EBADF);
	}
	request.file_fd = write_only;
	CHECK_EQ(rejected(ctx, &request), EBADF);
	request.file_fd = path_only;
	CHECK_EQ(rejected(ctx, &request), EBADF);
	const int no_regular[] = { pipes[0], directory, sv[0], event, null };
	for (size_t i = 0; i < COUNT_OF(no_regular); i++) {
		request.file_fd = no_regular[i];
		int error = rejected(ctx, &request);
		CHECK_GT(error, 0);
		CHECK_NE(error, EAGAIN); /* would invite to try again */
	}
	request.file_fd = write_only; /* also where no byte of it is wanted */
	request.length = 0;
	CHECK_EQ(rejected(ctx, &request), EBADF);

	/* Stream sockets without a connection. */
	int listener = tcp_listener(AF_INET, 0, &address, &length);
	CHECK_GE(listener, 0);
	ends_badly(listener, file, -ECANCELED);
	int unconnected = (int)SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	ends_badly(unconnected, file, -ECANCELED);
	int unconnected_unix = (int)SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	ends_badly(unconnected_unix, file, -ECANCELED);
	SYS(shutdown(sv[0], SHUT_WR));
	ends_badly(sv[0], file, -ECANCELED);

	expect_nothing(ctx, 50);
	CHECK_UEQ(drain(sv[1], 20), 0);
	destroy_ctx(ctx);
	return 0;
}
