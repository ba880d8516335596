/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* More than 4 GiB in one operation: the count is exact and every mark stands where it should. */
#include "over_4gib.h"

#define MARK 4096

static const uint64_t places[] = {
	START, MIB - 7, 2 * GIB - 2048, 4 * GIB - 2048, 4 * GIB + MIB, START + LENGTH - MARK
};

int main(void)
{
	struct marks marks = { .places = places, .count = COUNT_OF(places), .length = MARK };
	snapsend_t *ctx = create_ctx();
	int sv[2];
	marks.file = temp_file(0, 0);
	write_marks(&marks);
	tcp_pair(sv);
	marks.socket = sv[1];
	struct snapsend_request request = make_request(sv[0], marks.file, START, LENGTH);
	marks_ok(ctx, &marks, &request);
	destroy_ctx(ctx);
	return 0;
}
