/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The common part of the four servers: clients, requests, answers (../http.h implements HTTP).  It does not wait.  The
 * server of each event loop defines the three functions loop_*, and calls server_on_input() when the listening socket is
 * readable, client_on_input() when a client is, and server_on_completions() when the library's event descriptor is.
 *
 * A client is watched until its request is complete, and not again until the DONE of the answer.  During that
 * time the library watches the connection, and DONE reports if it broke.  Therefore a client and its file are
 * closed only when no operation refers to them.
 */
#ifndef FILE_SERVER_H
#define FILE_SERVER_H

#include <snapsend.h>

#include "../http.h"
#include "../loopback.h"

struct server {
	snapsend_t *ctx;
	int root_fd;
	int listen_fd;
	int spare_fd; /* closed for a moment if no other descriptor is available */
	struct client *clients;
};

struct client {
	struct server *server;
	struct client *next, *previous;
	void *watch; /* the event loop's */
	int socket_fd;
	int file_fd;
	bool keep_alive;
	struct http_input input;
};

/* Prepares client->watch for the descriptor, which is not watched yet.  False: there is no memory. */
static bool loop_add(struct client *client);
/* Watches the descriptor for input, or no longer; also if that is so already. */
static void loop_watch(struct client *client, bool on);
/* Releases client->watch.  The descriptor is closed next. */
static void loop_remove(struct client *client);

/* Arguments: DIRECTORY [PORT].  Prints the address of the server. */
static void server_open(struct server *server, int argc, char **argv)
{
	int r;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: %s DIRECTORY [PORT]\n", argv[0]);
		exit(2);
	}
	memset(server, 0, sizeof(*server));
	server->root_fd = open_directory(argv[1]);
	server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	server->listen_fd = tcp_listener("127.0.0.1", argc > 2 ? atoi(argv[2]) : 0);
	r = snapsend_create(NULL, 0, &server->ctx);
	if (r < 0)
		die("snapsend_create", r);
}

/* No operation is in flight. */
static void client_free(struct client *client)
{
	*(client->previous != NULL ? &client->previous->next : &client->server->clients) = client->next;
	if (client->next != NULL)
		client->next->previous = client->previous;
	loop_remove(client);
	if (client->file_fd >= 0)
		close(client->file_fd);
	close(client->socket_fd);
	free(client);
}

static void client_new(struct server *server, int fd)
{
	struct client *client = calloc(1, sizeof(*client));

	if (client != NULL)
		*client = (struct client){ .server = server, .socket_fd = fd, .file_fd = -1 };
	if (client == NULL || !loop_add(client)) {
		free(client);
		close(fd);
		return;
	}
	client->next = server->clients;
	if (client->next != NULL)
		client->next->previous = client;
	server->clients = client;
	loop_watch(client, true);
}

/* Accepts all clients that wait. */
static void server_on_input(struct server *server)
{
	int fd;

	while ((fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		client_new(server, fd);
	if (errno == EMFILE || errno == ENFILE) {
		/* A client is refused; otherwise the loop would report it repeatedly. */
		close(server->spare_fd);
		close(accept(server->listen_fd, NULL, NULL));
		server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
}

/* Answers the next request, if it is complete: DONE follows, with the client as user_data. */
static void client_serve(struct client *client)
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

	if (!http_take(&client->input, client->server->root_fd, &answer)) {
		loop_watch(client, true);
		return;
	}
	loop_watch(client, false);
	client->keep_alive = answer.keep_alive;
	client->file_fd = answer.file_fd;
	header.iov_len = answer.head_length;
	/* The announced length: if the file becomes shorter, the operation ends with -ENODATA. */
	request.file_fd = answer.file_fd;
	request.offset = answer.offset;
	request.length = answer.length;
	r = snapsend_submit(client->server->ctx, &request, sizeof(request), NULL);
	if (r < 0) {
		fprintf(stderr, "snapsend_submit: %s\n", strerror(-r));
		client_free(client);
	}
}

static void client_on_input(struct client *client)
{
	struct http_input *input = &client->input;
	ssize_t n = recv(client->socket_fd, input->bytes + input->length, sizeof(input->bytes) - input->length, 0);

	if (n > 0) {
		input->length += (size_t)n;
		client_serve(client);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) { /* 0 if the request is too long, too */
		client_free(client);
	} else {
		loop_watch(client, true);
	}
}

static void server_on_completions(struct server *server)
{
	struct snapsend_completion done[32];
	int n;

	while ((n = snapsend_poll(server->ctx, done, 32, 0)) > 0) {
		for (int i = 0; i < n; i++) {
			struct client *client = (struct client *)(uintptr_t)done[i].user_data;

			if (done[i].status < 0 || !client->keep_alive) {
				client_free(client);
				continue;
			}
			if (client->file_fd >= 0)
				close(client->file_fd);
			client->file_fd = -1;
			client_serve(client);
		}
	}
	if (n < 0)
		die("snapsend_poll", n);
}

/* The event loop no longer watches the descriptors of the server; it still watches clients. */
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
