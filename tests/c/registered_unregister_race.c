/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Threads use handles while others unregister them and register anew: each accepted operation has exactly one DONE,
 * with 0 or -EBADF, a refused one was refused with -EBADF, and the peer gets exactly what the completions count. */
#include "registered.h"

#define SENDERS 3
#define OPS     4000
#define LENGTH  3000

static snapsend_t *ctx;
static int sv[2], file;
static _Atomic int socket_handle, file_handle;
static atomic_bool stop;
static _Atomic uint64_t accepted, refused, wire, done_count, lost;

static void counted(const struct snapsend_completion *done)
{
	CHECK(done->status == 0 || done->status == -EBADF || done->status == -ECANCELED);
	CHECK_EQ(done->status == 0, done->wire_bytes == LENGTH);
	CHECK(done->status == 0 || done->wire_bytes == 0);
	atomic_fetch_add(&wire, done->wire_bytes);
	atomic_fetch_add(&lost, done->status != 0);
}

static void *send_all(void *argument)
{
	unsigned random = *(unsigned *)argument;
	for (int i = 0; i < OPS; i++) {
		int naming = 1 + rand_r(&random) % 3, result;
		struct snapsend_completion done;
		struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
		if (naming & FILE_BY_HANDLE)
			request.file_fd = atomic_load(&file_handle), request.flags |= SNAPSEND_REGISTERED_FILE;
		if (naming & SOCKET_BY_HANDLE)
			request.socket_fd = atomic_load(&socket_handle), request.flags |= SNAPSEND_REGISTERED_SOCKET;
		switch (rand_r(&random) % 4) {
		case 0:
			result = snapsend_try_send(ctx, &request, sizeof request, &done);
			if (result == 1)
				counted(&done);
			break;
		case 1:
			result = snapsend_send(ctx, &request, sizeof request, &done);
			if (result == 0) {
				counted(&done);
				result = 1;
			}
			break;
		default: result = snapsend_submit(ctx, &request, sizeof request, NULL);
		}
		CHECK(result >= 0 || result == -EBADF || result == -EAGAIN);
		atomic_fetch_add(&accepted, result == 0);
		atomic_fetch_add(&refused, result < 0);
	}
	return NULL;
}

static void *change(void *argument)
{
	unsigned random = 77;
	(void)argument;
	while (!atomic_load(&stop)) {
		int old_socket = atomic_load(&socket_handle), old_file = atomic_load(&file_handle);
		if (rand_r(&random) % 3 == 0) {
			unregister_socket_ok(ctx, old_socket);
			old_socket = 0;
		}
		if (rand_r(&random) % 2 == 0) {
			atomic_store(&file_handle, register_file_ok(ctx, file));
			unregister_file_ok(ctx, old_file);
		}
		atomic_store(&socket_handle, register_socket_ok(ctx, sv[0]));
		if (old_socket != 0)
			unregister_socket_ok(ctx, old_socket);
		for (unsigned spin = (unsigned)rand_r(&random) % 20000; spin > 0; spin--)
			atomic_signal_fence(memory_order_seq_cst);
	}
	return NULL;
}

static void *take_all(void *argument)
{
	struct snapsend_completion done[32];
	(void)argument;
	while (!atomic_load(&stop) || atomic_load(&done_count) < atomic_load(&accepted)) {
		int n = snapsend_poll(ctx, done, 32, 20);
		CHECK_GE(n, 0);
		for (int i = 0; i < n; i++)
			counted(&done[i]);
		atomic_fetch_add(&done_count, (uint64_t)n);
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[SENDERS], changer, taker;
	unsigned seeds[SENDERS];
	struct reader reader;
	allow_few_descriptors();
	ctx = create_ctx();
	file = temp_file(LENGTH, 35);
	int room = room_for_registrations(ctx, file);
	CHECK_GE(room, 200);
	tcp_pair(sv);
	atomic_store(&socket_handle, register_socket_ok(ctx, sv[0]));
	atomic_store(&file_handle, register_file_ok(ctx, file));
	reader_init(&reader, sv[1], UINT64_MAX);
	reader_go(&reader);
	PTHREAD(pthread_create(&taker, NULL, take_all, NULL));
	PTHREAD(pthread_create(&changer, NULL, change, NULL));
	for (unsigned i = 0; i < SENDERS; i++) {
		seeds[i] = i + 1;
		PTHREAD(pthread_create(&threads[i], NULL, send_all, &seeds[i]));
	}
	for (int i = 0; i < SENDERS; i++)
		PTHREAD(pthread_join(threads[i], NULL));
	atomic_store(&stop, true);
	PTHREAD(pthread_join(changer, NULL));
	PTHREAD(pthread_join(taker, NULL));
	expect_nothing(ctx, 50);
	printf("%d accepted, %d refused, %d -EBADF later\n", (int)atomic_load(&accepted), (int)atomic_load(&refused),
	       (int)atomic_load(&lost));
	CHECK_UEQ(atomic_load(&done_count), atomic_load(&accepted));
	unregister_socket_ok(ctx, atomic_load(&socket_handle));
	unregister_file_ok(ctx, atomic_load(&file_handle));
	close(sv[0]);
	CHECK_UEQ(reader_join(&reader), atomic_load(&wire)); /* up to the end: the library's copies are gone */
	CHECK_EQ(room_for_registrations(ctx, file), room);
	destroy_soon(ctx);
	return 0;
}
