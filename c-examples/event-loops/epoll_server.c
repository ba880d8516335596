/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * epoll_server DIRECTORY [PORT]: a file server on plain epoll.
 *
 *	cc epoll_server.c -o epoll_server $(pkg-config --cflags --libs snapsend)
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "file_server.h"

static int epoll_fd;

/* One shot: a client whose answer is in flight is not watched, even if it hangs up. */
static void watch_client(struct client *client, int operation)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.ptr = client };

	if (epoll_ctl(epoll_fd, operation, client->socket_fd, &event) < 0)
		client_free(client);
}

static void watch(int fd, void *mark)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = mark };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl", errno);
}

/* Closing a descriptor removes it from the epoll set. */
static void on_client(struct client *client)
{
	int r = client_read(client);

	if (r == 0)
		watch_client(client, EPOLL_CTL_MOD);
	else if (r < 0 || client_answer(client) < 0)
		client_free(client);
}

static void on_completions(struct server *server)
{
	struct snapsend_completion done[32];
	int n;

	while ((n = snapsend_poll(server->ctx, done, 32, 0)) > 0) {
		for (int i = 0; i < n; i++) {
			struct client *client = (struct client *)(uintptr_t)done[i].user_data;

			if (!client_is_done(client, &done[i]))
				client_free(client);
			else if (!client_has_request(client))
				watch_client(client, EPOLL_CTL_MOD);
			else if (client_answer(client) < 0)
				client_free(client);
		}
	}
	if (n < 0)
		die("snapsend_poll", -n);
}

int main(int argc, char **argv)
{
	static char listener, completions, signals; /* their addresses identify the events */
	struct epoll_event events[64];
	struct server server;
	struct client *client;
	sigset_t set;
	bool running = true;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	server_open(&server, argc, argv);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll_create1", errno);
	watch(server.listen_fd, &listener);
	watch(snapsend_event_fd(server.ctx), &completions);
	watch(signalfd(-1, &set, SFD_CLOEXEC), &signals);

	while (running) {
		int n = epoll_wait(epoll_fd, events, 64, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &listener) {
				while ((client = server_accept(&server)) != NULL)
					watch_client(client, EPOLL_CTL_ADD);
			} else if (events[i].data.ptr == &completions) {
				on_completions(&server);
			} else if (events[i].data.ptr == &signals) {
				running = false;
			} else {
				on_client(events[i].data.ptr);
			}
		}
	}
	server_close(&server);
	return 0;
}
