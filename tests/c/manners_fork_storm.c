/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* 1,000 operations in flight from several threads while two others fork 1,000 times: each operation of the parent
 * ends once and well, every byte comes once and in order; in each child every call on the context gives -ECHILD,
 * destroy 0, and in some of them a new context is made and used. */
#include "manners_common.h"

#define FORKS       1000
#define FORKERS     2
#define SUBMITTERS  4
#define SOCKETS     12 /* each belongs to one submitter, so the order of its operations is known */
#define IN_FLIGHT   1000
#define FILE_LENGTH (4 * MIB)
#define OPS_MAX     2000000

struct one {
	uint64_t offset, length;
};

static snapsend_t *ctx;
static int file, sv[SOCKETS][2];
static unsigned char *image;
static atomic_uchar *ends; /* of each operation, by its user_data */
static atomic_uint submitted, done_count, forks;
static atomic_uint per_socket[SOCKETS];
static atomic_bool enough;

/* The n-th operation on a socket. */
static struct one operation(int socket, unsigned n)
{
	uint64_t x = pattern_word(n, (uint64_t)socket + 1000);
	struct one one = { .length = n % 50 == 0 ? 200000 : x % 4000, .offset = (x >> 20) % (FILE_LENGTH - 200000) };
	return one;
}

static void *submitter(void *argument)
{
	int number = (int)(intptr_t)argument;
	unsigned counts[SOCKETS] = { 0 };
	for (int i = number; !atomic_load(&enough); i = (i + SUBMITTERS) % SOCKETS) {
		if (atomic_load(&submitted) - atomic_load(&done_count) >= IN_FLIGHT) {
			usleep(200);
			continue;
		}
		struct one one = operation(i, counts[i]);
		uint32_t head = counts[i]++;
		struct iovec header = { &head, sizeof head };
		struct snapsend_request request = make_request(sv[i][0], file, one.offset, one.length);
		request.header = &header, request.header_count = 1;
		request.user_data = atomic_fetch_add(&submitted, 1);
		request.flags = head % 7 == 3 ? SNAPSEND_EAGER : 0;
		CHECK_ULE(request.user_data, OPS_MAX - 1);
		submit_ok(ctx, &request);
		atomic_store(&per_socket[i], counts[i]);
	}
	return NULL;
}

/* One peer: compares what comes with the operations in their order, until the end of the stream. */
static void *peer(void *argument)
{
	int number = (int)(intptr_t)argument;
	static _Thread_local unsigned char got[200000];
	for (unsigned n = 0;; n++) {
		uint32_t head;
		struct one one = operation(number, n);
		size_t size = read_all(sv[number][1], &head, sizeof head);
		if (size == 0)
			return (void *)(uintptr_t)n;
		CHECK_UEQ(size, sizeof head);
		CHECK_UEQ(head, n);
		CHECK_UEQ(read_all(sv[number][1], got, one.length), one.length);
		CHECK(memcmp(got, image + one.offset, one.length) == 0);
		if (n % 20 == 0)
			usleep(100); /* a little slow, so that there is always something in flight */
	}
}

static void *taker(void *unused)
{
	struct snapsend_completion batch[64];
	(void)unused;
	while (!atomic_load(&enough) || atomic_load(&done_count) < atomic_load(&submitted)) {
		int n = snapsend_poll(ctx, batch, COUNT_OF(batch), 100);
		CHECK_GE(n, 0);
		for (int i = 0; i < n; i++) {
			CHECK_EQ(batch[i].status, 0);
			CHECK_UEQ(batch[i].event, SNAPSEND_EVENT_DONE);
			CHECK_UEQ(batch[i].wire_bytes, batch[i].file_bytes + 4);
			CHECK_EQ(atomic_fetch_add(&ends[batch[i].user_data], 1), 0);
		}
		atomic_fetch_add(&done_count, (unsigned)n);
	}
	return NULL;
}

static void own_context(void)
{
	unsigned char got[5000];
	int pair[2];
	struct snapsend_completion done;
	snapsend_t *own = create_ctx_with(100, 1 << 20, 0);
	unix_pair(pair);
	for (int i = 0; i < 3; i++) {
		struct snapsend_request request = make_request(pair[0], file, 77, sizeof got);
		uint64_t id;
		CHECK_EQ(snapsend_submit(own, &request, sizeof request, &id), 0);
		CHECK_EQ(snapsend_poll(own, &done, 1, WAIT_MS), 1);
		CHECK_UEQ(done.id, id);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(read_all(pair[1], got, sizeof got), sizeof got);
		CHECK(memcmp(got, image + 77, sizeof got) == 0);
	}
	off_t offset = 99;
	CHECK_EQ(snapsend_sendfile(pair[0], file, &offset, sizeof got), sizeof got);
	CHECK_UEQ(read_all(pair[1], got, sizeof got), sizeof got);
	CHECK(memcmp(got, image + 99, sizeof got) == 0);
	CHECK_EQ(snapsend_destroy(own), 0);
}

