/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Blocking and non-blocking sockets alike, full ones too; O_NONBLOCK and the options stay as they were, and
 * are right at every moment in between. */
#include "data_common.h"

#define LENGTH (2 * MIB)

static const struct {
	int level, option;
} options[] = {
	{ IPPROTO_TCP, TCP_NODELAY }, { IPPROTO_TCP, TCP_CORK },   { SOL_SOCKET, SO_ZEROCOPY },
	{ SOL_SOCKET, SO_LINGER },    { SOL_SOCKET, SO_SNDTIMEO }, { SOL_SOCKET, SO_KEEPALIVE },
	{ SOL_SOCKET, SO_SNDLOWAT },  { SOL_SOCKET, SO_PRIORITY },
};

struct state {
	int sv[2], flags, descriptor_flags;
	unsigned char values[COUNT_OF(options)][64];
};

static void look(struct state *s)
{
	memset(s->values, 0, sizeof s->values);
	s->flags = (int)SYS(fcntl(s->sv[0], F_GETFL));
	s->descriptor_flags = (int)SYS(fcntl(s->sv[0], F_GETFD));
	for (size_t i = 0; i < COUNT_OF(options); i++) {
		socklen_t length = sizeof s->values[i];
		(void)getsockopt(s->sv[0], options[i].level, options[i].option, s->values[i], &length);
	}
}

static void same(void *argument)
{
	struct state *before = argument, now = *before;
	look(&now);
	CHECK_EQ(now.flags, before->flags);
	CHECK_EQ(now.descriptor_flags, before->descriptor_flags);
	CHECK(memcmp(now.values, before->values, sizeof now.values) == 0);
}

/* Stuck on a peer that does not read; nothing may have been changed for the time of waiting either. */
static void while_it_waits(snapsend_t *ctx, struct state *s, int file)
{
	struct snapsend_completion done;
	struct reader reader;
	uint64_t before = stuff_socket(s->sv[0]);
	uint64_t id = submit_range(ctx, s->sv[0], file, 0, LENGTH);
	for (int i = 0; i < 20; i++) {
		same(s);
		sleep_ms(2);
	}
	swallow(s->sv[1], before);
	reader_start_check(&reader, s->sv[1], LENGTH, 0, 50);
	wait_done(ctx, id, &done);
	same(s);
	CHECK_EQ(done.status, 0);
	reader_join(&reader);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	struct state s;
	int file = temp_file(LENGTH, 50);
	unsigned char *image = image_of(0, LENGTH, 50);
	for (int i = 0; i < 2 * KINDS; i++) {
		if (!pair_of_kind((enum kind)(i % KINDS), s.sv, 0))
			continue;
		if (i >= KINDS) {
			set_nonblock(s.sv[0]);
			set_nonblock(file);
		}
		look(&s);
		CHECK_EQ((s.flags & O_NONBLOCK) != 0, i >= KINDS);
		every_way(ctx, s.sv, file, image, LENGTH, NULL, same, &s);
		while_it_waits(ctx, &s, file);
		close_pair(s.sv);
	}
	free(image);
	destroy_ctx(ctx);
	return 0;
}
