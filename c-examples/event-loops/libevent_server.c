/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * libevent_server DIRECTORY [PORT]: a file server on libevent.
 *
 *	cc libevent_server.c -o libevent_server $(pkg-config --cflags --libs snapsend libevent_core)
 */
#define _GNU_SOURCE
#include <event2/event.h>
#include <signal.h>

#include "file_server.h"

static struct event_base *base;

static void drop(struct client *client)
{
	event_free(client->watch);
	client_free(client);
}

static void on_client(evutil_socket_t fd, short what, void *argument)
{
	struct client *client = argument;
	int r = client_read(client);

	(void)fd;
	(void)what;
	if (r == 0)
		return;
	/* The client is not watched while its answer is in flight. */
	event_del(client->watch);
	if (r < 0 || client_answer(client) < 0)
		drop(client);
}

static void on_listener(evutil_socket_t fd, short what, void *argument)
{
	struct client *client;

	(void)fd;
	(void)what;
	while ((client = server_accept(argument)) != NULL) {
		client->watch = event_new(base, client->socket_fd, EV_READ | EV_PERSIST, on_client, client);
		if (client->watch == NULL || event_add(client->watch, NULL) < 0)
			die("event_new", ENOMEM);
	}
}

static void on_completions(evutil_socket_t fd, short what, void *argument)
{
	struct server *server = argument;
	struct snapsend_completion done[32];
	int n;

	(void)fd;
	(void)what;
	while ((n = snapsend_poll(server->ctx, done, 32, 0)) > 0) {
		for (int i = 0; i < n; i++) {
			struct client *client = (struct client *)(uintptr_t)done[i].user_data;

			if (!client_is_done(client, &done[i]))
				drop(client);
			else if (!client_has_request(client))
				event_add(client->watch, NULL);
			else if (client_answer(client) < 0)
				drop(client);
		}
	}
	if (n < 0)
		die("snapsend_poll", -n);
}

static void on_signal(evutil_socket_t number, short what, void *argument)
{
	(void)number;
	(void)what;
	(void)argument;
	event_base_loopbreak(base);
}

int main(int argc, char **argv)
{
	struct event *watches[4];
	struct server server;
	int i;

	server_open(&server, argc, argv);
	base = event_base_new();
	if (base == NULL)
		die("event_base_new", ENOMEM);
	watches[0] = event_new(base, server.listen_fd, EV_READ | EV_PERSIST, on_listener, &server);
	watches[1] = event_new(base, snapsend_event_fd(server.ctx), EV_READ | EV_PERSIST, on_completions, &server);
	watches[2] = evsignal_new(base, SIGINT, on_signal, NULL);
	watches[3] = evsignal_new(base, SIGTERM, on_signal, NULL);
	for (i = 0; i < 4; i++)
		if (watches[i] == NULL || event_add(watches[i], NULL) < 0)
			die("event_new", ENOMEM);
	event_base_dispatch(base);

	for (i = 0; i < 4; i++)
		event_free(watches[i]);
	for (struct client *client = server.clients; client != NULL; client = client->next)
		event_free(client->watch);
	server_close(&server);
	event_base_free(base);
	return 0;
}
