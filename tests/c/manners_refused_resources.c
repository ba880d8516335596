/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* No thread more can be started, or no memory more be mapped: create says so and leaves nothing behind; in a context
 * that exists, operations go on as well as they can: right, or refused, or ended with -ENOMEM, but ended. */
#include "manners_common.h"

#define OPS    30
#define LENGTH (2 * MIB + 9)

struct variant {
	const char *name;
	int error; /* of create */
	struct refusal refusals[3];
	bool must_work; /* every operation */
};

/* What a lower half of an mmap length has from 256 KiB on: not the small ones of the C library. */
#define LARGE 0xfffc0000u

static const struct variant variants[] = {
	{ "no threads", EAGAIN, { { SYS_clone, EAGAIN, ALWAYS, 0, 0 }, { SYS_clone3, EAGAIN, ALWAYS, 0, 0 } }, true },
	{ "no large mappings", 0, { { SYS_mmap, ENOMEM, IF_ANY_BIT, 1, LARGE } }, false },
};

/* The peer: a process of its own, as no thread can be started any more. Compares operation by operation. */
static void peer(int from, int verdicts)
{
	unsigned char *image = image_of(0, LENGTH, 106), *got = malloc(LENGTH);
	uint64_t length;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(verdicts, &length, sizeof length) == sizeof length) { /* so many come next */
		CHECK_UEQ(read_all(from, got, length), length);
		if (memcmp(got, image, length) != 0)
			fail("wrong bytes");
		CHECK_EQ(write(verdicts, &length, sizeof length), sizeof length);
	}
	_exit(0);
}

static void without(const void *argument)
{
	const struct variant *variant = argument;
	struct snapsend_completion done;
	int sv[2], verdicts[2], file = temp_file(LENGTH, 106), wrong = 0, refused = 0, status;
	size_t count = variant->refusals[1].error != 0 ? 2 : 1;
	SYS(fdatasync(file));
	pair_of_kind(UNIX, sv, 8 * MIB); /* room for an operation, so that the peer can come after */
	unix_pair(verdicts);
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0) {
		close(verdicts[0]);
		peer(sv[1], verdicts[1]);
	}
	close(verdicts[1]);
	snapsend_t *ctx = create_ctx();
	sleep_ms(20);
	if (refuse_with_flags(variant->refusals, count, SECCOMP_FILTER_FLAG_TSYNC) != 0)
		skip("no filters for other threads here");

	for (int i = 0; i < OPS; i++) {
		static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
		struct snapsend_request request = make_request(sv[0], file, 0, i % 5 == 4 ? 3000 : LENGTH);
		request.flags = flags[i % 3];
		if (i % 2)
			posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
		uint64_t id;
		int result = snapsend_submit(ctx, &request, sizeof request, &id);
		if (result != 0) {
			CHECK(!variant->must_work && (result == -ENOMEM || result == -EAGAIN));
			refused++;
			continue;
		}
		wait_done_ms(ctx, id, &done, 8000);
		if (done.status != 0) {
			if (variant->must_work || done.status != -ENOMEM || done.wire_bytes != 0)
				fail("operation %d: status %d (%s), %" PRIu64 " bytes sent", i, done.status,
				     strerror(-done.status), done.wire_bytes);
			wrong++;
			continue;
		}
		uint64_t length = request.length;
		CHECK_EQ(write(verdicts[0], &length, sizeof length), sizeof length);
		CHECK_UEQ(read_all(verdicts[0], &length, sizeof length), sizeof length);
	}
	printf("%s: %d refused, %d ended with -ENOMEM, %d right\n", variant->name, refused, wrong,
	       OPS - refused - wrong);
	if (variant->error != 0) {
		snapsend_t *other = NULL;
		CHECK_EQ(snapsend_create(NULL, 0, &other), -variant->error);
		CHECK(other == NULL);
	}
	destroy_ctx(ctx);
	if (variant->error != 0)
		refused_cleanly(SNAPSEND_ENGINE_AUTO, variant->error);
	close(verdicts[0]);
	SYS(waitpid(pid, &status, 0));
	CHECK(ended_well(status));
}

int main(void)
{
	for (size_t i = 0; i < COUNT_OF(variants); i++)
		in_child(variants[i].name, without, &variants[i]);
	return parts_done();
}
