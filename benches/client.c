/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The other end: one process that reads with copies, as a real client does, and compares samples of what comes.
 */
#include "client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

#define BUFFER_SIZE    (256u << 10)
#define BATCH          256
#define COLD_ANSWER    MIB          /* what a connection on the cold part asks for */
#define STALL_ANSWER   MIB          /* what a stalled peer asks for: more than the socket's buffers hold */
#define STALL_LIMIT_NS 20000000000u /* for thousands of peers to fill their buffers */

struct peer {
	int fd;
	bool cold;
	uint64_t begun; /* when the question went out */
	uint64_t offset, length, sequence;
	uint64_t got;       /* of header and range */
	uint64_t next, end; /* cold: the part of the file that is this peer's */
	struct header header;
};

static unsigned char *buffer;
static const struct setup *setup;
static struct shared *shared;
static unsigned cold_left; /* connections that still find something cold */

static int connect_to_server(int receive_buffer)
{
	int fd = new_client_socket(shared);

	if (receive_buffer > 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
	if (connect(fd, (const struct sockaddr *)&setup->address, sizeof(setup->address)) < 0)
		fail(shared, "client: connect: %s", strerror(errno));
	return fd;
}

static void ask(int fd, uint64_t offset, uint64_t length)
{
	struct question question = { .offset = offset, .length = length };

	/* Sixteen bytes on an idle connection never fill its buffer. */
	if (send(fd, &question, sizeof(question), MSG_NOSIGNAL) != sizeof(question))
		fail(shared, "client: asking: %s", strerror(errno));
}

/* Compares one word of what came: data is at that offset of the file. */
static void check_word(const unsigned char *data, uint64_t offset)
{
	uint64_t word;

	if (setup->pattern_step != 0 && offset % setup->pattern_step >= PAGE)
		return;
	memcpy(&word, data, sizeof(word));
	if (word != pattern(offset))
		fail(shared, "WRONG DATA at offset %" PRIu64 " of the file: %016" PRIx64 " instead of %016" PRIx64,
		     offset, word, pattern(offset));
	count_checked(1);
}

/* The first, the middle and the last whole word. */
static void check_sample(const unsigned char *data, size_t length, uint64_t offset)
{
	size_t skip = (size_t)(-offset & 7), words;

	if (length < skip + 8)
		return;
	words = (length - skip) / 8;
	check_word(data + skip, offset + skip);
	check_word(data + skip + words / 2 * 8, offset + skip + words / 2 * 8);
	check_word(data + skip + (words - 1) * 8, offset + skip + (words - 1) * 8);
}

/* ---- bulk ---------------------------------------------------------------------------------- */

/* Where the pattern is only here and there, each of those places that came is looked at. */
static void check_stream(const unsigned char *data, size_t length, uint64_t position)
{
	uint64_t offset = position % setup->file_size;

	if (setup->pattern_step != 0) {
		uint64_t place = (offset + setup->pattern_step - 1) / setup->pattern_step * setup->pattern_step;

		for (; place + 8 <= offset + length && place < setup->file_size; place += setup->pattern_step)
			check_word(data + (place - offset), place);
		return;
	}
	if (length > setup->file_size - offset)
		length = (size_t)(setup->file_size - offset);
	check_sample(data, length, offset);
}

static void read_bulk(void)
{
	uint64_t want = setup->operations * setup->size, warm, limit = UINT64_MAX, now;
	int fd = connect_to_server(0);
	bool measuring = false;

	while (!atomic_load(&shared->server_ready))
		usleep(200);
	warm = nanoseconds(CLOCK_MONOTONIC) + (uint64_t)(setup->warm_up * 1e9);
	ask(fd, 0, setup->size);
	for (;;) {
		ssize_t n;

		now = nanoseconds(CLOCK_MONOTONIC);
		if (!measuring && (now >= warm || want != 0)) {
			limit = begin_measuring(now);
			measuring = true;
		}
		if (is_over(now, limit) || (want != 0 && total_received() >= want))
			break;
		n = recv(fd, buffer, BUFFER_SIZE, 0);
		if (n <= 0)
			fail(shared, "client: recv: %s", n < 0 ? strerror(errno) : "end of the stream");
		check_stream(buffer, (size_t)n, total_received());
		count_received((uint64_t)n);
	}
	end_measuring(now);
	close(fd);
}

/* ---- questions and answers ----------------------------------------------------------------- */

static uint64_t random_word(void)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* False: this peer has read the whole of its cold part. */
static bool ask_next(struct peer *p)
{
	if (p->cold) {
		if (p->next + COLD_ANSWER > p->end)
			return false;
		p->offset = p->next;
		p->length = COLD_ANSWER;
		p->next += COLD_ANSWER;
	} else {
		p->length = setup->size;
		p->offset = random_word() % ((setup->warm_size - p->length) / PAGE + 1) * PAGE;
	}
	p->got = 0;
	p->begun = nanoseconds(CLOCK_MONOTONIC);
	ask(p->fd, p->offset, p->length);
	return true;
}

static void take(struct peer *p, const unsigned char *data, size_t length)
{
	size_t head = 0;

	if (p->got < sizeof(p->header)) {
		head = (size_t)smaller(sizeof(p->header) - p->got, length);
		memcpy((char *)&p->header + p->got, data, head);
		if (p->got + head == sizeof(p->header) &&
		    (p->header.magic != HEADER_MAGIC || p->header.offset != p->offset ||
		     p->header.length != p->length || p->header.sequence != p->sequence))
			fail(shared, "WRONG DATA: a header that does not belong to its question");
	}
	if (length > head)
		check_sample(data + head, length - head, p->offset + p->got + head - sizeof(p->header));
	p->got += length;
	if (p->cold)
		count_cold(length);
	else
		count_received(length);
}

static void read_answer(struct peer *p, bool measuring)
{
	uint64_t left;

	while ((left = sizeof(p->header) + p->length - p->got) > 0) {
		size_t ask_for = (size_t)smaller(left, BUFFER_SIZE);
		ssize_t n = recv(p->fd, buffer, ask_for, MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
			fail(shared, "client: recv: %s", n < 0 ? strerror(errno) : "end of the stream");
		take(p, buffer, (size_t)n);
		if ((size_t)n < ask_for)
			return;
	}
	if (measuring)
		note_time(p->cold ? &shared->cold_times : &shared->times, nanoseconds(CLOCK_MONOTONIC) - p->begun);
	p->sequence++;
	if (!ask_next(p))
		cold_left--;
}

/* Peers with a small window that ask for more than the server's buffers hold, and then sleep. */
static int *stall(void)
{
	int *fds = calloc(setup->stalled + 1, sizeof(*fds));

	if (fds == NULL)
		fail(shared, "client: no memory");
	for (unsigned i = 0; i < setup->stalled; i++)
		fds[i] = connect_to_server(4096);
	return fds;
}

/* Until the server has read each stalled peer's question and has nothing more to do: their buffers are full. */
static void wait_for_idle_server(void)
{
	uint64_t before, limit = nanoseconds(CLOCK_MONOTONIC) + STALL_LIMIT_NS;
	unsigned idle = 0;

	while (idle < 3 && nanoseconds(CLOCK_MONOTONIC) < limit) {
		before = server_time();
		usleep(100000);
		/* On a busy machine a server that does nothing may only be waiting for a processor. */
		bool is_idle = server_time() - before < 3000000;

		idle = is_idle && atomic_load(&shared->questions) >= setup->stalled ? idle + 1 : 0;
	}
}

static void connect_peers(struct peer *peers, unsigned count, int epoll)
{
	for (unsigned i = 0; i < count; i++) {
		struct peer *p = &peers[i];
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = p };

		p->fd = connect_to_server(0);
		p->cold = i >= setup->connections;
		if (p->cold) {
			uint64_t part = (setup->file_size - setup->warm_size) / setup->cold / COLD_ANSWER * COLD_ANSWER;

			p->next = setup->warm_size + (i - setup->connections) * part;
			p->end = p->next + part;
		}
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, p->fd, &event) < 0)
			fail(shared, "client: epoll_ctl: %s", strerror(errno));
	}
}

