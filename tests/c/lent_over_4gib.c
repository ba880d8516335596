/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* ZEROCOPY with a range of more than 4 GiB: the count is exact and every mark stands where it should. What is in the page
 * cache, around the marks, is sent from there. */
#include "lent.h"
#include "over_4gib.h"

#define MARK (2 * MIB)

static const uint64_t places[] = { START, 2 * GIB - MIB - 7, 4 * GIB - MIB - 7, START + LENGTH - MARK };

int main(void)
{
	struct marks marks = { .places = places, .count = COUNT_OF(places), .length = MARK };
	static struct network net;
	int sv[2];
	lending_network(&net);
	/* On tmpfs holes take no memory. */
	marks.file = file_in(private_mounts(), 0, 0);
	write_marks(&marks);
	snapsend_t *ctx = create_ctx();
	connect_over(&net, PATH_VETH, 4 * MIB, sv);
	marks.socket = sv[1];
	struct snapsend_request request = lend_request(sv[0], marks.file, START, LENGTH);
	marks_ok(ctx, &marks, &request);
	printf("%.1f MiB from the page cache\n", (double)lent_bytes(ctx) / MIB);
	CHECK_UGE(lent_bytes(ctx), 2 * MARK);
	destroy_ctx(ctx);
	return 0;
}
