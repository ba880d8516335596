/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * libuv_server DIRECTORY [PORT]: a file server on libuv.
 *
 *	cc libuv_server.c -o libuv_server $(pkg-config --cflags --libs snapsend libuv)
 */
#define _GNU_SOURCE
#include <signal.h>
#include <uv.h>

#include "file_server.h"

static uv_loop_t *loop;
static uv_poll_t listener, completions;
static uv_signal_t interrupted, terminated;

static void on_client(uv_poll_t *handle, int status, int events);

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

static void drop(struct client *client)
{
	/* A handle may be freed, and its descriptor closed, only after uv_close(). */
	uv_close(client->watch, free_handle);
	client_free(client);
}

static void on_client(uv_poll_t *handle, int status, int events)
{
	struct client *client = handle->data;
	int r = status < 0 ? -1 : client_read(client);

	(void)events;
	if (r == 0)
		return;
	/* The client is not watched while its answer is in flight. */
	uv_poll_stop(handle);
	if (r < 0 || client_answer(client) < 0)
		drop(client);
}

static void on_listener(uv_poll_t *handle, int status, int events)
{
	struct client *client;

	(void)status;
	(void)events;
	while ((client = server_accept(handle->data)) != NULL) {
		uv_poll_t *watch = malloc(sizeof(*watch));

		if (watch == NULL || uv_poll_init(loop, watch, client->socket_fd) < 0)
			die("uv_poll_init", ENOMEM);
		watch->data = client;
		client->watch = watch;
		uv_poll_start(watch, UV_READABLE, on_client);
	}
}

static void on_completions(uv_poll_t *handle, int status, int events)
{
	struct server *server = handle->data;
	struct snapsend_completion done[32];
	int n;

	(void)status;
	(void)events;
	while ((n = snapsend_poll(server->ctx, done, 32, 0)) > 0) {
		for (int i = 0; i < n; i++) {
			struct client *client = (struct client *)(uintptr_t)done[i].user_data;

			if (!client_is_done(client, &done[i]))
				drop(client);
			else if (!client_has_request(client))
				uv_poll_start(client->watch, UV_READABLE, on_client);
			else if (client_answer(client) < 0)
				drop(client);
		}
	}
	if (n < 0)
		die("snapsend_poll", -n);
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct server *server = handle->data;

	(void)number;
	for (struct client *client = server->clients; client != NULL; client = client->next)
		uv_close(client->watch, free_handle);
	uv_close((uv_handle_t *)&listener, NULL);
	uv_close((uv_handle_t *)&completions, NULL);
	uv_close((uv_handle_t *)&interrupted, NULL);
	uv_close((uv_handle_t *)&terminated, NULL);
}

int main(int argc, char **argv)
{
	struct server server;

	server_open(&server, argc, argv);
	loop = uv_default_loop();
	if (uv_poll_init(loop, &listener, server.listen_fd) < 0 ||
	    uv_poll_init(loop, &completions, snapsend_event_fd(server.ctx)) < 0 ||
	    uv_signal_init(loop, &interrupted) < 0 || uv_signal_init(loop, &terminated) < 0)
		die("libuv", ENOMEM);
	listener.data = completions.data = interrupted.data = terminated.data = &server;
	uv_poll_start(&listener, UV_READABLE, on_listener);
	uv_poll_start(&completions, UV_READABLE, on_completions);
	uv_signal_start(&interrupted, on_signal, SIGINT);
	uv_signal_start(&terminated, on_signal, SIGTERM);
	/* Returns when every handle is closed. */
	uv_run(loop, UV_RUN_DEFAULT);
	server_close(&server);
	uv_loop_close(loop);
	return 0;
}
