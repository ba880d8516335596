/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* snapsend_send() ignores ZEROCOPY: it returns when everything is in the socket, and does not wait for a peer that
 * reads late. */
#include "../torture/network.h"

enum { LENGTH = 512 * KIB }; /* more than is tried on the calling thread */

int main(void)
{
	static struct network net;
	struct snapsend_completion done;
	struct snapsend_stats stats;
	int sv[2], size = 2 * LENGTH, file = temp_file(LENGTH, 72);
	unsigned char *got = malloc(LENGTH), *image = image_of(0, LENGTH, 72);

	CHECK(got != NULL);
	zero_copy_network(&net);
	snapsend_t *ctx = create_ctx();
	connect_over(&net, PATH_VETH, 16 * KIB, sv);
	SYS(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size));
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	request.flags = SNAPSEND_ZEROCOPY;
	request.timeout_ms = WAIT_MS;
	CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &done), 0);
	CHECK_EQ(done.status, 0);
	file_spoil(file, 0, image, LENGTH);
	CHECK_UEQ(read_all(sv[1], got, LENGTH), LENGTH);
	CHECK_UEQ(count_different(got, image, LENGTH), 0);
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	CHECK_UEQ(stats.bytes_page_cache, 0);
	CHECK_UEQ(stats.connections_reset, 0);
	close_pair(sv);
	destroy_ctx(ctx);
	free(image);
	free(got);
	close(file);
	return 0;
}
