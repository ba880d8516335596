/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A context is destroyed, or fails, with descriptors registered and operations in flight or being submitted: nothing
 * stays open, and each accepted operation has its DONE before poll says that there will be no more. */
#include "registered.h"

#define SENDERS 3
#define LENGTH  2000

static void destroyed(enum kind kind, bool busy)
{
	struct ends ends;
	snapsend_t *ctx = create_ctx();
	int file = temp_file(8 * MIB, 36);
	ends_open(&ends, ctx, kind, file);
	close(ends.sv[0]);
	if (busy) {
		struct snapsend_request request = ends_request(&ends, BY_HANDLE, 0, 8 * MIB);
		submit_ok(ctx, &request);
		submit_ok(ctx, &request);
	}
	for (int i = 0; i < 20; i++) /* also of those that were never used */
		register_file_ok(ctx, file);
	destroy_ctx(ctx);
	if (fcntl(file, F_SETLEASE, F_WRLCK) != 0)
		fail("the file is still open somewhere: %s", strerror(errno));
	close(file);
	while (recv(ends.sv[1], (char[4096]){ 0 }, 4096, MSG_DONTWAIT) > 0)
		;
	CHECK_EQ(recv(ends.sv[1], (char[1]){ 0 }, 1, MSG_DONTWAIT), 0);
	close(ends.sv[1]);
}

struct sender {
	pthread_t thread;
	struct ends ends;
	uint64_t accepted;
};

static atomic_bool go;

static void *submit_all(void *argument)
{
	struct sender *sender = argument;
	struct snapsend_request request = ends_request(&sender->ends, BY_HANDLE, 0, LENGTH);
	while (!atomic_load(&go))
		;
	for (;;) {
		int result = snapsend_submit(sender->ends.ctx, &request, sizeof request, NULL);
		if (result == 0) {
			sender->accepted++;
		} else if (result != -EAGAIN) {
			CHECK_EQ(result, -EBADF);
			return NULL;
		}
	}
}

/* The host closes the context's own descriptor. */
static void failed(int round, int file)
{
	struct sender senders[SENDERS];
	struct snapsend_completion done[64];
	uint64_t accepted = 0, taken = 0;
	snapsend_t *ctx = create_ctx_with(512, 0, 0);
	int own = snapsend_event_fd(ctx), n;
	for (int i = 0; i < SENDERS; i++) {
		ends_open(&senders[i].ends, ctx, UNIX, file);
		senders[i].accepted = 0;
		PTHREAD(pthread_create(&senders[i].thread, NULL, submit_all, &senders[i]));
	}
	atomic_store(&go, true);
	usleep((useconds_t)(round * 37 % 1000));
	close(own);
	for (int64_t end = now_ms() + WAIT_MS; (n = snapsend_poll(ctx, done, 64, 1000)) != -EBADF;) {
		CHECK_GE(n, 0);
		CHECK_LT(now_ms(), end);
		taken += (uint64_t)n;
	}
	for (int i = 0; i < SENDERS; i++) {
		PTHREAD(pthread_join(senders[i].thread, NULL));
		accepted += senders[i].accepted;
	}
	CHECK_UEQ(taken, accepted);
	CHECK_ERR(snapsend_poll(ctx, done, 64, 0), EBADF);
	CHECK_ERR(snapsend_register_file(ctx, file, 0), EBADF);
	CHECK_ERR(snapsend_register_socket(ctx, senders[0].ends.sv[0], 0), EBADF);
	(void)snapsend_unregister_file(ctx, senders[0].ends.file_handle);
	(void)snapsend_unregister_socket(ctx, senders[0].ends.socket_handle);
	atomic_store(&go, false);
	for (int i = 0; i < SENDERS; i++) { /* registered no more, although nobody has unregistered it */
		close(senders[i].ends.sv[0]);
		while (recv(senders[i].ends.sv[1], (char[4096]){ 0 }, 4096, 0) > 0)
			;
		close(senders[i].ends.sv[1]);
	}
	destroy_ctx(ctx);
}

int main(void)
{
	int before = count_fds();
	for (int kind = TCP4; kind < KINDS; kind++) {
		if (kind_exists((enum kind)kind)) {
			doing("destroyed");
			destroyed((enum kind)kind, false);
			destroyed((enum kind)kind, true);
		}
	}
	doing("failed");
	int file = temp_file(LENGTH, 36);
	for (int round = 0; round < 300; round++)
		failed(round, file);
	close(file);
	CHECK_EQ(count_fds(), before);
	return 0;
}
