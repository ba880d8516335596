/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * epoll_server DIRECTORY [PORT]: a file server on plain epoll.
 *
 *	cc epoll_server.c -o epoll_server $(pkg-config --cflags --libs snapsend)
 */
#define _GNU_SOURCE
#include <sys/epoll.h>

#include "file_server.h"

static int epoll_fd;

static bool watch(int operation, int fd, uint32_t events, void *mark)
{
	struct epoll_event event = { .events = events, .data.ptr = mark };

	return epoll_ctl(epoll_fd, operation, fd, &event) == 0;
}

static bool loop_add(struct client *client)
{
	return watch(EPOLL_CTL_ADD, client->socket_fd, 0, client);
}

/* One shot: a client whose answer is in flight is not watched, even if it hangs up. */
static void loop_watch(struct client *client, bool on)
{
	if (on && !watch(EPOLL_CTL_MOD, client->socket_fd, EPOLLIN | EPOLLONESHOT, client))
		die("epoll_ctl", errno);
}

static void loop_remove(struct client *client)
{
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, client->socket_fd, NULL);
}

int main(int argc, char **argv)
{
	int stop = stop_signals();
	struct epoll_event events[64];
	struct server server;
	bool running = true;

	server_open(&server, argc, argv);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!watch(EPOLL_CTL_ADD, server.listen_fd, EPOLLIN, &server.listen_fd) ||
	    !watch(EPOLL_CTL_ADD, snapsend_event_fd(server.ctx), EPOLLIN, &server.ctx) ||
	    !watch(EPOLL_CTL_ADD, stop, EPOLLIN, &stop))
		die("epoll", errno);

	while (running) {
		int n = epoll_wait(epoll_fd, events, 64, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &server.listen_fd)
				server_on_input(&server);
			else if (events[i].data.ptr == &server.ctx)
				server_on_completions(&server);
			else if (events[i].data.ptr == &stop)
				running = false;
			else
				client_on_input(events[i].data.ptr);
		}
	}
	server_close(&server);
	close(stop);
	close(epoll_fd);
	return 0;
}
