/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The position and the flags of the file's descriptor are not used and not changed, at any time. */
#include "data_common.h"

#define LENGTH (2 * MIB)

struct state {
	int file;
	off_t position;
	int flags;
};

static void prepare(void *argument)
{
	struct state *s = argument;
	s->position = (s->position * 7 + 1013) % (off_t)(2 * LENGTH); /* past the end, too */
	SYS(lseek(s->file, s->position, SEEK_SET));
	s->flags = (int)SYS(fcntl(s->file, F_GETFL));
}

static void check(void *argument)
{
	struct state *s = argument;
	CHECK_EQ(lseek(s->file, 0, SEEK_CUR), s->position);
	CHECK_EQ(fcntl(s->file, F_GETFL), s->flags);
	CHECK_EQ(fcntl(s->file, F_GETFD), FD_CLOEXEC);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	struct state s = { .file = temp_file(LENGTH, 51) };
	unsigned char *image = image_of(0, LENGTH, 51);
	int sv[2];
	for (int i = 0; i < 2; i++) {
		tcp_pair(sv);
		every_way(ctx, sv, s.file, image, LENGTH, prepare, check, &s);
		transfer_ok(ctx, sv, make_request(-1, s.file, 9, SNAPSEND_TO_EOF), image + 9, LENGTH - 9);
		check(&s);
		SYS(fcntl(s.file, F_SETFL, O_APPEND | O_NOATIME));
		close_pair(sv);
	}
	/* In the middle of one. */
	tcp_pair(sv);
	stuff_socket(sv[0]);
	prepare(&s);
	uint64_t id = submit_range(ctx, sv[0], s.file, 0, LENGTH);
	for (int i = 0; i < 20; i++) {
		check(&s);
		sleep_ms(1);
	}
	CHECK_EQ(snapsend_cancel(ctx, id), 0);
	wait_done(ctx, id, NULL);
	check(&s);
	free(image);
	destroy_ctx(ctx);
	return 0;
}
