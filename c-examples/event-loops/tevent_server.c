/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * tevent_server DIRECTORY [PORT]: a file server on tevent, Samba's event loop.
 *
 *	cc tevent_server.c -o tevent_server $(pkg-config --cflags --libs snapsend tevent talloc)
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/time.h>
#include <talloc.h>
#include <tevent.h>

#include "file_server.h"

static struct tevent_context *ev;
static bool running = true;

static void drop(struct client *client)
{
	/* The descriptor is closed after tevent has released it. */
	talloc_free(client->watch);
	client_free(client);
}

static void on_client(struct tevent_context *context, struct tevent_fd *fde, uint16_t flags, void *argument)
{
	struct client *client = argument;
	int r = client_read(client);

	(void)context;
	(void)flags;
	if (r == 0)
		return;
	/* The client is not watched while its answer is in flight. */
	tevent_fd_set_flags(fde, 0);
	if (r < 0 || client_answer(client) < 0)
		drop(client);
}

static void on_listener(struct tevent_context *context, struct tevent_fd *fde, uint16_t flags, void *argument)
{
	struct client *client;

	(void)fde;
	(void)flags;
	while ((client = server_accept(argument)) != NULL) {
		client->watch = tevent_add_fd(context, context, client->socket_fd, TEVENT_FD_READ, on_client, client);
		if (client->watch == NULL)
			die("tevent_add_fd", ENOMEM);
	}
}

static void on_completions(struct tevent_context *context, struct tevent_fd *fde, uint16_t flags, void *argument)
{
	struct server *server = argument;
	struct snapsend_completion done[32];
	int n;

	(void)context;
	(void)fde;
	(void)flags;
	while ((n = snapsend_poll(server->ctx, done, 32, 0)) > 0) {
		for (int i = 0; i < n; i++) {
			struct client *client = (struct client *)(uintptr_t)done[i].user_data;

			if (!client_is_done(client, &done[i]))
				drop(client);
			else if (!client_has_request(client))
				tevent_fd_set_flags(client->watch, TEVENT_FD_READ);
			else if (client_answer(client) < 0)
				drop(client);
		}
	}
	if (n < 0)
		die("snapsend_poll", -n);
}

static void on_signal(struct tevent_context *context, struct tevent_signal *se, int number, int count, void *info,
		      void *argument)
{
	(void)context;
	(void)se;
	(void)number;
	(void)count;
	(void)info;
	(void)argument;
	running = false;
}

int main(int argc, char **argv)
{
	struct server server;

	server_open(&server, argc, argv);
	ev = tevent_context_init(NULL);
	if (ev == NULL || tevent_add_fd(ev, ev, server.listen_fd, TEVENT_FD_READ, on_listener, &server) == NULL ||
	    tevent_add_fd(ev, ev, snapsend_event_fd(server.ctx), TEVENT_FD_READ, on_completions, &server) == NULL ||
	    tevent_add_signal(ev, ev, SIGINT, 0, on_signal, NULL) == NULL ||
	    tevent_add_signal(ev, ev, SIGTERM, 0, on_signal, NULL) == NULL)
		die("tevent", ENOMEM);
	while (running && tevent_loop_once(ev) == 0)
		;
	/* This frees all watches before their descriptors are closed. */
	talloc_free(ev);
	server_close(&server);
	return 0;
}
