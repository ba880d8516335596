/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The other end: one process that reads with copies, as a real client does.  It holds the clock: it
 * says when the time that counts begins and ends, and takes the CPU time of both processes there, so
 * that neither connecting nor tearing down is in the figures.
 */
#include "bench.h"

#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_SIZE (256u << 10)
#define BATCH       256
#define STALL_LIMIT_NS 20000000000u /* for thousands of peers to fill their buffers */
#define FIRST_LIMIT_NS 5000000000u  /* for what comes first, beyond the time of the run */

struct peer {
	int fd;
	bool cold;
	uint64_t begun;        /* when the question went out */
	uint64_t offset, length, sequence;
	uint64_t got;          /* of header and range */
	uint64_t next, end;    /* cold: the part of the file that is this peer's */
	struct header header;
};

static unsigned char *buffer;
static const struct setup *setup;
static struct shared *shared;
static clockid_t server_clock;
static uint64_t total_bytes, total_cold, checked; /* since the start */
static uint64_t begin_time, begin_bytes, begin_cold, begin_server, begin_client, begin_machine;
static unsigned cold_left; /* connections that still find something cold */

uint64_t machine_cpu(void)
{
	uint64_t user = 0, nice = 0, system = 0, idle, iowait, irq = 0, softirq = 0, steal = 0;
	FILE *stat = fopen("/proc/stat", "re");

	if (stat != NULL) {
		if (fscanf(stat, "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
			   " %" SCNu64, &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal) != 8)
			user = nice = system = irq = softirq = steal = 0;
		fclose(stat);
	}
	return (user + nice + system + irq + softirq + steal) * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

uint64_t begin_measuring(uint64_t now)
{
	begin_time = now;
	begin_bytes = total_bytes;
	begin_cold = total_cold;
	begin_machine = machine_cpu();
	begin_server = nanoseconds(server_clock);
	begin_client = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
	atomic_store(&shared->measuring, 1);
	return now + (uint64_t)(setup->seconds * 1e9);
}

/* On a busy machine the first bytes may take longer than the whole run was to be. */
bool is_over(uint64_t now, uint64_t limit)
{
	return now >= limit && (total_bytes > begin_bytes || now >= limit + FIRST_LIMIT_NS);
}

void end_measuring(uint64_t now)
{
	uint64_t one = 1;

	shared->server_cpu = nanoseconds(server_clock) - begin_server;
	shared->client_cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - begin_client;
	shared->machine_cpu = machine_cpu() - begin_machine;
	shared->seconds = (double)(now - begin_time) / 1e9;
	shared->bytes = total_bytes - begin_bytes;
	shared->cold_bytes = total_cold - begin_cold;
	shared->checked = checked;
	atomic_store(&shared->stopping, 1);
	if (write(setup->control, &one, sizeof(one)) != sizeof(one))
		fail(shared, "client: eventfd: %s", strerror(errno));
}

void count_received(uint64_t bytes)
{
	total_bytes += bytes;
}

void count_checked(uint64_t words)
{
	checked += words;
}

/* A reset leaves no TIME_WAIT behind: thousands of connections a minute would use up the ports. */
int new_client_socket(void)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail(shared, "client: socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static int connect_to_server(int receive_buffer)
{
	int fd = new_client_socket();

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
	checked++;
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
		if (is_over(now, limit) || (want != 0 && total_bytes >= want))
			break;
		n = recv(fd, buffer, BUFFER_SIZE, 0);
		if (n <= 0)
			fail(shared, "client: recv: %s", n < 0 ? strerror(errno) : "end of the stream");
		check_stream(buffer, (size_t)n, total_bytes);
		total_bytes += (uint64_t)n;
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
		total_cold += length;
	else
		total_bytes += length;
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
		note_time(p->cold ? &shared->cold_times : &shared->times,
			  nanoseconds(CLOCK_MONOTONIC) - p->begun);
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
		before = nanoseconds(server_clock);
		usleep(100000);
		/* On a busy machine a server that does nothing may only be waiting for a processor. */
		idle = atomic_load(&shared->questions) >= setup->stalled &&
		       nanoseconds(server_clock) - before < 3000000 ? idle + 1 : 0;
	}
}

static void ask_and_read(void)
{
	unsigned count = setup->connections + setup->cold;
	struct peer *peers = calloc(count, sizeof(*peers));
	struct epoll_event events[BATCH];
	int epoll = epoll_create1(EPOLL_CLOEXEC), *stalled = stall();
	uint64_t warm, limit = UINT64_MAX, now;
	bool measuring = false;

	if (peers == NULL || epoll < 0)
		fail(shared, "client: no memory or descriptors");
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
	while (!atomic_load(&shared->server_ready))
		usleep(200);
	for (unsigned i = 0; i < setup->stalled; i++)
		ask(stalled[i], random_word() % (setup->warm_size / STALL_ANSWER) * STALL_ANSWER, STALL_ANSWER);
	if (setup->stalled > 0)
		wait_for_idle_server();
	cold_left = setup->cold;
	for (unsigned i = 0; i < count; i++)
		ask_next(&peers[i]);
	warm = nanoseconds(CLOCK_MONOTONIC) + (uint64_t)(setup->warm_up * 1e9);
	for (;;) {
		int n = epoll_wait(epoll, events, BATCH, 100);

		if (n < 0 && errno != EINTR)
			fail(shared, "client: epoll_wait: %s", strerror(errno));
		now = nanoseconds(CLOCK_MONOTONIC);
		if (!measuring && now >= warm) {
			limit = begin_measuring(now);
			measuring = true;
		}
		if ((is_over(now, limit) && (shared->times.count > 0 || now >= limit + FIRST_LIMIT_NS)) ||
		    (setup->cold > 0 && cold_left == 0))
			break;
		for (int i = 0; i < n; i++)
			read_answer(events[i].data.ptr, measuring);
	}
	if (!measuring)
		fail(shared, "client: the cold part was read before the time that counts began");
	end_measuring(now);
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
	if (clock_getcpuclockid(shared->server, &server_clock) != 0)
		fail(shared, "client: the server's CPU clock");
	if (setup->wire)
		run_far_end(setup, shared);
	else if (setup->workload == BULK)
		read_bulk();
	else
		ask_and_read();
	if (checked == 0)
		fail(shared, "client: nothing has come (the library said EAGAIN %" PRIu64 " times)",
		     atomic_load(&shared->refusals));
}
