/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* 100,000 operations while a second thread closes the file's number and gives it to something else all the time: to
 * another file, a pipe, a socket, a directory. Each brings bytes of the one file or of the other, whole, or -EBADF
 * (or what submit says of such a descriptor); pipe and socket are never read. Here by snapsend_submit alone. */
#include "manners_common.h"

#ifndef INLINE_TOO
#define INLINE_TOO false /* see manners_reuse_file_inline.c */
#endif

#define OPS       100000
#define WINDOW    48
#define NUMBER    900
#define SIZE_A    700000
#define SIZE_B    (INLINE_TOO ? SIZE_A : 520001) /* TO_EOF tells which */
#define BUFFER    (64 * MIB)
#define NOT_FILES (INLINE_TOO ? 3 : 4)

struct op {
	uint64_t id, offset, length;
	struct snapsend_completion done;
	bool ended;
};

static int things[6]; /* files A and B, then what is no file */
static atomic_bool stop;
static atomic_uint changes;
static unsigned char *images[2], *stream;
static struct op ops[OPS];
static int sv[2], outcomes[4];
static size_t have, used;

static void *change(void *argument)
{
	unsigned seed = 1;
	(void)argument;
	for (int i = 0; !atomic_load(&stop); i++) {
		unsigned dice = (unsigned)rand_r(&seed) % 32;
		unsigned thing = dice < 8 ? 2 + dice % NOT_FILES : (unsigned)i % 2;
		int result = dice == 0 ? close(NUMBER) : dup2(things[thing], NUMBER);
		CHECK(result >= 0 || dice == 0);
		atomic_fetch_add(&changes, 1);
		for (unsigned spin = dice % 4 == 1 ? 2000 : (unsigned)rand_r(&seed) % 300; spin > 0; spin--)
			atomic_signal_fence(memory_order_seq_cst);
	}
	return NULL;
}

static uint64_t size_of(int which)
{
	return which == 0 ? SIZE_A : SIZE_B;
}

/* The bytes that an operation has put into the stream. */
static void check(const struct op *op)
{
	const unsigned char *got = stream + used;
	uint64_t length = op->done.wire_bytes;
	int status = op->done.status, from = length > 0 && got[0] == images[0][op->offset] ? 0 : 1;
	if (status != 0) {
		if (status != -EBADF && status != -EINVAL && status != -EISDIR && !(INLINE_TOO && status == -ESPIPE))
			fail("operation of %" PRIu64 " bytes: status %d (%s), %" PRIu64 " sent", op->length, status,
			     strerror(-status), length);
		CHECK_UEQ(length, 0);
		outcomes[2]++;
		return;
	}
	if (memcmp(got, images[from] + op->offset, length) != 0)
		fail("%" PRIu64 " bytes at %" PRIu64 ": neither the one file's nor the other's", length, op->offset);
	uint64_t whole = op->length != SNAPSEND_TO_EOF ? op->length : size_of(from) - op->offset;
	if (length != whole)
		fail("status 0 after %" PRIu64 " bytes of %" PRIu64 " (file %d%s)", length, whole, from,
		     op->done.flags & SNAPSEND_WAS_INLINE ? ", inline" : "");
	used += length;
	outcomes[from]++;
}

static void take(void)
{
	ssize_t n = recv(sv[1], stream + have, BUFFER - have, MSG_DONTWAIT);
	if (n > 0)
		have += (size_t)n;
}

/* True: it was accepted. */
static bool start(snapsend_t *ctx, struct op *op, int number)
{
	struct snapsend_completion done;
	op->length = number % 40 == 0 ? 150000 + (uint64_t)rand() % 100000 : 1 + (uint64_t)rand() % 3000;
	op->offset = (uint64_t)rand() % (SIZE_B - 260000);
	if (number % 16 == 5)
		op->offset = SIZE_B - 1 - (uint64_t)rand() % 20000, op->length = SNAPSEND_TO_EOF;
	struct snapsend_request request = make_request(sv[0], NUMBER, op->offset, op->length);
	request.user_data = (uint64_t)number;
	request.flags = number % 11 == 3 ? SNAPSEND_EAGER : number % 11 == 4 ? SNAPSEND_EXACT : 0;
	int result;
	if (!INLINE_TOO || number % 3 != 0) {
		result = snapsend_submit(ctx, &request, sizeof request, &op->id);
	} else {
		result = snapsend_try_send(ctx, &request, sizeof request, &done);
		if (result == 1)
			op->done = done, op->ended = true;
	}
	if (result >= 0)
		return true;
	if (result != -EBADF && result != -EINVAL && result != -EISDIR)
		fail("submit: %d (%s)", result, strerror(-result));
	outcomes[3]++;
	return false;
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	pthread_t thread;
	struct snapsend_completion batch[WINDOW];
	int started = 0, ended = 0, accepted = 0, pipe_fd[2], pair[2];
	time_limit(110);
	for (int i = 0; i < 2; i++) {
		images[i] = image_of(0, SIZE_A, 91);
		for (size_t at = 0; i == 1 && at < SIZE_A; at++)
			images[1][at] = (unsigned char)~images[1][at];
		things[i] = temp_file(0, 0);
		file_put(things[i], 0, images[i], size_of(i));
	}
	SYS(pipe2(pipe_fd, O_CLOEXEC | O_NONBLOCK));
	unix_pair(pair);
	CHECK_EQ(write(pipe_fd[1], WATCHED_MARK, 4), 4);
	CHECK_EQ(send(pair[1], WATCHED_MARK, 4, 0), 4);
	things[2] = pipe_fd[0];
	things[3] = pair[0];
	things[4] = (int)SYS(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	things[5] = (int)SYS(open("/dev/zero", O_RDONLY | O_CLOEXEC));
	stream = malloc(BUFFER);
	CHECK(stream != NULL);
	pair_of_kind(UNIX, sv, 1 << 20);
	SYS(dup2(things[0], NUMBER));
	PTHREAD(pthread_create(&thread, NULL, change, NULL));
	srand(91);
	for (int checked = 0; checked < OPS || atomic_load(&changes) < OPS;) {
		while (started < OPS && accepted - ended < WINDOW) {
			if (!start(ctx, &ops[started], started))
				continue; /* again: the other thread may have lost its processor at a bad moment */
			ended += ops[started++].ended;
			accepted++;
		}
		int n = snapsend_poll(ctx, batch, WINDOW, 0);
		CHECK_GE(n, 0);
		for (int i = 0; i < n; i++) {
			CHECK_ULE(batch[i].user_data, OPS - 1);
			struct op *op = &ops[batch[i].user_data];
			CHECK(!op->ended);
			op->done = batch[i], op->ended = true;
			ended++;
		}
		take();
		while (checked < started && ops[checked].ended && have - used >= ops[checked].done.wire_bytes)
			check(&ops[checked++]);
		if (used > BUFFER / 2) {
			memmove(stream, stream + used, have - used);
			have -= used, used = 0;
		}
	}
	atomic_store(&stop, true);
	PTHREAD(pthread_join(thread, NULL));
	expect_nothing(ctx, 20);
	CHECK_UEQ(have, used);
	CHECK_EQ(unread(sv[1]), 0);
	printf("%u changes; %d of the one, %d of the other, %d ended with an error, %d refused\n",
	       atomic_load(&changes), outcomes[0], outcomes[1], outcomes[2], outcomes[3]);
	CHECK(outcomes[0] > 1000 && outcomes[1] > 1000);
	watched_mark(pipe_fd[0]);
	watched_mark(pair[0]);
	destroy_ctx(ctx);
	return 0;
}
