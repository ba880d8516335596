/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Ranges that begin at or behind the end of the file. */
#include "common.h"

int main(void)
{
	int sv[2];
	snapsend_t *ctx = create_ctx();
	struct snapsend_completion completion;
	unix_pair(sv);
	int file = temp_file(100, 1);
	int empty = temp_file(0, 1);
	struct iovec head = { .iov_base = "head", .iov_len = 4 };
	const struct {
		int file;
		uint64_t offset, length;
		uint32_t flags;
		int status;
		uint64_t wire; /* with the header */
	} cases[] = {
		{ file, 100, 1, 0, -ENODATA, 0 }, /* known before the header goes out: nothing does */
		{ file, 101, 1, 0, -ENODATA, 0 },
		{ file, 1000000, 5000000, 0, -ENODATA, 0 },
		{ file, 1000000, 5000, SNAPSEND_EXACT, -ENODATA, 0 },
		{ file, 99, 2, SNAPSEND_EXACT, -ENODATA, 0 },
		{ empty, 0, 1, 0, -ENODATA, 0 },
		{ file, 100, SNAPSEND_TO_EOF, 0, 0, 4 },
		{ file, 101, SNAPSEND_TO_EOF, 0, 0, 4 },
		{ file, INT64_MAX, SNAPSEND_TO_EOF, 0, 0, 4 },
		{ file, 1000, SNAPSEND_TO_EOF, SNAPSEND_EAGER, 0, 4 },
		{ file, 1000, SNAPSEND_TO_EOF, SNAPSEND_EXACT, 0, 4 },
		{ empty, 0, SNAPSEND_TO_EOF, 0, 0, 4 },
		{ file, 100, 0, 0, 0, 4 },
		{ file, 5000, 0, 0, 0, 4 },
		{ file, 100, 50, SNAPSEND_ZERO_PAD, 0, 54 },
		{ file, 100000, 5000, SNAPSEND_ZERO_PAD, 0, 5004 },
		{ empty, 0, 10, SNAPSEND_ZERO_PAD, 0, 14 },
	};

	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		for (int way = 0; way < 3; way++) {
			struct snapsend_request request =
				make_request(sv[0], cases[i].file, cases[i].offset, cases[i].length);
			unsigned char got[8192];
			request.flags = cases[i].flags;
			request.header = &head;
			request.header_count = 1;
			printf("case %zu way %d\n", i, way);
			if (way == 0)
				wait_done(ctx, submit_ok(ctx, &request), &completion);
			else if (way == 1)
				CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
			else if (snapsend_try_send(ctx, &request, sizeof request, &completion) == 0)
				wait_done(ctx, completion.id, &completion);
			CHECK_EQ(completion.status, cases[i].status);
			CHECK_UEQ(completion.wire_bytes, cases[i].wire);
			CHECK_UEQ(completion.file_bytes, cases[i].wire < 4 ? 0 : cases[i].wire - 4);
			CHECK_EQ(!!(completion.flags & SNAPSEND_WAS_PADDED), cases[i].wire > 4);
			CHECK_EQ(read_all(sv[1], got, cases[i].wire), cases[i].wire);
			for (size_t k = 4; k < cases[i].wire; k++)
				CHECK_EQ(got[k], 0);
		}
	}
	CHECK_UEQ(drain(sv[1], 20), 0);
	destroy_ctx(ctx);
	return 0;
}
