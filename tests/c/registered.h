/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the tests of registered descriptors (registered_*.c) share, beyond data_common.h.
 *
 *   register_file_ok  register_socket_ok  unregister_file_ok  unregister_socket_ok
 *   allow_few_descriptors  room_for_registrations  destroy_soon: nothing is counted as in use or on its way that is not
 *   struct ends: a connection and a file with their handles; ends_open  ends_close  ends_request
 */
#ifndef SNAPSEND_TESTS_REGISTERED_H
#define SNAPSEND_TESTS_REGISTERED_H

#include "data_common.h"

static inline int test_handle(int handle, const char *call, const char *file, int line)
{
	if (handle <= 0)
		test_fail_at(file, line, "%s: %d (%s)", call, handle, handle < 0 ? strerror(-handle) : "no handle");
	return handle;
}
#define register_file_ok(ctx, fd)         test_handle(snapsend_register_file(ctx, fd, 0), "file", __FILE__, __LINE__)
#define register_socket_ok(ctx, fd)       test_handle(snapsend_register_socket(ctx, fd, 0), "socket", __FILE__, __LINE__)
#define unregister_file_ok(ctx, handle)   CHECK_EQ(snapsend_unregister_file(ctx, handle), 0)
#define unregister_socket_ok(ctx, handle) CHECK_EQ(snapsend_unregister_socket(ctx, handle), 0)

#define FEW_DESCRIPTORS 300

/* For room_for_registrations(); the limit of contexts created from now on. */
static inline void allow_few_descriptors(void)
{
	struct rlimit limit;
	SYS(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = FEW_DESCRIPTORS;
	SYS(setrlimit(RLIMIT_NOFILE, &limit));
}

/* How many files can be registered now. */
static inline int room_now(snapsend_t *ctx, int file)
{
	int handles[FEW_DESCRIPTORS], count = 0, other[2];
	unix_pair(other);
	CHECK_EQ(snapsend_cancel_socket(ctx, other[0]), 0); /* the ring thread has read what came before */
	close_pair(other);
	for (;; count++) {
		CHECK_LT(count, FEW_DESCRIPTORS);
		handles[count] = snapsend_register_file(ctx, file, 0);
		if (handles[count] < 0)
			break;
	}
	CHECK_EQ(handles[count], -EMFILE);
	for (int i = 0; i < count; i++)
		unregister_file_ok(ctx, handles[i]);
	return count;
}

/* The same once all that was unregistered has been closed. Without statmount(2) a helper thread may close it. */
static inline int room_for_registrations(snapsend_t *ctx, int file)
{
	int room = room_now(ctx, file);
	for (int before = -1; !has_statmount() && room != before;) {
		before = room;
		sleep_ms(100 * slowness());
		room = room_now(ctx, file);
	}
	return room;
}

/* What is counted as on its way would be waited for. */
static inline void destroy_soon(snapsend_t *ctx)
{
	int64_t begin = now_ms();
	destroy_ctx(ctx);
	CHECK_LE(now_ms() - begin, 700 * slowness());
}

/* Which of the two a request names by its handle. */
enum { BY_NUMBER, FILE_BY_HANDLE, SOCKET_BY_HANDLE, BY_HANDLE };
static const char *const naming_name[] = { "by number", "file by handle", "socket by handle", "by handle" };

struct ends {
	snapsend_t *ctx;
	int sv[2];
	int file;
	int socket_handle, file_handle;
};

/* Registers both ends of what the test has opened. */
static inline void ends_register(struct ends *ends)
{
	ends->socket_handle = register_socket_ok(ends->ctx, ends->sv[0]);
	ends->file_handle = register_file_ok(ends->ctx, ends->file);
}

static inline void ends_open(struct ends *ends, snapsend_t *ctx, enum kind kind, int file)
{
	ends->ctx = ctx;
	ends->file = file;
	if (!pair_of_kind(kind, ends->sv, 0))
		fail("no %s here", kind_name[kind]);
	ends_register(ends);
}

/* Leaves the file to its owner. */
static inline void ends_close(struct ends *ends)
{
	unregister_socket_ok(ends->ctx, ends->socket_handle);
	unregister_file_ok(ends->ctx, ends->file_handle);
	close_pair(ends->sv);
}

static inline struct snapsend_request ends_request(const struct ends *ends, int naming, uint64_t offset,
						   uint64_t length)
{
	struct snapsend_request request = make_request(ends->sv[0], ends->file, offset, length);
	if (naming & SOCKET_BY_HANDLE) {
		request.socket_fd = ends->socket_handle;
		request.flags |= SNAPSEND_REGISTERED_SOCKET;
	}
	if (naming & FILE_BY_HANDLE) {
		request.file_fd = ends->file_handle;
		request.flags |= SNAPSEND_REGISTERED_FILE;
	}
	return request;
}

#endif
