/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A small SMB 2.1 client for the tests and the benchmark: it reads files anonymously, with several
 * reads in flight, and does what library clients hide: it looks at the reply to one read, changes
 * the file between two packets, stops reading.
 *
 *   smb2_reader PORT SHARE get NAME OFFSET LENGTH READ_BYTES        the range to stdout
 *   smb2_reader PORT SHARE bench CLIENTS DEPTH READ_BYTES REPEAT FIRST LAST FORMAT
 *       each client reads the files FORMAT (a printf format) names, from FIRST to LAST, REPEAT times;
 *       prints the bytes, the seconds from the first read to the last, and the clients' CPU seconds
 *   smb2_reader PORT SHARE overwrite NAME LOCAL LENGTH
 *       reads LENGTH bytes; when the reply has begun to arrive, overwrites the file at LOCAL with
 *       'N'; prints how many bytes of the reply are not what the file held before ('O')
 *   smb2_reader PORT SHARE cut NAME LOCAL LENGTH
 *       the same, but truncates the file to nothing
 *   smb2_reader PORT SHARE truncate NAME LOCAL LENGTH REMAINING
 *       opens, truncates the file at LOCAL to REMAINING bytes, reads LENGTH bytes from 0; prints
 *       status, length of the data, how many of its bytes are zero, and whether one more request
 *       on the connection works
 *   smb2_reader PORT SHARE lock NAME LOCAL LENGTH
 *       locks the first ten bytes, reads LENGTH bytes; prints whether somebody holds a lock on the file at
 *       LOCAL before the lock, before the read and after it (1 or 0 each)
 *   smb2_reader PORT SHARE oplock|lease NAME LOCAL READ_BYTES
 *       reads with a batch oplock, or a lease for reading, writing and keeping open, while another client
 *       opens the file and then writes to it; prints what was granted, to what it was broken, whether the
 *       other's open waited for that, to what the write broke it, and how many reads were not what the file held
 *   smb2_reader PORT SHARE conflict NAME LOCAL LENGTH
 *       a client locks the first ten bytes; prints the status of another's read of LENGTH bytes, of its read
 *       after the lock, of the locker's own, and of the other's after the unlock; then of its reads while
 *       this process has the file at LOCAL locked, and after that
 *   smb2_reader PORT SHARE twice NAME LENGTH
 *       connects to the share a second time, ends that, and reads LENGTH bytes by the first
 *   smb2_reader PORT SHARE edges NAME SIZE
 *       reads of every edge there is, of a file of SIZE bytes, a directory, a stream and a file that is closed; prints
 *       for each the status, how many bytes came, their sum, and the position that the server reports afterwards
 *   smb2_reader PORT SHARE closed NAME LENGTH
 *       asks for more than its connection can take, then for LENGTH bytes, closes the file and only then takes the
 *       replies; prints the status of these reads and how many bytes they had, and the status of the close
 *   smb2_reader PORT SHARE stall NAME READ_BYTES SECONDS
 *       asks for reads and does not take the replies
 *
 * SMB2_READER_FROM and SMB2_READER_TO in the environment: the client's address and the server's, instead of loopback.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HEADER 64
#define STATUS_PENDING 0x00000103u
#define STATUS_MORE_PROCESSING 0xC0000016u
#define MAX_DEPTH 64
#define LEASE_KEY "the reader's key"

enum { NEGOTIATE, SESSION_SETUP, LOGOFF, TREE_CONNECT, TREE_DISCONNECT, CREATE, CLOSE, FLUSH, READ,
       WRITE, LOCK, QUERY_INFO = 16, OPLOCK_BREAK = 18 };

enum { OPLOCK_BATCH = 9, OPLOCK_LEASE = 255 };
enum { ACCESS_READ = 0x00120089, ACCESS_READ_WRITE = 0x0012019f, ACCESS_EXECUTE = 0x001200a0,
       ACCESS_ATTRIBUTES = 0x00100080 };

struct client {
	int fd;
	uint64_t message_id;
	uint32_t credits;
	uint32_t tree_id;
	uint64_t session_id;
	uint8_t *out;           /* the request that is being made */
	uint8_t in[4096];       /* the reply, without file data */
	uint32_t in_length;
	uint32_t data_length;   /* bytes of file data that follow on the socket */
};

struct file {
	uint8_t id[16];
	uint64_t size;
	unsigned oplock;        /* what was granted: an oplock's level, or a lease's state */
};

