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

static void on_client(evutil_socket_t fd, short what, void *client)
{
	(void)fd;
	(void)what;
	client_on_input(client);
}

static void on_listener(evutil_socket_t fd, short what, void *server)
{
	(void)fd;
	(void)what;
	server_on_input(server);
}

static void on_completions(evutil_socket_t fd, short what, void *server)
{
	(void)fd;
	(void)what;
	server_on_completions(server);
}

static bool loop_add(struct client *client)
{
	client->watch = event_new(base, client->socket_fd, EV_READ | EV_PERSIST, on_client, client);
	return client->watch != NULL;
}

static void loop_watch(struct client *client, bool on)
{
	if ((on ? event_add(client->watch, NULL) : event_del(client->watch)) < 0)
		die("libevent", ENOMEM);
}

static void loop_remove(struct client *client)
{
	event_free(client->watch);
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
	server_close(&server);
	event_base_free(base);
	return 0;
}
