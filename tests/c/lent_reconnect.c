/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A registered socket whose connection was reset, to take lent pages from it, and that the caller connects again: it is
 * used as before, and its new connection is reset, too, if that is needed. */
#include "lent.h"

#define LENGTH (256 * KIB)

static struct network net;

/* Connects the socket to a listener at the far end; returns the peer. */
static int connect_again(int socket_)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof address;
	int size = 16 * KIB;
	enter(net.far);
	int listener = (int)SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	enter(net.near);
	SYS(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
	inet_pton(AF_INET, FAR_ADDRESS, &address.sin_addr);
	SYS(bind(listener, (struct sockaddr *)&address, sizeof address));
	SYS(listen(listener, 1));
	SYS(getsockname(listener, (struct sockaddr *)&address, &length));
	SYS(connect(socket_, (struct sockaddr *)&address, sizeof address));
	int peer = (int)SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	close(listener);
	return peer;
}

static void check_reset(snapsend_t *ctx, const int sv[2], const struct snapsend_request *request, int file,
			const unsigned char *image)
{
	static unsigned char got[LENGTH + 1];
	struct snapsend_completion done;
	int error;
	uint64_t id = submit_ok(ctx, request);
	while (in_transit(sv) < LENGTH)
		sleep_ms(1);
	CHECK_EQ(snapsend_cancel(ctx, id), 0);
	int64_t began = now_ms();
	wait_done(ctx, id, &done);
	CHECK_LT(now_ms() - began, 3000 * slowness());
	CHECK_EQ(done.status, -ECANCELED);
	file_spoil(file, 0, image, LENGTH);
	size_t n = read_to_end(sv[1], got, sizeof got, &error);
	CHECK_UEQ(count_different(got, image, n), 0);
	CHECK_EQ(error, ECONNRESET);
	file_put(file, 0, image, LENGTH);
	close(sv[1]);
}

int main(void)
{
	int sv[2];
	lending_network(&net);
	snapsend_t *ctx = create_ctx();
	int file = temp_file(LENGTH, 101);
	unsigned char *image = image_of(0, LENGTH, 101);
	warm(file, LENGTH);
	acquaint(ctx, file);
	connect_over(&net, PATH_VETH, 16 * KIB, sv);
	buffer_of(sv[0], MIB);
	struct snapsend_request request = registered(ctx, lend_request(sv[0], file, 0, LENGTH));
	check_reset(ctx, sv, &request, file, image);
	sv[1] = connect_again(sv[0]);
	check_reset(ctx, sv, &request, file, image);
	sv[1] = connect_again(sv[0]);
	request.flags |= SNAPSEND_NOTIFY_SENT;
	struct snapsend_completion done;
	uint64_t id = submit_ok(ctx, &request);
	swallow(sv[1], LENGTH);
	wait_done(ctx, id, &done);
	CHECK_EQ(done.status, 0);
	CHECK_UEQ(stats_of(ctx).connections_reset, 2);
	unregister(ctx, &request);
	destroy_ctx(ctx);
	close_pair(sv);
	free(image);
	return 0;
}
