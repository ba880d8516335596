/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SCTP, one-to-one: SOCK_STREAM by its type, but of messages. Either every call refuses it with an error that says
 * so, or what goes through arrives whole. */
#include "data_common.h"

#define SIZE (2 * MIB + 77)

static void sctp_pair(int sv[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_SCTP);
	if (listener < 0)
		skip("this kernel has no SCTP");
	SYS(bind(listener, (struct sockaddr *)&address, length));
	SYS(listen(listener, 1));
	SYS(getsockname(listener, (struct sockaddr *)&address, &length));
	sv[0] = (int)SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_SCTP));
	SYS(connect(sv[0], (struct sockaddr *)&address, length));
	sv[1] = (int)SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	close(listener);
}

int main(void)
{
	time_limit(20);
	int sv[2], file = temp_file(SIZE, 92);
	unsigned char *image = image_of(0, SIZE, 92);
	sctp_pair(sv);
	snapsend_t *ctx = create_ctx();
	struct snapsend_request request = make_request(sv[0], file, 0, SIZE);
	uint64_t id;
	if (snapsend_submit(ctx, &request, sizeof request, &id) < 0) {
		CHECK_EQ(rejected(ctx, &request), ESOCKTNOSUPPORT);
	} else {
		struct reader reader;
		struct snapsend_completion done;
		reader_start_check(&reader, sv[1], SIZE, 0, 92);
		wait_done(ctx, id, &done);
		CHECK_EQ(done.status, 0);
		reader_join(&reader);
		every_way(ctx, sv, file, image, SIZE, NULL, NULL, NULL);
	}
	destroy_ctx(ctx);
	free(image);
	return 0;
}