static void die(const char *what)
{
	fprintf(stderr, "smb2_reader: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void complain(const char *what, uint32_t status)
{
	fprintf(stderr, "smb2_reader: %s: status 0x%08x\n", what, status);
	exit(1);
}

static void put16(uint8_t *p, unsigned value)
{
	p[0] = value;
	p[1] = value >> 8;
}

static void put32(uint8_t *p, uint32_t value)
{
	put16(p, value);
	put16(p + 2, value >> 16);
}

static void put64(uint8_t *p, uint64_t value)
{
	put32(p, value);
	put32(p + 4, value >> 32);
}

static unsigned get16(const uint8_t *p)
{
	return p[0] | p[1] << 8;
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void receive(struct client *client, void *to, size_t length)
{
	uint8_t *at = to;

	while (length > 0) {
		ssize_t count = recv(client->fd, at, length, MSG_WAITALL);

		if (count <= 0) {
			if (count == 0)
				errno = ECONNRESET;
			die("recv");
		}
		at += count;
		length -= count;
	}
}

/* Starts a request; the body is put at the address returned. */
static uint8_t *request(struct client *client, int command, uint32_t charge)
{
	static uint8_t buffer[4 + HEADER + 1024];
	uint8_t *header = buffer + 4;

	memset(buffer, 0, sizeof buffer);
	client->out = buffer;
	memcpy(header, "\xfeSMB", 4);
	put16(header + 4, HEADER);
	put16(header + 6, charge);
	put16(header + 12, command);
	put16(header + 14, 512);
	put64(header + 24, client->message_id);
	put32(header + 36, client->tree_id);
	put64(header + 40, client->session_id);
	client->message_id += charge;
	client->credits -= charge;
	return header + HEADER;
}

static void send_request(struct client *client, size_t body)
{
	uint8_t *at = client->out;
	size_t length = 4 + HEADER + body;

	put32(at, htonl(HEADER + body));
	while (length > 0) {
		ssize_t count = send(client->fd, at, length, MSG_NOSIGNAL);

		if (count < 0)
			die("send");
		at += count;
		length -= count;
	}
}

/* Takes the next message, but for the data of a read; returns its status. */
static uint32_t take(struct client *client)
{
	uint8_t length[4];
	uint32_t want, status;

	receive(client, length, 4);
	client->in_length = ntohl(get32(length)) & 0xffffff;
	receive(client, client->in, HEADER);
	status = get32(client->in + 8);
	want = client->in_length - HEADER;
	client->data_length = 0;
	if (get16(client->in + 12) == READ && status == 0) {
		receive(client, client->in + HEADER, 16);
		client->data_length = get32(client->in + HEADER + 4);
		want = client->in_length - HEADER - 16;
		if (client->in[HEADER + 2] != HEADER + 16 || client->data_length != want) {
			fprintf(stderr, "smb2_reader: a read's reply of %u bytes holds %u\n",
				client->in_length, client->data_length);
			exit(1);
		}
	} else {
		if (client->in_length > sizeof client->in)
			complain("a reply too long", status);
		receive(client, client->in + HEADER, want);
	}
	client->credits += get16(client->in + 14);
	return status;
}

/* The same for the next reply that is not an interim one. */
static uint32_t reply(struct client *client)
{
	uint32_t status;

	do
		status = take(client);
	while (status == STATUS_PENDING);
	return status;
}

/* Whether such a reply comes within a time; if so, it is taken. */
static int answered(struct client *client, int timeout_ms)
{
	struct pollfd readable = { .fd = client->fd, .events = POLLIN };

	while (poll(&readable, 1, timeout_ms) == 1)
		if (take(client) != STATUS_PENDING)
			return 1;
	return 0;
}

static void negotiate(struct client *client)
{
	uint8_t *body = request(client, NEGOTIATE, 1);

	put16(body, 36);
	put16(body + 2, 1);
	put16(body + 4, 1);
	/* Connections with the same client's id would be served by the same smbd. */
	if (getrandom(body + 12, 16, 0) != 16)
		die("getrandom");
	put16(body + 36, 0x0210);
	send_request(client, 38);
	if (reply(client) != 0)
		complain("negotiate", get32(client->in + 8));
}

static uint32_t session_setup(struct client *client, const uint8_t *blob, size_t length)
{
	uint8_t *body = request(client, SESSION_SETUP, 1);
	uint32_t status;

	put16(body, 25);
	body[3] = 1;
	put16(body + 12, HEADER + 24);
	put16(body + 14, length);
	memcpy(body + 24, blob, length);
	send_request(client, 24 + length);
	status = reply(client);
	client->session_id = get64(client->in + 40);
	return status;
}

static void log_on_anonymously(struct client *client)
{
	uint8_t blob[72] = "NTLMSSP";
	uint32_t status;
	int field;

	blob[8] = 1;
	put32(blob + 12, 0x20080205);   /* Unicode, target, NTLM, extended session security, 128 */
	status = session_setup(client, blob, 32);
	if (status != STATUS_MORE_PROCESSING)
		complain("session setup", status);
	blob[8] = 3;
	put32(blob + 12, 0);
	for (field = 0; field < 6; field++) {
		put64(blob + 12 + 8 * field, 0);
		put32(blob + 16 + 8 * field, 64);
	}
	put16(blob + 12, 1);            /* an LM response of one zero byte: nobody */
	put16(blob + 14, 1);
	put32(blob + 60, 0x20080a05);
	status = session_setup(client, blob, 65);
	if (status != 0)
		complain("anonymous session", status);
}

static size_t put_utf16(uint8_t *to, const char *text)
{
	size_t length = 0;

	for (; *text; text++, length += 2)
		put16(to + length, (uint8_t)*text);
	return length;
}

static void tree_connect(struct client *client, const char *share)
{
	uint8_t *body = request(client, TREE_CONNECT, 1);
	char path[128];
	size_t length;

	snprintf(path, sizeof path, "\\\\127.0.0.1\\%s", share);
	length = put_utf16(body + 8, path);
	put16(body, 9);
	put16(body + 4, HEADER + 8);
	put16(body + 6, length);
	send_request(client, 8 + length);
	if (reply(client) != 0)
		complain("tree connect", get32(client->in + 8));
	client->tree_id = get32(client->in + 36);
}

/* Asks for a file to be opened; with an oplock of OPLOCK_LEASE, for a lease with all there is. */
static void ask_open(struct client *client, const char *name, uint32_t access, int oplock)
{
	uint8_t *body = request(client, CREATE, 1);
	size_t length = put_utf16(body + 56, name), end = 56 + length;

	put16(body, 57);
	body[3] = oplock;
	put32(body + 4, 2);
	put32(body + 24, access);
	put32(body + 32, 7);
	put32(body + 36, 1);
	/* Not a directory, but for the share's own. */
	put32(body + 40, *name ? 0x40 : 0);
	put16(body + 44, HEADER + 56);
	put16(body + 46, length);
	if (oplock == OPLOCK_LEASE) {
		uint8_t *context = body + (end + 7) / 8 * 8;

		put32(body + 48, HEADER + (context - body));
		put32(body + 52, 24 + 32);
		put16(context + 4, 16);
		put16(context + 6, 4);
		put16(context + 10, 24);
		put32(context + 12, 32);
		memcpy(context + 16, "RqLs", 4);
		memcpy(context + 24, LEASE_KEY, 16);
		put32(context + 40, 7);
		end = context + 24 + 32 - body;
	}
	send_request(client, end);
}

static void opened(struct client *client, const char *name, struct file *file)
{
	const uint8_t *answer = client->in + HEADER;

	if (get32(client->in + 8) != 0)
		complain(name, get32(client->in + 8));
	file->oplock = answer[2];
	if (file->oplock == OPLOCK_LEASE) {
		const uint8_t *context = client->in + get32(answer + 80);

		file->oplock = get32(context + get16(context + 10) + 16);
	}
	file->size = get64(answer + 48);
	memcpy(file->id, answer + 64, 16);
}

static void open_file(struct client *client, const char *name, struct file *file)
{
	ask_open(client, name, ACCESS_READ, 0);
	reply(client);
	opened(client, name, file);
}

static void close_file(struct client *client, const struct file *file)
{
	uint8_t *body = request(client, CLOSE, 1);

	put16(body, 24);
	memcpy(body + 8, file->id, 16);
	send_request(client, 24);
	if (reply(client) != 0)
		complain("close", get32(client->in + 8));
}

static uint32_t charge_for(uint32_t length)
{
	return length == 0 ? 1 : (length - 1) / 65536 + 1;
}

static void ask_read_at_least(struct client *client, const struct file *file, uint64_t offset, uint32_t length,
			      uint32_t minimum)
{
	uint8_t *body = request(client, READ, charge_for(length));

	put16(body, 49);
	body[2] = HEADER + 16;
	put32(body + 4, length);
	put64(body + 8, offset);
	memcpy(body + 16, file->id, 16);
	put32(body + 32, minimum);
	send_request(client, 49);
}

static void ask_read(struct client *client, const struct file *file, uint64_t offset, uint32_t length)
{
	ask_read_at_least(client, file, offset, length, 0);
}

/* What the environment says, or loopback. */
static struct sockaddr_in address_of(const char *name, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	const char *text = getenv(name);

	if (inet_pton(AF_INET, text ? text : "127.0.0.1", &address.sin_addr) != 1) {
		fprintf(stderr, "smb2_reader: %s is no address\n", name);
		exit(2);
	}
	return address;
}

static void connect_to(struct client *client, int port, const char *share, int receive_bytes)
{
	struct sockaddr_in from = address_of("SMB2_READER_FROM", 0), to = address_of("SMB2_READER_TO", port);
	int yes = 1;

	memset(client, 0, sizeof *client);
	client->credits = 1;
	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	if (receive_bytes > 0)
		setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
	if (bind(client->fd, (struct sockaddr *)&from, sizeof from) < 0)
		die("bind");
	if (connect(client->fd, (struct sockaddr *)&to, sizeof to) < 0)
		die("connect");
	negotiate(client);
	log_on_anonymously(client);
	tree_connect(client, share);
}

/* Reads length bytes from offset on, with depth reads in flight.  Replies may come in any order:
 * their data goes where the message's id says. */
static uint64_t read_range(struct client *client, const struct file *file, uint64_t offset,
			   uint64_t length, uint32_t read_bytes, int depth, uint8_t *to,
			   size_t to_bytes)
{
	struct { uint64_t message_id, offset; uint32_t length; } asked[MAX_DEPTH];
	uint64_t end = offset + length, next = offset, total = 0;
	int in_flight = 0, i;

	while (next < end || in_flight > 0) {
		while (next < end && in_flight < depth) {
			uint32_t want = end - next < read_bytes ? end - next : read_bytes;

			if (client->credits < charge_for(want) + 1)
				break;
			asked[in_flight].message_id = client->message_id;
			asked[in_flight].offset = next;
			asked[in_flight].length = want;
			in_flight++;
			ask_read(client, file, next, want);
			next += want;
		}
		if (in_flight == 0) {
			fprintf(stderr, "smb2_reader: no credits\n");
			exit(1);
		}
		if (reply(client) != 0)
			complain("read", get32(client->in + 8));
		for (i = 0; asked[i].message_id != get64(client->in + 24); i++)
			if (i == in_flight - 1)
				complain("a reply to nothing", 0);
		if (client->data_length != asked[i].length) {
			fprintf(stderr, "smb2_reader: %u bytes for a read of %u\n",
				client->data_length, asked[i].length);
			exit(1);
		}
		if (to_bytes >= length)
			receive(client, to + (asked[i].offset - offset), client->data_length);
		else
			receive(client, to, client->data_length);
		total += client->data_length;
		asked[i] = asked[--in_flight];
	}
	return total;
}

static int get(struct client *client, char **arguments)
{
	uint64_t offset = strtoull(arguments[1], NULL, 10);
	uint64_t length = strtoull(arguments[2], NULL, 10);
	uint32_t read_bytes = strtoul(arguments[3], NULL, 10);
	uint8_t *data = malloc(length + 1);
	struct file file;

	open_file(client, arguments[0], &file);
	read_range(client, &file, offset, length, read_bytes, 4, data, length);
	close_file(client, &file);
	return fwrite(data, 1, length, stdout) == length ? 0 : 1;
}

/* One client of the benchmark: says over the pipe that it is there, waits until all are, reads. */
static void bench_client(int port, const char *share, char **arguments, int number, int ready, int go)
{
	int depth = atoi(arguments[1]);
	uint32_t read_bytes = strtoul(arguments[2], NULL, 10);
	long repeat = atol(arguments[3]), first = atol(arguments[4]), last = atol(arguments[5]), i;
	uint8_t *data = malloc(read_bytes);
	struct client client;
	uint64_t total = 0;
	char byte = 0;

	connect_to(&client, port, share, 0);
	if (write(ready, &byte, 1) != 1 || read(go, &byte, 1) != 0)
		_exit(1);
	while (repeat-- > 0)
		for (i = first; i <= last; i++) {
			long count = last - first + 1;
			char name[128];
			struct file file;

			/* Clients start apart, so that they are not at the same file. */
			snprintf(name, sizeof name, arguments[6], first + (i - first + number * 7) % count);
			open_file(&client, name, &file);
			total += read_range(&client, &file, 0, file.size, read_bytes, depth, data, read_bytes);
			close_file(&client, &file);
		}
	_exit(write(ready, &total, sizeof total) == sizeof total ? 0 : 1);
}

static int bench(int port, const char *share, char **arguments)
{
	int clients = atoi(arguments[0]), ready[2], go[2], i, status, failed = 0;
	struct pollfd started = { .events = POLLIN };
	uint64_t total = 0, bytes;
	struct rusage used;
	double start;
	char byte;

	if (pipe(ready) < 0 || pipe(go) < 0)
		die("pipe");
	started.fd = ready[0];
	for (i = 0; i < clients; i++)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(go[1]);
			bench_client(port, share, arguments, i, ready[1], go[0]);
		}
	close(ready[1]);
	for (i = 0; i < clients; i++)
		if (poll(&started, 1, 30000) != 1 || read(ready[0], &byte, 1) != 1) {
			fprintf(stderr, "smb2_reader: a client did not start\n");
			return 1;
		}
	start = now();
	close(go[1]);
	while (read(ready[0], &bytes, sizeof bytes) == sizeof bytes)
		total += bytes;
	start = now() - start;
	while (wait(&status) > 0)
		failed |= status != 0;
	getrusage(RUSAGE_CHILDREN, &used);
	printf("%llu %.6f %.3f\n", (unsigned long long)total, start,
	       used.ru_utime.tv_sec + used.ru_stime.tv_sec +
		       (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
	return failed;
}

static void wait_for_reply(struct client *client)
{
	struct pollfd readable = { .fd = client->fd, .events = POLLIN };

	if (poll(&readable, 1, 20000) != 1)
		die("no reply");
	/* Until as much is under way as the sender can put into its socket. */
	usleep(300000);
}

static int overwrite(int port, const char *share, char **arguments, int cut)
{
	uint32_t length = strtoul(arguments[2], NULL, 10), i, changed = 0;
	uint8_t *data = malloc(length), *new = malloc(length);
	int local = open(arguments[1], O_WRONLY | O_CLOEXEC);
	struct client client;
	struct file file;

	/* A small receive buffer keeps most of the reply in the sender's socket. */
	connect_to(&client, port, share, 4096);
	open_file(&client, arguments[0], &file);
	memset(new, 'N', length);
	while (client.credits < charge_for(length) + 1) {
		read_range(&client, &file, 0, 1, 1, 1, data, 1);
	}
	ask_read(&client, &file, 0, length);
	wait_for_reply(&client);
	if (cut ? ftruncate(local, 0) < 0 : pwrite(local, new, length, 0) != (ssize_t)length)
		die("changing the file");
	if (reply(&client) != 0 || client.data_length != length)
		complain("read", get32(client.in + 8));
	receive(&client, data, length);
	for (i = 0; i < length; i++)
		changed += data[i] != 'O';
	printf("%u\n", changed);
	return 0;
}

static int truncate_between(struct client *client, char **arguments)
{
	uint32_t length = strtoul(arguments[2], NULL, 10), i, zeros = 0, status;
	uint8_t *data = malloc(length);
	uint32_t got;
	struct file file;

	open_file(client, arguments[0], &file);
	while (client->credits < charge_for(length) + 1)
		read_range(client, &file, 0, 1, 1, 1, data, 1);
	if (truncate(arguments[1], strtoull(arguments[3], NULL, 10)) < 0)
		die("truncate");
	ask_read(client, &file, 0, length);
	status = reply(client);
	got = client->data_length;
	receive(client, data, got);
	for (i = 0; i < got; i++)
		zeros += data[i] == 0;
	close_file(client, &file);
	printf("0x%08x %u %u\n", status, got, zeros);
	return 0;
}

static int is_locked(int local)
{
	struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10 };

	if (fcntl(local, F_GETLK, &range) < 0)
		die("F_GETLK");
	return range.l_type != F_UNLCK;
}

enum { LOCK_SHARED = 0x11, LOCK_EXCLUSIVE = 0x12, UNLOCK = 4 };   /* none of them waits */

/* Locks or unlocks the first ten bytes. */
static void lock_file(struct client *client, const struct file *file, uint32_t how)
{
	uint8_t *body = request(client, LOCK, 1);

	put16(body, 48);
	put16(body + 2, 1);
	memcpy(body + 8, file->id, 16);
	put64(body + 32, 10);
	put32(body + 40, how);
	send_request(client, 48);
	if (reply(client) != 0)
		complain("lock", get32(client->in + 8));
}

static int lock(struct client *client, char **arguments)
{
	uint32_t length = strtoul(arguments[2], NULL, 10);
	uint8_t *data = malloc(length);
	int local = open(arguments[1], O_RDONLY | O_CLOEXEC);
	int at_first = is_locked(local), before;
	struct file file;

	open_file(client, arguments[0], &file);
	lock_file(client, &file, LOCK_SHARED);
	before = is_locked(local);
	read_range(client, &file, 0, length, length, 1, data, length);
	printf("%d %d %d\n", at_first, before, is_locked(local));
	return 0;
}

/* More than one is granted only to those who ask. */
static void gather_credits(struct client *client, const struct file *file, uint32_t length)
{
	uint8_t byte;

	while (client->credits < charge_for(length) + 1)
		read_range(client, file, 0, 1, 1, 1, &byte, 1);
}

static uint32_t status_of_read(struct client *client, const struct file *file, uint64_t offset,
			       uint32_t length)
{
	uint8_t *data = malloc(length);
	uint32_t status;

	gather_credits(client, file, length);
	ask_read(client, file, offset, length);
	status = reply(client);
	receive(client, data, client->data_length);
	free(data);
	return status;
}

static void lock_locally(int local, short type)
{
	struct flock range = { .l_type = type, .l_whence = SEEK_SET, .l_len = 10 };

	if (fcntl(local, F_SETLK, &range) < 0)
		die("F_SETLK");
}

static int conflict(int port, const char *share, char **arguments)
{
	uint32_t length = strtoul(arguments[2], NULL, 10);
	int local = open(arguments[1], O_RDWR | O_CLOEXEC);
	struct client locker, other;
	struct file locked, file;

	connect_to(&locker, port, share, 0);
	connect_to(&other, port, share, 0);
	ask_open(&locker, arguments[0], ACCESS_READ_WRITE, 0);
	reply(&locker);
	opened(&locker, arguments[0], &locked);
	open_file(&other, arguments[0], &file);
	gather_credits(&other, &file, length);
	lock_file(&locker, &locked, LOCK_EXCLUSIVE);
	printf("0x%08x", status_of_read(&other, &file, 0, length));
	printf(" 0x%08x", status_of_read(&other, &file, 10, length - 10));
	printf(" 0x%08x", status_of_read(&locker, &locked, 0, length));
	lock_file(&locker, &locked, UNLOCK);
	printf(" 0x%08x", status_of_read(&other, &file, 0, length));
	lock_locally(local, F_WRLCK);
	printf(" 0x%08x", status_of_read(&other, &file, 0, length));
	lock_locally(local, F_UNLCK);
	printf(" 0x%08x\n", status_of_read(&other, &file, 0, length));
	return 0;
}

/* The first client of the test of oplocks, who reads a file over and over. */
struct holder {
	struct client client;
	struct file file;
	uint8_t *data, *expected;
	uint32_t length;
	int is_lease;
	unsigned reads, wrong;
	int is_broken;          /* since this was last set to 0: */
	unsigned broken_to;
	int wants_answer;
};

/* Takes what comes to the holder: the reply to a read, or a break; returns which command's. */
static int take_as_holder(struct holder *holder)
{
	struct client *client = &holder->client;
	const uint8_t *body = client->in + HEADER;
	uint32_t status = reply(client);
	int command = get16(client->in + 12);

	if (status != 0)
		complain("the holder", status);
	if (command == OPLOCK_BREAK && get64(client->in + 24) == UINT64_MAX) {
		holder->is_broken = 1;
		if (holder->is_lease) {
			holder->broken_to = get32(body + 28);
			holder->wants_answer = get32(body + 4) & 1;
		} else {
			holder->broken_to = body[2];
			/* There is nothing to be said to the end of a level II oplock. */
			holder->wants_answer = holder->file.oplock == OPLOCK_BATCH;
		}
	} else if (command == READ) {
		receive(client, holder->data, client->data_length);
		holder->reads++;
		holder->wrong += client->data_length != holder->length ||
				 memcmp(holder->data, holder->expected, holder->length) != 0;
	}
	return command;
}

static void read_as_holder(struct holder *holder)
{
	ask_read(&holder->client, &holder->file, 0, holder->length);
	while (take_as_holder(holder) != READ)
		;
}

/* Reads until the oplock, or lease, is broken. */
static void read_until_broken(struct holder *holder)
{
	double end = now() + 10;

	while (!holder->is_broken && now() < end)
		read_as_holder(holder);
	if (!holder->is_broken)
		complain("no break of the oplock or lease within ten seconds", 0);
}

static void answer_break(struct holder *holder)
{
	uint8_t *body;

	holder->is_broken = 0;
	holder->file.oplock = holder->broken_to;
	if (!holder->wants_answer)
		return;
	body = request(&holder->client, OPLOCK_BREAK, 1);
	if (holder->is_lease) {
		put16(body, 36);
		memcpy(body + 8, LEASE_KEY, 16);
		put32(body + 24, holder->broken_to);
		send_request(&holder->client, 36);
	} else {
		put16(body, 24);
		body[2] = holder->broken_to;
		memcpy(body + 8, holder->file.id, 16);
		send_request(&holder->client, 24);
	}
	while (take_as_holder(holder) != OPLOCK_BREAK)
		;
}

static void ask_write(struct client *client, const struct file *file, uint8_t byte)
{
	uint8_t *body = request(client, WRITE, 1);

	put16(body, 49);
	put16(body + 2, HEADER + 48);
	put32(body + 4, 1);
	memcpy(body + 16, file->id, 16);
	body[48] = byte;
	send_request(client, 49);
}

static int oplock(int port, const char *share, char **arguments, int level)
{
	struct holder holder = { .is_lease = level == OPLOCK_LEASE, .length = strtoul(arguments[2], NULL, 10) };
	int local = open(arguments[1], O_RDONLY | O_CLOEXEC), waited;
	unsigned reads;
	struct client other;
	struct file file;

	holder.data = malloc(holder.length);
	holder.expected = malloc(holder.length);
	if (pread(local, holder.expected, holder.length, 0) != (ssize_t)holder.length)
		die(arguments[1]);
	connect_to(&holder.client, port, share, 0);
	connect_to(&other, port, share, 0);
	ask_open(&holder.client, arguments[0], ACCESS_READ_WRITE, level);
	reply(&holder.client);
	opened(&holder.client, arguments[0], &holder.file);
	printf("granted %u", holder.file.oplock);
	gather_credits(&holder.client, &holder.file, holder.length);
	read_as_holder(&holder);

	ask_open(&other, arguments[0], ACCESS_READ_WRITE, 0);
	read_until_broken(&holder);
	printf(", broken to %u", holder.broken_to);
	/* Reads go on, and the other waits, until the break is answered. */
	waited = !answered(&other, 300);
	for (reads = holder.reads; holder.reads < reads + 3;)
		read_as_holder(&holder);
	waited = waited && !answered(&other, 0);
	answer_break(&holder);
	if (waited)
		reply(&other);
	opened(&other, arguments[0], &file);
	printf(", the open %s", waited ? "waited" : "did not wait");

	ask_write(&other, &file, holder.expected[0] ^ 1);
	if (reply(&other) != 0)
		complain("write", get32(other.in + 8));
	holder.expected[0] ^= 1;
	/* Whoever asks from here on gets what was written, told of the break or not. */
	read_until_broken(&holder);
	printf(", the write broke it to %u", holder.broken_to);
	answer_break(&holder);
	read_as_holder(&holder);
	printf(", %u reads wrong\n", holder.wrong);
	return 0;
}

static int twice(struct client *client, const char *share, char **arguments)
{
	uint32_t length = strtoul(arguments[1], NULL, 10), first = client->tree_id, status;
	struct file file;
	uint8_t *body;

	open_file(client, arguments[0], &file);
	tree_connect(client, share);
	body = request(client, TREE_DISCONNECT, 1);
	put16(body, 4);
	send_request(client, 4);
	if (reply(client) != 0)
		complain("tree disconnect", get32(client->in + 8));
	client->tree_id = first;
	status = status_of_read(client, &file, 0, length);
	if (status != 0)
		complain("read", status);
	return 0;
}

/* FilePositionInformation. */
static uint64_t position(struct client *client, const struct file *file)
{
	uint8_t *body = request(client, QUERY_INFO, 1);

	put16(body, 41);
	body[2] = 1;
	body[3] = 14;
	put32(body + 4, 8);
	memcpy(body + 24, file->id, 16);
	send_request(client, 41);
	return reply(client) == 0 ? get64(client->in + HEADER + 8) : UINT64_MAX;
}

/* One read, and what came of it; a connection that ends is an error of the program. */
static void try_read(struct client *client, const struct file *file, uint64_t offset, uint32_t length,
		     uint32_t minimum)
{
	uint32_t status, sum = 0, i, got;
	uint8_t *data = malloc(length + 1);

	ask_read_at_least(client, file, offset, length, minimum);
	status = reply(client);
	got = client->data_length;
	if (got > length)
		complain("more than was asked for", got);
	receive(client, data, got);
	for (i = 0; i < got; i++)
		sum = sum * 31 + data[i];
	free(data);
	printf("  offset %llu, %u bytes, at least %u: 0x%08x, %u bytes, sum %08x, at %lld\n", (unsigned long long)offset,
	       length, minimum, status, got, sum, (long long)position(client, file));
}

static void try_reads(struct client *client, const struct file *file, uint64_t size)
{
	const uint64_t offsets[] = { 0, 1, size - 1, size, size + 1, 1ull << 31, 1ull << 32, INT64_MAX - size,
				     INT64_MAX - 1, INT64_MAX, 1ull << 63, UINT64_MAX };
	const uint32_t lengths[] = { 0, 1, 2, size - 1, size, size + 1, 1 << 20, (1 << 20) + 1 };
	size_t i, j, k;

	for (i = 0; i < sizeof offsets / sizeof *offsets; i++)
		for (j = 0; j < sizeof lengths / sizeof *lengths; j++) {
			const uint32_t minima[] = { 0, 1, 2, lengths[j], lengths[j] + 1, UINT32_MAX };

			for (k = 0; k < sizeof minima / sizeof *minima; k++)
				try_read(client, file, offsets[i], lengths[j], minima[k]);
		}
}

static int edges(struct client *client, char **arguments)
{
	static const struct { const char *what, *suffix; uint32_t access; } opens[] = {
		{ "for reading", "", ACCESS_READ },
		{ "for reading and writing", "", ACCESS_READ_WRITE },
		{ "for execution", "", ACCESS_EXECUTE },
		{ "for its attributes", "", ACCESS_ATTRIBUTES },
		{ "the directory", NULL, ACCESS_READ },
		{ "a stream", ":stream", ACCESS_READ },
	};
	uint64_t size = strtoull(arguments[1], NULL, 10);
	struct file file;
	size_t i;

	open_file(client, arguments[0], &file);
	gather_credits(client, &file, 2 << 20);
	close_file(client, &file);
	for (i = 0; i < sizeof opens / sizeof *opens; i++) {
		char name[128] = "";
		uint32_t status;

		if (opens[i].suffix)
			snprintf(name, sizeof name, "%s%s", arguments[0], opens[i].suffix);
		ask_open(client, name, opens[i].access, 0);
		status = reply(client);
		printf("%s: 0x%08x\n", opens[i].what, status);
		if (status != 0)
			continue;
		opened(client, name, &file);
		try_reads(client, &file, size);
		close_file(client, &file);
	}
	printf("closed:\n");
	try_read(client, &file, 0, 0, 0);
	try_read(client, &file, 0, 1, 0);
	return 0;
}

static int closed(int port, const char *share, char **arguments)
{
	uint32_t length = strtoul(arguments[1], NULL, 10), queued = 8 << 20, status;
	uint8_t *body, *data = malloc(queued);
	struct client client;
	struct file file;
	int i;

	/* Small, so that the server's socket fills. */
	connect_to(&client, port, share, 4096);
	open_file(&client, arguments[0], &file);
	gather_credits(&client, &file, queued + length + (1 << 20));
	/* It goes beyond the end of the file, so that smbd reads it into memory and its reply waits in smbd's queue. */
	ask_read(&client, &file, file.size - queued + 1, queued);
	usleep(300000);
	ask_read(&client, &file, 0, length);
	usleep(300000);
	body = request(&client, CLOSE, 1);
	put16(body, 24);
	memcpy(body + 8, file.id, 16);
	send_request(&client, 24);
	usleep(300000);
	for (i = 0; i < 3; i++) {
		status = reply(&client);
		receive(&client, data, client.data_length);
		printf("%s0x%08x %u", i ? ", " : "", status, client.data_length);
	}
	printf("\n");
	return 0;
}

static int stall(struct client *client, char **arguments)
{
	uint32_t length = strtoul(arguments[1], NULL, 10);
	struct file file;
	int i;

	open_file(client, arguments[0], &file);
	for (i = 0; i < 8 && client->credits > charge_for(length); i++)
		ask_read(client, &file, (uint64_t)i * length, length);
	sleep(atoi(arguments[2]));
	return 0;
}

int main(int count, char **arguments)
{
	struct client client;
	const char *share, *what;
	int port;

	if (count < 5) {
		fprintf(stderr, "usage: see the head of smb2_reader.c\n");
		return 2;
	}
	port = atoi(arguments[1]);
	share = arguments[2];
	what = arguments[3];
	arguments += 4;
	count -= 4;
	if (strcmp(what, "bench") == 0 && count == 7)
		return bench(port, share, arguments);
	if (strcmp(what, "oplock") == 0 && count == 3)
		return oplock(port, share, arguments, OPLOCK_BATCH);
	if (strcmp(what, "lease") == 0 && count == 3)
		return oplock(port, share, arguments, OPLOCK_LEASE);
	if (strcmp(what, "conflict") == 0 && count == 3)
		return conflict(port, share, arguments);
	if ((strcmp(what, "overwrite") == 0 || strcmp(what, "cut") == 0) && count == 3)
		return overwrite(port, share, arguments, *what == 'c');
	if (strcmp(what, "closed") == 0 && count == 2)
		return closed(port, share, arguments);
	connect_to(&client, port, share, strcmp(what, "stall") == 0 ? 4096 : 0);
	if (strcmp(what, "get") == 0 && count == 4)
		return get(&client, arguments);
	if (strcmp(what, "truncate") == 0 && count == 4)
		return truncate_between(&client, arguments);
	if (strcmp(what, "lock") == 0 && count == 3)
		return lock(&client, arguments);
	if (strcmp(what, "twice") == 0 && count == 2)
		return twice(&client, share, arguments);
	if (strcmp(what, "edges") == 0 && count == 2)
		return edges(&client, arguments);
	if (strcmp(what, "stall") == 0 && count == 3)
		return stall(&client, arguments);
	fprintf(stderr, "usage: see the head of smb2_reader.c\n");
	return 2;
}
