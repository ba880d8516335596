/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Uses the library in every usual way, for tests/run-syscalls: what the calling thread does for the library lies
 * between marks, which are calls that nobody else makes. */
#include "../c/data_common.h"

#define LENGTH (MIB + 77)
#define MANY   150

static void mark(int on)
{
	(void)getpgid(on ? -4242 : -4243);
}

static void send_all(snapsend_t *ctx, int file, const int sv[2], bool cold)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	static const size_t lengths[] = { 1000, 100000, LENGTH };
	for (size_t i = 0; i < CALLS * COUNT_OF(flags) * COUNT_OF(lengths); i++) {
		struct reader reader;
		struct snapsend_request request = make_request(sv[0], file, 0, lengths[i / CALLS / COUNT_OF(flags)]);
		request.flags = flags[i / CALLS % COUNT_OF(flags)];
		request.timeout_ms = i % 2 ? 20000 : 0;
		if (cold)
			drop_cache(file);
		reader_start_check(&reader, sv[1], request.length, 0, 9);
		mark(1);
		CHECK_EQ(call_done(ctx, (enum call)(i % CALLS), request).status, 0);
		mark(0);
		reader_join(&reader);
	}
}

/* Many at a time, to peers that do not read, cancelled in each way; some fit into their sockets. */
static void cancelled(snapsend_t *ctx, int file)
{
	static int sv[MANY][2];
	struct snapsend_completion done;
	uint64_t ids[MANY];
	for (int i = 0; i < MANY; i++)
		pair_of_kind(i % 2 ? TCP4 : UNIX, sv[i], 0);
	mark(1);
	for (int i = 0; i < MANY; i++) {
		struct snapsend_request request = make_request(sv[i][0], file, 0, LENGTH);
		request.flags = i % 3 == 0 ? SNAPSEND_EAGER : 0;
		ids[i] = submit_ok(ctx, &request);
	}
	CHECK_GE(snapsend_event_fd(ctx), 0);
	int taken = snapsend_poll(ctx, &done, 1, 50);
	for (int i = 0; i < MANY; i++)
		CHECK_GE(i % 2 ? snapsend_cancel(ctx, ids[i]) : snapsend_cancel_socket(ctx, sv[i][0]), -ENOENT);
	while (taken < MANY) {
		CHECK_EQ(snapsend_poll(ctx, &done, 1, WAIT_MS), 1);
		taken++;
	}
	mark(0);
	for (int i = 0; i < MANY; i++)
		close_pair(sv[i]);
}

/* A memfd: a clone is tried, because its mount is in no namespace; sealed, it goes by reference, to a peer that has
 * gone, too, where SIGPIPE is taken away. */
static void in_memory(snapsend_t *ctx)
{
	int sv[2], file = (int)SYS(memfd_create("calls", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	struct snapsend_info info;
	sigset_t only_pipe;
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	pattern_write(file, 0, LENGTH, 9);
	SYS(ftruncate(file, (off_t)info.exact_max + 1));
	tcp_pair(sv);
	set_nonblock(sv[0]);
	struct snapsend_request request = make_request(sv[0], file, 0, info.exact_max + 1);
	request.flags = SNAPSEND_EXACT;
	mark(1);
	CHECK_EQ(call_done(ctx, CALL_SUBMIT, request).status, -EMSGSIZE);
	mark(0);
	SYS(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
	send_all(ctx, file, sv, false);
	SYS(shutdown(sv[0], SHUT_WR));
	sigemptyset(&only_pipe);
	sigaddset(&only_pipe, SIGPIPE);
	SYS(sigprocmask(SIG_BLOCK, &only_pipe, NULL));
	mark(1);
	CHECK_EQ(call_done(ctx, CALL_TRY_SEND, make_request(sv[0], file, 0, 100000)).status, -EPIPE);
	mark(0);
	SYS(sigprocmask(SIG_UNBLOCK, &only_pipe, NULL));
	close(file);
	close_pair(sv);
}

int main(int argc, char **argv)
{
	snapsend_t *ctx;
	int sv[2], file = temp_file(LENGTH, 9);
	int proc = argc > 1 ? (int)SYS(open(argv[1], O_RDONLY | O_CLOEXEC)) : -1;
	mark(1);
	ctx = create_ctx();
	mark(0);
	for (int kind = TCP4; kind < KINDS; kind++) {
		if (!pair_of_kind((enum kind)kind, sv, 0))
			continue;
		send_all(ctx, file, sv, false);
		send_all(ctx, file, sv, true);
		close_pair(sv);
	}
	cancelled(ctx, file);
	in_memory(ctx);
	if (proc >= 0) { /* of a file system that is not a local one */
		struct reader reader;
		unix_pair(sv);
		reader_start_keep(&reader, sv[1], 1);
		mark(1);
		call_done(ctx, CALL_SUBMIT, make_request(sv[0], proc, 0, 1));
		mark(0);
		reader_join(&reader);
		close_pair(sv);
	}
	sleep_ms(2500); /* idle: memory goes back */
	mark(1);
	destroy_ctx(ctx);
	mark(0);
	return 0;
}
