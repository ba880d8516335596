/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* engine: one */
/* snapsend_sendfile with a file that cannot change does what sendfile(2) does in the same case: bytes, result, errno,
 * offset or file position, SIGPIPE. To sockets that block and that do not, to full ones, broken ones and pipes. */
#include "frozen.h"

#define LENGTH (700 * KIB + 3)

typedef ssize_t function(int out_fd, int in_fd, off_t *offset, size_t count);

enum out { BLOCKING, NONBLOCKING, FULL, BROKEN, PIPE, SIGNALLED, OUTS };
static const char *const out_name[] = { "blocking", "non-blocking", "full", "broken", "pipe", "interrupted" };

static bool is_full(enum out out)
{
	return out == FULL || out == SIGNALLED;
}

struct seen {
	ssize_t result;
	int error;
	off_t offset, position;
	int pipes, alarms; /* signals */
	uint64_t received;
};

static unsigned char *image;
static int file;
static volatile sig_atomic_t pipes, alarms;

static void count(int number)
{
	if (number == SIGPIPE)
		pipes++;
	else
		alarms++;
}

/* A handler runs after 50 ms. */
static timer_t interrupt_soon(void)
{
	timer_t timer;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec when = { .it_value.tv_nsec = 50 * 1000000 };
	SYS(timer_create(CLOCK_MONOTONIC, &event, &timer));
	SYS(timer_settime(timer, 0, &when, NULL));
	return timer;
}

static void open_ends(enum out out, int sv[2])
{
	if (out == PIPE) {
		int ends[2];
		SYS(pipe2(ends, O_CLOEXEC));
		sv[0] = ends[1], sv[1] = ends[0];
		return;
	}
	(void)pair_sized(is_full(out) || out == NONBLOCKING ? AF_UNIX : AF_INET, sv, 64 * (int)KIB, 64 * (int)KIB);
	if (out == FULL || out == NONBLOCKING)
		set_nonblock(sv[0]);
	if (is_full(out))
		(void)fill_socket(sv[0]);
	if (out == BROKEN)
		SYS(shutdown(sv[0], SHUT_WR));
}

static struct seen one(function *f, enum out out, uint64_t offset, size_t length, bool by_pointer)
{
	int sv[2];
	struct seen seen;
	struct reader reader;
	memset(&seen, 0, sizeof seen);
	open_ends(out, sv);
	/* Nobody reads from what is full. */
	bool is_read = out == BLOCKING || out == PIPE;
	if (is_read)
		reader_start_keep(&reader, sv[1], UINT64_MAX);
	seen.offset = (off_t)offset;
	SYS(lseek(file, by_pointer ? 7 : (off_t)offset, SEEK_SET));
	timer_t timer = NULL;
	if (out == SIGNALLED)
		timer = interrupt_soon();
	pipes = alarms = 0;
	errno = 0;
	seen.result = f(sv[0], file, by_pointer ? &seen.offset : NULL, length);
	seen.error = errno;
	seen.pipes = pipes, seen.alarms = alarms;
	if (out == SIGNALLED)
		SYS(timer_delete(timer));
	seen.position = lseek(file, 0, SEEK_CUR);
	close(sv[0]);
	if (!is_read && !is_full(out))
		reader_start_keep(&reader, sv[1], UINT64_MAX);
	if (!is_full(out)) {
		seen.received = reader_join(&reader);
		CHECK_UEQ(seen.received, seen.result > 0 ? (uint64_t)seen.result : 0);
		CHECK(seen.received == 0 || memcmp(reader.data, image + offset, seen.received) == 0);
		reader_free(&reader);
	}
	close(sv[1]);
	return seen;
}

static void same(enum out out, uint64_t offset, size_t length, bool by_pointer)
{
	struct seen want = one(sendfile, out, offset, length, by_pointer);
	struct seen got = one(snapsend_sendfile, out, offset, length, by_pointer);
	if (memcmp(&want, &got, sizeof got) != 0)
		fail("%s, offset %" PRIu64
		     " length %zu: result %zd errno %d offset %jd position %jd pipes %d alarms %d "
		     "received %" PRIu64 ", of sendfile(2) %zd %d %jd %jd %d %d %" PRIu64,
		     out_name[out], offset, length, got.result, got.error, (intmax_t)got.offset, (intmax_t)got.position,
		     got.pipes, got.alarms, got.received, want.result, want.error, (intmax_t)want.offset,
		     (intmax_t)want.position, want.pipes, want.alarms, want.received);
}

int main(void)
{
	static const struct {
		uint64_t offset;
		size_t length;
	} ranges[] = { { 0, LENGTH }, { 0, 64 * KIB },       { 4097, 300 * KIB }, { 5, LENGTH },
		       { 1, 100 },    { LENGTH, 128 * KIB }, { LENGTH - 10, MIB } };
	struct sigaction action = { .sa_handler = count };
	SYS(sigaction(SIGPIPE, &action, NULL));
	SYS(sigaction(SIGUSR1, &action, NULL));
	file = memory_file(LENGTH, 51);
	image = image_of(0, LENGTH, 51);
	seal(file, SEALS);
	for (int out = 0; out < OUTS; out++) {
		doing(out_name[out]);
		for (size_t i = 0; i < 2 * COUNT_OF(ranges); i++)
			if (ranges[i / 2].offset < LENGTH - 10 || !is_full((enum out)out))
				same((enum out)out, ranges[i / 2].offset, ranges[i / 2].length, i % 2);
	}
	free(image);
	close(file);
	return 0;
}
