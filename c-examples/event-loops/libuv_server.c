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

static void on_client(uv_poll_t *handle, int status, int events)
{
	(void)status; /* recv() tells the error, too */
	(void)events;
	client_on_input(handle->data);
}

static void on_listener(uv_poll_t *handle, int status, int events)
{
	(void)status;
	(void)events;
	server_on_input(handle->data);
}

static void on_completions(uv_poll_t *handle, int status, int events)
{
	(void)status;
	(void)events;
	server_on_completions(handle->data);
}

static bool loop_add(struct client *client)
{
	uv_poll_t *watch = malloc(sizeof(*watch));

	if (watch == NULL || uv_poll_init(loop, watch, client->socket_fd) < 0) {
		free(watch);
		return false;
	}
	watch->data = client;
	client->watch = watch;
	return true;
}

static void loop_watch(struct client *client, bool on)
{
	if ((on ? uv_poll_start(client->watch, UV_READABLE, on_client) : uv_poll_stop(client->watch)) < 0)
		die("libuv", EINVAL);
}

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

/* A handle may be freed, and its descriptor closed, only after uv_close(). */
static void loop_remove(struct client *client)
{
	uv_close(client->watch, free_handle);
}

static void on_signal(uv_signal_t *handle, int number)
{
	(void)number;
	uv_close((uv_handle_t *)&listener, NULL);
	uv_close((uv_handle_t *)&completions, NULL);
	uv_close((uv_handle_t *)&interrupted, NULL);
	uv_close((uv_handle_t *)&terminated, NULL);
	server_close(handle->data);
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
	uv_loop_close(loop);
	return 0;
}
