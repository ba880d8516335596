/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SCTP, one-to-one: SOCK_STREAM by its type, but of messages. Either every call refuses it with an error that says
 * so, or what goes through arrives whole. */
#include "data_common.h"

#define SIZE (2 * MIB + 77)

int main(void)
{
	time_limit(20);
	int sv[2], file = temp_file(SIZE, 92);
	unsigned char *image = image_of(0, SIZE, 92);
	if (!pair_of_protocol(IPPROTO_SCTP, sv))
		skip("this kernel has no SCTP");
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
