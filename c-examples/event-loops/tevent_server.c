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

static void on_client(struct tevent_context *context, struct tevent_fd *fde, uint16_t flags, void *client)
{
	(void)context;
	(void)fde;
	(void)flags;
	client_on_input(client);
}

static void on_listener(struct tevent_context *context, struct tevent_fd *fde, uint16_t flags, void *server)
{
	(void)context;
	(void)fde;
	(void)flags;
	server_on_input(server);
}

static void on_completions(struct tevent_context *context, struct tevent_fd *fde, uint16_t flags, void *server)
{
	(void)context;
	(void)fde;
	(void)flags;
	server_on_completions(server);
}

static bool loop_add(struct client *client)
{
	client->watch = tevent_add_fd(ev, ev, client->socket_fd, 0, on_client, client);
	return client->watch != NULL;
}

static void loop_watch(struct client *client, bool on)
{
	tevent_fd_set_flags(client->watch, on ? TEVENT_FD_READ : 0);
}

/* The descriptor may be closed only after tevent has released it. */
static void loop_remove(struct client *client)
{
	talloc_free(client->watch);
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
	struct tevent_fd *listener, *completions;
	struct server server;

	server_open(&server, argc, argv);
	ev = tevent_context_init(NULL);
	if (ev == NULL)
		die("tevent_context_init", ENOMEM);
	listener = tevent_add_fd(ev, ev, server.listen_fd, TEVENT_FD_READ, on_listener, &server);
	completions = tevent_add_fd(ev, ev, snapsend_event_fd(server.ctx), TEVENT_FD_READ, on_completions, &server);
	if (listener == NULL || completions == NULL || tevent_add_signal(ev, ev, SIGINT, 0, on_signal, NULL) == NULL ||
	    tevent_add_signal(ev, ev, SIGTERM, 0, on_signal, NULL) == NULL)
		die("tevent", ENOMEM);
	while (running && tevent_loop_once(ev) == 0)
		;
	talloc_free(listener);
	talloc_free(completions);
	server_close(&server);
	talloc_free(ev);
	return 0;
}
