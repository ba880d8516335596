/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * send_file FILE HOST PORT: a minimal program that sends one file over a connection and waits
 * until the file may be changed.
 *
 *	nc -l 127.0.0.1 9000 >copy &
 *	send_file FILE 127.0.0.1 9000
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "snapsend.h"

static int connect_to(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *a;
	int error = getaddrinfo(host, port, &hints, &list), fd = -1;

	if (error != 0) {
		fprintf(stderr, "%s port %s: %s\n", host, port, gai_strerror(error));
		return -1;
	}
	for (a = list; a != NULL && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			error = errno;
			close(fd);
			fd = -1;
			errno = error;
		}
	}
	if (fd < 0)
		fprintf(stderr, "%s port %s: %s\n", host, port, strerror(errno));
	freeaddrinfo(list);
	return fd;
}

static int send_file(int socket_fd, int file_fd)
{
	struct snapsend_request request = {
		.socket_fd = socket_fd,
		.file_fd = file_fd,
		.length = SNAPSEND_TO_EOF,
	};
	struct snapsend_completion done;
	snapsend_t *ctx;
	int r = snapsend_create(NULL, 0, &ctx);

	if (r < 0) {
		fprintf(stderr, "snapsend_create: %s\n", strerror(-r));
		return 1;
	}
	r = snapsend_submit(ctx, &request, sizeof(request), NULL);
	while (r == 0) {
		r = snapsend_poll(ctx, &done, 1, -1);
		if (r == -EINTR)
			r = 0;
	}
	/* The descriptors may be closed only now, when the operation has ended or was not accepted. */
	snapsend_destroy(ctx);
	if (r > 0)
		r = done.status;
	if (r < 0) {
		fprintf(stderr, "cannot send the file: %s\n", strerror(-r));
		return 1;
	}
	printf("%" PRIu64 " bytes sent; the file may change now\n", done.file_bytes);
	return 0;
}

int main(int argc, char **argv)
{
	int file_fd, socket_fd, result = 1;

	if (argc != 4) {
		fprintf(stderr, "usage: %s FILE HOST PORT\n", argv[0]);
		return 2;
	}
	file_fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (file_fd < 0) {
		perror(argv[1]);
		return 1;
	}
	socket_fd = connect_to(argv[2], argv[3]);
	if (socket_fd >= 0) {
		result = send_file(socket_fd, file_fd);
		close(socket_fd);
	}
	close(file_fd);
	return result;
}
