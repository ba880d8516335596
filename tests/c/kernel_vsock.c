/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A stream of AF_VSOCK, over its loopback: ranges, slow peers and snapshots as over TCP. */
#include "data_common.h"

#include <linux/vm_sockets.h>

#define SIZE (3 * MIB + 77)

static void vsock_pair(int sv[2])
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK,
				       .svm_cid = VMADDR_CID_LOCAL,
				       .svm_port = VMADDR_PORT_ANY };
	socklen_t length = sizeof address;
	int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) != 0)
		skip("this kernel has no loopback of AF_VSOCK");
	SYS(listen(listener, 1));
	SYS(getsockname(listener, (struct sockaddr *)&address, &length));
	sv[0] = (int)SYS(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
	if (connect(sv[0], (struct sockaddr *)&address, length) != 0)
		skip("this kernel has no loopback of AF_VSOCK");
	sv[1] = (int)SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	close(listener);
}

/* The file is changed at DONE, while the peer has yet to read the end. */
static void snapshot(snapsend_t *ctx, int file, const unsigned char *image, size_t length)
{
	enum { HELD = 64 * 1024 };
	int sv[2];
	struct reader first, rest;
	struct snapsend_completion done;
	size_t held = length < HELD ? length : HELD;
	vsock_pair(sv);
	file_put(file, 0, image, length);
	reader_start_keep(&first, sv[1], length - held);
	uint64_t id = submit_range(ctx, sv[0], file, 0, length);
	reader_join(&first);
	bool is_done = wait_event(ctx, id, SNAPSEND_EVENT_DONE, &done, 500 * slowness());
	if (is_done)
		file_spoil(file, 0, image, length);
	reader_start_keep(&rest, sv[1], held);
	reader_join(&rest);
	if (!is_done)
		wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(done.wire_bytes, length);
	CHECK(length == held || memcmp(first.data, image, length - held) == 0);
	CHECK(memcmp(rest.data, image + length - held, held) == 0);
	file_put(file, 0, image, length);
	reader_free(&first);
	reader_free(&rest);
	close_pair(sv);
}

static void slow_peer(snapsend_t *ctx, int file)
{
	int sv[2];
	struct reader reader;
	struct snapsend_completion done;
	vsock_pair(sv);
	set_nonblock(sv[0]);
	reader_init(&reader, sv[1], SIZE);
	reader.check = true, reader.seed = 93, reader.step = 7000, reader.pause_us = 50;
	reader_go(&reader);
	wait_done(ctx, submit_range(ctx, sv[0], file, 0, SIZE), &done);
	CHECK_EQ(done.status, 0);
	reader_join(&reader);
	close_pair(sv);
}

static void peer_goes(snapsend_t *ctx, int file)
{
	int sv[2];
	struct snapsend_completion done;
	vsock_pair(sv);
	uint64_t id = submit_range(ctx, sv[0], file, 0, SIZE);
	swallow(sv[1], 100000);
	close(sv[1]);
	wait_done(ctx, id, &done);
	CHECK(done.status == -EPIPE || done.status == -ECONNRESET);
	CHECK_UEQ(done.wire_bytes, done.file_bytes);
	close(sv[0]);
}

int main(void)
{
	int sv[2];
	const char *const load[] = { "modprobe", "-q", "vsock_loopback", NULL };
	if (geteuid() == 0)
		(void)run_tool(load);
	vsock_pair(sv);
	int file = temp_file(SIZE, 93);
	unsigned char *image = image_of(0, SIZE, 93);
	snapsend_t *ctx = create_ctx();
	doing("ranges");
	every_way(ctx, sv, file, image, SIZE, NULL, NULL, NULL);
	close_pair(sv);
	doing("a slow peer");
	slow_peer(ctx, file);
	doing("snapshots");
	snapshot(ctx, file, image, 1000);
	snapshot(ctx, file, image, 300 * KIB);
	snapshot(ctx, file, image, SIZE);
	doing("a peer that goes");
	peer_goes(ctx, file);
	destroy_ctx(ctx);
	free(image);
	return 0;
}
