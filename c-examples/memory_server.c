/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * memory_server: keeps its objects in sealed memfds, serves them by reference, and replaces them while they are being
 * sent.
 *
 * A memfd with the seals F_SEAL_WRITE, F_SEAL_SHRINK and F_SEAL_GROW never changes again, so the library sends its pages
 * themselves, without a copy, and DONE comes when they are in the socket.  To replace an object, the server makes a new
 * memfd and drops the old one: operations in flight keep what they send.
 *
 * Three clients, which are child processes, read one object after another, while the server replaces it after every
 * second answer.  Each answer must be of one generation: all its bytes are the same.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "loopback.h"
#include "snapsend.h"

#define CLIENTS 3
#define ANSWERS 40
#define SIZE    (1u << 20)

static struct {
	int fd, handle;
	unsigned generation;
} object;

/* Makes the next generation of the object and drops the one before.  The file is registered after it was sealed,
 * because that is when the library finds out that it cannot change. */
static void replace_object(snapsend_t *ctx)
{
	int fd = memfd_create("object", MFD_CLOEXEC | MFD_ALLOW_SEALING), handle, r;
	static unsigned char content[SIZE];

	if (fd < 0)
		die("memfd_create", errno);
	memset(content, (int)(++object.generation & 0xff), sizeof(content));
	write_at(fd, content, sizeof(content), 0);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		die("F_ADD_SEALS", errno);
	handle = snapsend_register_file(ctx, fd, 0);
	if (handle < 0)
		die("snapsend_register_file", handle);
	if (object.generation > 1) {
		r = snapsend_unregister_file(ctx, object.handle);
		if (r < 0)
			die("snapsend_unregister_file", r);
		close(object.fd);
	}
	object.fd = fd;
	object.handle = handle;
}

/* Reads all answers; the status is 0 if each is of one generation. */
static _Noreturn void be_client(int peer)
{
	static unsigned char content[SIZE];
	unsigned char last = 0;

	for (int i = 0; i < ANSWERS; i++) {
		if (read_all(peer, content, SIZE) != SIZE)
			_exit(1);
		for (size_t at = 1; at < SIZE; at++)
			if (content[at] != content[0])
				_exit(2);
		if (content[0] < last)
			_exit(3);
		last = content[0];
	}
	_exit(0);
}

static int start_client(void)
{
	int socket_fd, peer, flags;

	if (loopback_child(&socket_fd, &peer) == 0)
		be_client(peer);
	/* Pages go by reference only into sockets that do not block. */
	flags = fcntl(socket_fd, F_GETFL);
	if (flags < 0 || fcntl(socket_fd, F_SETFL, flags | O_NONBLOCK) < 0)
		die("O_NONBLOCK", errno);
	return socket_fd;
}

/* Sends the object as it is now; user_data is the client. */
static void answer(snapsend_t *ctx, int socket_fd, unsigned client)
{
	struct snapsend_request request = {
		.socket_fd = socket_fd,
		.file_fd = object.handle,
		.length = SIZE,
		.flags = SNAPSEND_REGISTERED_FILE,
		.user_data = client,
	};
	int r = snapsend_submit(ctx, &request, sizeof(request), NULL);

	if (r < 0)
		die("snapsend_submit", r);
}

/* Answers each client again as soon as its last answer is in the socket. */
static void serve(snapsend_t *ctx, const int sockets[CLIENTS])
{
	struct snapsend_completion done;
	unsigned answered = 0, begun[CLIENTS];

	for (unsigned client = 0; client < CLIENTS; client++) {
		answer(ctx, sockets[client], client);
		begun[client] = 1;
	}
	while (answered < CLIENTS * ANSWERS) {
		int r = snapsend_poll(ctx, &done, 1, 30000);

		if (r == -EINTR)
			continue;
		if (r <= 0 || done.status < 0)
			die("an answer", r < 0 ? r : r == 0 ? ETIMEDOUT : done.status);
		if (++answered % 2 == 0)
			replace_object(ctx);
		if (begun[done.user_data]++ < ANSWERS)
			answer(ctx, sockets[done.user_data], (unsigned)done.user_data);
	}
}

int main(void)
{
	struct snapsend_stats stats;
	int sockets[CLIENTS], status, r;
	bool right = true;
	snapsend_t *ctx;

	for (int client = 0; client < CLIENTS; client++)
		sockets[client] = start_client();
	r = snapsend_create(NULL, 0, &ctx);
	if (r < 0)
		die("snapsend_create", r);
	replace_object(ctx);
	serve(ctx, sockets);
	r = snapsend_get_stats(ctx, &stats, sizeof(stats));
	if (r < 0)
		die("snapsend_get_stats", r);
	for (int client = 0; client < CLIENTS; client++) {
		close(sockets[client]);
		right = wait(&status) > 0 && status == 0 && right;
	}
	snapsend_destroy(ctx);
	close(object.fd);
	printf("%u answers of %u generations, %" PRIu64 " of %" PRIu64 " bytes by reference: %s\n", CLIENTS * ANSWERS,
	       object.generation, stats.bytes_frozen, stats.file_bytes, right ? "right" : "WRONG");
	return right ? 0 : 1;
}