static void in_the_child(unsigned number)
{
	struct snapsend_request request = make_request(sv[0][0], file, 0, 1000);
	struct snapsend_completion done;
	struct snapsend_info info;
	struct snapsend_stats stats;
	CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, NULL), ECHILD);
	CHECK_ERR(snapsend_submit_many(ctx, &request, sizeof request, 1, NULL), ECHILD);
	CHECK_ERR(snapsend_try_send(ctx, &request, sizeof request, &done), ECHILD);
	CHECK_ERR(snapsend_send(ctx, &request, sizeof request, &done), ECHILD);
	CHECK_ERR(snapsend_poll(ctx, &done, 1, -1), ECHILD);
	CHECK_ERR(snapsend_event_fd(ctx), ECHILD);
	CHECK_ERR(snapsend_cancel(ctx, 1), ECHILD);
	CHECK_ERR(snapsend_cancel_socket(ctx, sv[0][0]), ECHILD);
	CHECK_ERR(snapsend_get_info(ctx, &info, sizeof info), ECHILD);
	CHECK_ERR(snapsend_get_stats(ctx, &stats, sizeof stats), ECHILD);
	if (number % 4 != 3)
		CHECK_EQ(snapsend_destroy(ctx), 0);
	if (number % 8 == 0)
		own_context();
}

static void *forker(void *unused)
{
	int status;
	(void)unused;
	for (unsigned n; (n = atomic_fetch_add(&forks, 1)) < FORKS;) {
		pid_t pid = (pid_t)SYS(fork());
		if (pid == 0) {
			time_limit(30);
			in_the_child(n);
			if (n % 2)
				_exit(0);
			exit(0);
		}
		SYS(waitpid(pid, &status, 0));
		if (!ended_well(status))
			fail("the child of fork %u: status %x", n, (unsigned)status);
	}
	return NULL;
}

static void start(pthread_t *threads, int count, void *(*body)(void *))
{
	for (int i = 0; i < count; i++)
		PTHREAD(pthread_create(&threads[i], NULL, body, (void *)(intptr_t)i));
}

static void join(pthread_t *threads, int count)
{
	for (int i = 0; i < count; i++)
		PTHREAD(pthread_join(threads[i], NULL));
}

int main(void)
{
	pthread_t submitters[SUBMITTERS], peers[SOCKETS], forkers[FORKERS], poller[1];
	time_limit(110);
#ifdef __SANITIZE_ADDRESS__
	skip("the sanitizer's allocator does not survive fork() in a process of several threads");
#endif
	ends = calloc(OPS_MAX, 1);
	CHECK(ends != NULL);
	file = temp_file(FILE_LENGTH, 86);
	image = image_of(0, FILE_LENGTH, 86);
	for (int i = 0; i < SOCKETS; i++)
		pair_sized(i % 3 ? AF_UNIX : AF_INET, sv[i], 0, 0);
	ctx = create_ctx();
	start(poller, 1, taker);
	start(submitters, SUBMITTERS, submitter);
	for (int i = 0; i < 5000 && atomic_load(&submitted) < IN_FLIGHT; i++)
		sleep_ms(1);
	CHECK_GE(atomic_load(&submitted), IN_FLIGHT);
	start(peers, SOCKETS, peer);
	int64_t begin = now_ms();
	start(forkers, FORKERS, forker);
	join(forkers, FORKERS);
	unsigned meanwhile = atomic_load(&done_count);
	printf("%d forks in %d ms, %u operations meanwhile\n", FORKS, (int)(now_ms() - begin), meanwhile);
	CHECK_GE(meanwhile, IN_FLIGHT);
	doing("the end");
	atomic_store(&enough, true);
	join(submitters, SUBMITTERS);
	join(poller, 1);
	CHECK_UEQ(atomic_load(&done_count), atomic_load(&submitted));
	for (unsigned i = 0; i < atomic_load(&submitted); i++)
		CHECK_EQ(atomic_load(&ends[i]), 1);
	CHECK_EQ(snapsend_poll(ctx, &(struct snapsend_completion){ 0 }, 1, 20), 0);
	for (int i = 0; i < SOCKETS; i++) {
		void *count;
		SYS(shutdown(sv[i][0], SHUT_WR));
		PTHREAD(pthread_join(peers[i], &count));
		CHECK_UEQ((uintptr_t)count, atomic_load(&per_socket[i]));
	}
	destroy_ctx(ctx);
	return 0;
}
