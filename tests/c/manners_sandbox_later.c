/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A host that forbids itself io_uring when contexts exist already: what is in flight ends, once each, calls say that
 * the context is beyond use, nothing waits for ever, and a new context works. */
#include "manners_common.h"

#define LENGTH (4 * MIB)
#define OPS    24

static void later(const void *argument)
{
	const struct refusal refusals[] = {
		{ SYS_io_uring_setup, *(const int *)argument, ALWAYS, 0, 0 },
		{ SYS_io_uring_enter, *(const int *)argument, ALWAYS, 0, 0 },
		{ SYS_io_uring_register, *(const int *)argument, ALWAYS, 0, 0 },
	};
	struct snapsend_completion done;
	int file = temp_file(LENGTH, 85), sv[OPS][2];
	bool ended[OPS] = { false };
	snapsend_t *ctx = create_ctx(), *idle = create_ctx();
	for (int i = 0; i < OPS; i++) {
		pair_of_kind(i % 2 ? TCP4 : UNIX, sv[i], 0);
		struct snapsend_request request = make_request(sv[i][0], file, 0, LENGTH);
		request.user_data = (uint64_t)i;
		request.flags = i % 3 == 1 ? SNAPSEND_EAGER : 0;
		submit_ok(ctx, &request);
	}
	sleep_ms(50); /* peers that do not read: they are all waiting */
	if (refuse_with_flags(refusals, COUNT_OF(refusals), SECCOMP_FILTER_FLAG_TSYNC) != 0)
		skip("no filters for other threads here");
	for (int i = 0; i < OPS; i += 2) { /* something to do for half of them */
		set_nonblock(sv[i][1]);
		drain(sv[i][1], 0);
	}

	doing("in flight when it is forbidden");
	bool uring = info_of(ctx).engine == SNAPSEND_ENGINE_URING;
	for (int taken = 0; taken < OPS;) {
		int n = snapsend_poll(ctx, &done, 1, uring ? 5000 : 1);
		if (n == 0) { /* portable: the peers have to read on; io_uring must have ended all by now */
			if (uring)
				fail("%d of %d have ended", taken, OPS);
			for (int i = 0; i < OPS; i++) {
				set_nonblock(sv[i][1]);
				drain(sv[i][1], 0);
			}
			continue;
		}
		CHECK_EQ(n, 1);
		CHECK(!ended[done.user_data]);
		ended[done.user_data] = true;
		taken++;
		CHECK(done.status == 0 || (uring && done.status < 0));
	}
	struct snapsend_request request = make_request(sv[0][0], file, 0, 1000);
	if (uring) {
		CHECK_LT(snapsend_poll(ctx, &done, 1, 5000), 0);
		CHECK_LT(snapsend_submit(ctx, &request, sizeof request, NULL), 0);
	}
	doing("idle when it is forbidden");
	int pair[2];
	unix_pair(pair);
	request.socket_fd = pair[0];
	request.length = LENGTH;
	if (snapsend_submit(idle, &request, sizeof request, NULL) == 0 && uring)
		CHECK_NE(snapsend_poll(idle, &done, 1, 5000), 0);

	doing("destroy");
	int64_t begin = now_ms();
	destroy_ctx(ctx);
	destroy_ctx(idle);
	CHECK_LE(now_ms() - begin, 3000);
	engine_left_to_library();
	doing("a new context");
	ctx = create_ctx();
	CHECK_UEQ(info_of(ctx).engine, SNAPSEND_ENGINE_PORTABLE);
	transfers(ctx);
	destroy_ctx(ctx);
}

int main(void)
{
	static const int errors[] = { EPERM, ENOSYS };
	for (size_t i = 0; i < COUNT_OF(errors); i++)
		in_child(strerror(errors[i]), later, &errors[i]);
	return parts_done();
}
