/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What registering and naming by handle refuse, with which errors: flags, descriptors that are closed or of the wrong
 * kind, handles of another context, of the other kind, and unregistered ones, which stay invalid. */
#include "registered.h"
#include <sys/eventfd.h>

static snapsend_t *ctx;

/* -EBADF by each call, with the number as socket or as file. */
static void no_socket(int handle, const struct ends *ends)
{
	struct snapsend_request request = ends_request(ends, FILE_BY_HANDLE, 0, 100);
	request.socket_fd = handle;
	request.flags |= SNAPSEND_REGISTERED_SOCKET;
	CHECK_EQ(rejected(ends->ctx, &request), EBADF);
	CHECK_ERR(snapsend_unregister_socket(ends->ctx, handle), EBADF);
}

static void no_file(int handle, const struct ends *ends)
{
	struct snapsend_request request = ends_request(ends, SOCKET_BY_HANDLE, 0, 100);
	request.file_fd = handle;
	request.flags |= SNAPSEND_REGISTERED_FILE;
	CHECK_EQ(rejected(ends->ctx, &request), EBADF);
	CHECK_ERR(snapsend_unregister_file(ends->ctx, handle), EBADF);
}

static void refused_descriptors(const char *path)
{
	struct sockaddr_storage address;
	socklen_t length;
	int pipes[2], closed = closed_fd();
	SYS(pipe2(pipes, O_CLOEXEC));
	int directory = (int)SYS(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int write_only = (int)SYS(open(path, O_WRONLY | O_CLOEXEC));
	int path_only = (int)SYS(open(path, O_PATH | O_CLOEXEC));
	int file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	int event = (int)SYS(eventfd(0, EFD_CLOEXEC));
	int datagrams = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	int listener = tcp_listener(AF_INET, 0, &address, &length);

	static const int never_open[] = { -1, -2, INT_MIN, INT_MAX };
	for (size_t i = 0; i < COUNT_OF(never_open); i++) {
		CHECK_ERR(snapsend_register_file(ctx, never_open[i], 0), EBADF);
		CHECK_ERR(snapsend_register_socket(ctx, never_open[i], 0), EBADF);
	}
	CHECK_ERR(snapsend_register_file(ctx, closed, 0), EBADF);
	CHECK_ERR(snapsend_register_socket(ctx, closed, 0), EBADF);
	CHECK_ERR(snapsend_register_file(ctx, directory, 0), EISDIR);
	CHECK_ERR(snapsend_register_file(ctx, write_only, 0), EBADF);
	CHECK_ERR(snapsend_register_file(ctx, path_only, 0), EBADF);
	CHECK_ERR(snapsend_register_file(ctx, pipes[0], 0), EINVAL);
	CHECK_ERR(snapsend_register_file(ctx, event, 0), EINVAL);
	CHECK_ERR(snapsend_register_file(ctx, listener, 0), EINVAL);
	const int no_sockets[] = { file, pipes[1], directory, event };
	for (size_t i = 0; i < COUNT_OF(no_sockets); i++)
		CHECK_ERR(snapsend_register_socket(ctx, no_sockets[i], 0), ENOTSOCK);
	CHECK_ERR(snapsend_register_socket(ctx, path_only, 0), EBADF);
	CHECK_ERR(snapsend_register_socket(ctx, datagrams, 0), ESOCKTNOSUPPORT);
	CHECK_ERR(snapsend_register_socket(ctx, listener, 0), ENOTCONN);
	const int open[] = { pipes[0], pipes[1], directory, write_only, path_only, file, event, datagrams, listener };
	for (size_t i = 0; i < COUNT_OF(open); i++)
		close(open[i]);
}

static void flags_and_null(const struct ends *ends)
{
	for (int bit = 0; bit < 32; bit++) {
		CHECK_ERR(snapsend_register_file(ctx, ends->file, UINT32_C(1) << bit), EINVAL);
		CHECK_ERR(snapsend_register_socket(ctx, ends->sv[0], UINT32_C(1) << bit), EINVAL);
	}
	CHECK_ERR(snapsend_register_file(NULL, ends->file, 0), EFAULT);
	CHECK_ERR(snapsend_register_socket(NULL, ends->sv[0], 0), EFAULT);
	CHECK_ERR(snapsend_unregister_file(NULL, ends->file_handle), EFAULT);
	CHECK_ERR(snapsend_unregister_socket(NULL, ends->socket_handle), EFAULT);
}

/* Each handle where the other one belongs, or without its flag; and descriptors with it. */
static void mistaken(const struct ends *ends)
{
	no_socket(ends->file_handle, ends);
	no_file(ends->socket_handle, ends);
	no_socket(ends->sv[0], ends);
	no_file(ends->file, ends);
	struct snapsend_request request = ends_request(ends, BY_HANDLE, 0, 100);
	request.flags = SNAPSEND_REGISTERED_FILE;
	CHECK_EQ(rejected(ctx, &request), EBADF);
	request.flags = SNAPSEND_REGISTERED_SOCKET;
	CHECK_EQ(rejected(ctx, &request), EBADF);
	request.flags = 0;
	CHECK_EQ(rejected(ctx, &request), EBADF);
	static const int numbers[] = { 0, -2, INT_MIN, INT_MAX };
	for (size_t i = 0; i < COUNT_OF(numbers); i++) {
		no_socket(numbers[i], ends);
		no_file(numbers[i], ends);
	}
	no_socket(-1, ends);
	CHECK_ERR(snapsend_unregister_file(ctx, -1), EBADF);
	request = ends_request(ends, BY_HANDLE, 0, 100);
	request.file_fd = -1; /* no file, so there is no length either */
	CHECK_EQ(rejected(ctx, &request), EINVAL);
}

/* Of any age: 3,000 registrations later it still is invalid. */
static void stale(const struct ends *ends)
{
	static int files[1000], sockets[1000];
	for (size_t i = 0; i < 3 * COUNT_OF(files); i++) {
		size_t at = i % COUNT_OF(files);
		files[at] = register_file_ok(ctx, ends->file);
		sockets[at] = register_socket_ok(ctx, ends->sv[0]);
		unregister_file_ok(ctx, files[at]);
		unregister_socket_ok(ctx, sockets[at]);
		no_file(files[i % 7 * at / 7], ends);
		no_socket(sockets[i % 7 * at / 7], ends);
	}
	for (size_t i = 0; i < COUNT_OF(files); i++) {
		no_file(files[i], ends);
		no_socket(sockets[i], ends);
	}
}

static void other_context(const struct ends *ends)
{
	struct ends others = *ends;
	others.ctx = create_ctx();
	ends_register(&others);
	no_file(ends->file_handle, &others);
	no_socket(ends->socket_handle, &others);
	no_file(others.file_handle, ends);
	no_socket(others.socket_handle, ends);
	unregister_file_ok(others.ctx, others.file_handle);
	unregister_socket_ok(others.ctx, others.socket_handle);
	destroy_ctx(others.ctx);
}

/* Up to the first that is refused. */
static void in_a_group(const struct ends *ends)
{
	uint64_t ids[4] = { 0 };
	struct snapsend_completion done;
	struct snapsend_request group[4];
	int gone = register_file_ok(ctx, ends->file);
	unregister_file_ok(ctx, gone);
	for (int i = 0; i < 4; i++)
		group[i] = ends_request(ends, i == 1 ? BY_NUMBER : BY_HANDLE, 0, 10);
	for (int stale = 0; stale < 4; stale++) {
		group[stale].file_fd = gone;
		group[stale].flags |= SNAPSEND_REGISTERED_FILE;
		int count = snapsend_submit_many(ctx, group, sizeof group[0], 4, ids);
		CHECK_EQ(count, stale == 0 ? -EBADF : stale);
		for (int i = 0; i < count; i++) {
			wait_done(ctx, ids[i], &done);
			CHECK_EQ(done.status, 0);
		}
		swallow(ends->sv[1], (uint64_t)(count > 0 ? count * 10 : 0));
		group[stale] = ends_request(ends, BY_HANDLE, 0, 10);
	}
}

int main(void)
{
	char path[PATH_MAX], got[100];
	struct ends ends;
	struct snapsend_completion done;
	int file = temp_file_path(100, 1, path);
	ctx = create_ctx();
	ends_open(&ends, ctx, UNIX, file);
	refused_descriptors(path);
	flags_and_null(&ends);
	mistaken(&ends);
	other_context(&ends);
	stale(&ends);
	in_a_group(&ends);
	struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, 100);
	for (uint32_t flags = request.flags, bit = 9; bit < 32; bit++) {
		request.flags = flags | UINT32_C(1) << bit;
		CHECK_EQ(rejected(ctx, &request), EINVAL);
	}
	expect_nothing(ctx, 20);

	/* None of that has touched what is registered. */
	request = ends_request(&ends, BY_HANDLE, 0, 100);
	wait_done(ctx, submit_ok(ctx, &request), &done);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(read_all(ends.sv[1], got, sizeof got), sizeof got);
	ends_close(&ends);
	no_file(ends.file_handle, &ends);
	no_socket(ends.socket_handle, &ends);
	destroy_ctx(ctx);
	return 0;
}
