/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Helpers of several examples: ending with a message, a clock, connections and listeners, a temporary file.
 */
#ifndef LOOPBACK_H
#define LOOPBACK_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* error is an errno value or the -errno that a snapsend call returned. */
_Noreturn static inline void die(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(2);
}

static inline int64_t milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline int open_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		die(path, errno);
	return fd;
}

/* Returns a descriptor that becomes readable at SIGINT or SIGTERM, which do nothing else from now on. */
static inline int stop_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		die("signalfd", errno);
	return fd;
}

/* Makes a TCP connection over 127.0.0.1.  buffer_bytes, if not 0, is the requested size of the socket buffers of
 * both ends.  It is set before the connection is made, because TCP's window depends on it. */
static inline void loopback_pair(int *sender, int *peer, int buffer_bytes)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0 || client < 0)
		die("socket", errno);
	if (buffer_bytes != 0 && (setsockopt(client, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof(buffer_bytes)) < 0 ||
				  setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes)) < 0))
		die("setsockopt", errno);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("bind", errno);
	if (listen(listener, 1) < 0)
		die("listen", errno);
	if (getsockname(listener, (struct sockaddr *)&address, &length) < 0)
		die("getsockname", errno);
	if (connect(client, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect", errno);
	*sender = accept(listener, NULL, NULL);
	if (*sender < 0)
		die("accept", errno);
	*peer = client;
	close(listener);
}

/* Forks a child process that is the peer of a connection.  Returns its process id, or 0 in the child.  A program calls
 * this before it creates a context, because a child must not use its parent's context. */
static inline pid_t loopback_child(int *sender, int *peer)
{
	pid_t child;

	loopback_pair(sender, peer, 0);
	child = fork();
	if (child < 0)
		die("fork", errno);
	close(child == 0 ? *sender : *peer);
	return child;
}

/* Connects to an IPv4 address. */
static inline int tcp_connect(const char *numbers, const char *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (inet_pton(AF_INET, numbers, &address.sin_addr) != 1)
		die(numbers, EINVAL);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect", errno);
	return fd;
}

/* Listens on an IPv4 address with a non-blocking accept, and prints it.  Port 0: any free port. */
static inline int tcp_listener(const char *numbers, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

	if (inet_pton(AF_INET, numbers, &address.sin_addr) != 1)
		die(numbers, EINVAL);
	/* Accepted sockets inherit TCP_NODELAY.  Each answer is one operation, so that Nagle's algorithm never has small
	 * writes to combine. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, SOMAXCONN) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		die("listen", errno);
	printf("listening on %s:%d\n", numbers, ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

/* Creates a file in $TMPDIR or /tmp that disappears when its descriptor is closed. */
static inline int scratch_file(void)
{
	const char *directory = getenv("TMPDIR");
	char path[4096];
	int fd;

	if (directory == NULL || directory[0] == '\0')
		directory = "/tmp";
	if ((size_t)snprintf(path, sizeof(path), "%s/snapsend-XXXXXX", directory) >= sizeof(path))
		die("$TMPDIR", ENAMETOOLONG);
	fd = mkstemp(path);
	if (fd < 0)
		die(path, errno);
	if (unlink(path) < 0)
		die(path, errno);
	return fd;
}

static inline void write_at(int fd, const void *data, size_t length, off_t offset)
{
	const char *at = data;

	while (length > 0) {
		ssize_t n = pwrite(fd, at, length, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("pwrite", n < 0 ? errno : EIO);
		at += n;
		offset += n;
		length -= (size_t)n;
	}
}

/* Reads length bytes; fewer only at the end of the stream. */
static inline size_t read_all(int fd, void *data, size_t length)
{
	size_t got = 0;

	while (got < length) {
		ssize_t n = read(fd, (char *)data + got, length - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die("read", errno);
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return got;
}

#endif
