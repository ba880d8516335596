/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The common part of the four servers: the listening socket, reading a request, choosing the file (../http.h
 * implements HTTP).  It does not wait, and does not depend on the event loop.
 *
 * A client is watched until its request is complete, and not again until the DONE of the answer.  During that
 * time the library watches the connection, and DONE reports if it broke.  Therefore a client and its file are
 * closed only when no operation refers to them.
 */
#ifndef FILE_SERVER_H
#define FILE_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <snapsend.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../http.h"

struct server;

struct client {
	struct server *server;
	struct client *next, *previous;
	void *watch; /* the event loop's */
	int socket_fd;
	int file_fd;
	bool keep_alive;
	struct http_input input;
};

struct server {
	snapsend_t *ctx;
	int root_fd;
	int listen_fd;
	int spare_fd; /* closed for a moment if no other descriptor is available */
	struct client *clients;
};

static void die(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(error));
	exit(1);
}

/* Arguments: DIRECTORY [PORT].  Prints the address of the server. */
static void server_open(struct server *server, int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	int on = 1, r;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: %s DIRECTORY [PORT]\n", argv[0]);
		exit(2);
	}
	memset(server, 0, sizeof(*server));
	server->root_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (server->root_fd < 0)
		die(argv[1], errno);
	server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = htons((uint16_t)(argc > 2 ? atoi(argv[2]) : 0));
	if (server->listen_fd < 0 || setsockopt(server->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(server->listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(server->listen_fd, SOMAXCONN) < 0 ||
	    getsockname(server->listen_fd, (struct sockaddr *)&address, &length) < 0)
		die("listen", errno);
	r = snapsend_create(NULL, 0, &server->ctx);
	if (r < 0)
		die("snapsend_create", -r);
	printf("listening on http://127.0.0.1:%d\n", ntohs(address.sin_port));
	fflush(stdout);
}

/* Returns the next client, or NULL if none is waiting. */
static struct client *server_accept(struct server *server)
{
	struct client *client;
	int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE) {
			/* The client is refused; otherwise the loop would report it repeatedly. */
			close(server->spare_fd);
			close(accept(server->listen_fd, NULL, NULL));
			server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		}
		return NULL;
	}
	client = calloc(1, sizeof(*client));
	if (client == NULL) {
		close(fd);
		return NULL;
	}
	client->server = server;
	client->socket_fd = fd;
	client->file_fd = -1;
	client->next = server->clients;
	if (client->next != NULL)
		client->next->previous = client;
	server->clients = client;
	return client;
}

/* The event loop no longer watches it, and no operation is in flight. */
static void client_free(struct client *client)
{
	if (client->previous != NULL)
		client->previous->next = client->next;
	else
		client->server->clients = client->next;
	if (client->next != NULL)
		client->next->previous = client->previous;
	if (client->file_fd >= 0)
		close(client->file_fd);
	close(client->socket_fd);
	free(client);
}

static bool client_has_request(const struct client *client)
{
	return memmem(client->input.bytes, client->input.length, "\r\n\r\n", 4) != NULL;
}

/* 1: the request is complete.  0: incomplete.  -1: the client has disconnected, or the request is too long. */
static int client_read(struct client *client)
{
	struct http_input *input = &client->input;
	ssize_t n = recv(client->socket_fd, input->bytes + input->length, sizeof(input->bytes) - input->length, 0);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n == 0)
		return -1;
	input->length += (size_t)n;
	return client_has_request(client);
}

/* Answers the request.  0: the operation's DONE follows, with the client as user_data.
 * -errno: the operation was not accepted, and the client must be closed. */
static int client_answer(struct client *client)
{
	struct http_answer answer;
	struct iovec header = { .iov_base = answer.head };
	struct snapsend_request request = {
		.socket_fd = client->socket_fd,
		.header = &header,
		.header_count = 1,
		.user_data = (uintptr_t)client,
	};
	int r;

	if (!http_take(&client->input, client->server->root_fd, &answer))
		return -EAGAIN;
	client->keep_alive = answer.keep_alive;
	client->file_fd = answer.file_fd;
	header.iov_len = answer.head_length;
	/* The announced length: if the file becomes shorter, the operation ends with -ENODATA. */
	request.file_fd = answer.file_fd;
	request.offset = answer.offset;
	request.length = answer.length;
	r = snapsend_submit(client->server->ctx, &request, sizeof(request), NULL);
	if (r < 0)
		fprintf(stderr, "snapsend_submit: %s\n", strerror(-r));
	return r;
}

/* Handles DONE of an answer.  True: the next request may be read; false: the client must be closed. */
static bool client_is_done(struct client *client, const struct snapsend_completion *done)
{
	if (client->file_fd >= 0)
		close(client->file_fd);
	client->file_fd = -1;
	return done->status == 0 && client->keep_alive;
}

static void server_close(struct server *server)
{
	/* First, because it ends what is in flight and waits until no descriptor is in use. */
	snapsend_destroy(server->ctx);
	while (server->clients != NULL)
		client_free(server->clients);
	close(server->listen_fd);
	close(server->spare_fd);
	close(server->root_fd);
}

#endif