/* Until the time that counts is over, or nothing cold is left to ask for. */
static void read_answers(int epoll)
{
	uint64_t warm = nanoseconds(CLOCK_MONOTONIC) + (uint64_t)(setup->warm_up * 1e9), limit = UINT64_MAX, now;
	struct epoll_event events[BATCH];
	bool measuring = false;

	for (;;) {
		int n = epoll_wait(epoll, events, BATCH, 100);

		if (n < 0 && errno != EINTR)
			fail(shared, "client: epoll_wait: %s", strerror(errno));
		now = nanoseconds(CLOCK_MONOTONIC);
		if (!measuring && now >= warm) {
			limit = begin_measuring(now);
			measuring = true;
		}
		if ((is_over(now, limit) && (shared->times.count > 0 || is_overdue(now, limit))) ||
		    (setup->cold > 0 && cold_left == 0))
			break;
		for (int i = 0; i < n; i++)
			read_answer(events[i].data.ptr, measuring);
	}
	if (!measuring)
		fail(shared, "client: the cold part was read before the time that counts began");
	end_measuring(now);
}

static void ask_and_read(void)
{
	unsigned count = setup->connections + setup->cold;
	struct peer *peers = calloc(count, sizeof(*peers));
	int epoll = epoll_create1(EPOLL_CLOEXEC), *stalled = stall();

	if (peers == NULL || epoll < 0)
		fail(shared, "client: no memory or descriptors");
	connect_peers(peers, count, epoll);
	while (!atomic_load(&shared->server_ready))
		usleep(200);
	for (unsigned i = 0; i < setup->stalled; i++)
		ask(stalled[i], random_word() % (setup->warm_size / STALL_ANSWER) * STALL_ANSWER, STALL_ANSWER);
	if (setup->stalled > 0)
		wait_for_idle_server();
	cold_left = setup->cold;
	for (unsigned i = 0; i < count; i++)
		ask_next(&peers[i]);
	read_answers(epoll);
	for (unsigned i = 0; i < count; i++)
		close(peers[i].fd);
	for (unsigned i = 0; i < setup->stalled; i++)
		close(stalled[i]);
}

void run_client(const struct setup *the_setup, struct shared *the_shared)
{
	setup = the_setup;
	shared = the_shared;
	buffer = malloc(BUFFER_SIZE);
	if (buffer == NULL)
		fail(shared, "client: no memory");
	memset(buffer, 0, BUFFER_SIZE);
	prepare_measuring(setup, shared);
	if (setup->workload == BULK)
		read_bulk();
	else
		ask_and_read();
}
