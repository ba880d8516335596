/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* TLS in the kernel (TCP_ULP "tls") with fixed keys on both ends: what goes through the library, snapsend_sendfile
 * and the shim arrives once and whole, without waiting for a later record; zero-copy is refused, and copied. */
#include "data_common.h"

#include <linux/tls.h>

#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define SIZE (3 * MIB + 77)
#define SEED 91

static void tls_end(int fd, int direction)
{
	struct tls12_crypto_info_aes_gcm_128 keys;
	memset(&keys, 0, sizeof keys);
	keys.info.version = TLS_1_3_VERSION;
	keys.info.cipher_type = TLS_CIPHER_AES_GCM_128;
	memset(keys.key, 'k', sizeof keys.key);
	memset(keys.iv, 'i', sizeof keys.iv);
	memset(keys.salt, 's', sizeof keys.salt);
	if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") != 0)
		skip("this kernel has no TLS");
	SYS(setsockopt(fd, SOL_TLS, direction, &keys, sizeof keys));
}

static void tls_pair(int sv[2], int sndbuf, int rcvbuf)
{
	CHECK(pair_sized(AF_INET, sv, sndbuf, rcvbuf));
	tls_end(sv[0], TLS_TX);
	tls_end(sv[1], TLS_RX);
}

/* All that is said to be in the stream must come without anything further being sent. */
static void arrives(struct reader *reader, uint64_t length)
{
	int64_t end = now_ms() + 3000 * slowness();
	while (atomic_load(&reader->got) < length && now_ms() < end)
		sleep_ms(2);
	if (atomic_load(&reader->got) != length)
		fail("%" PRIu64 " of %" PRIu64 " bytes have arrived, and nothing more comes", atomic_load(&reader->got),
		     length);
}

static void ends_with(struct reader *reader, int sv[2], uint64_t length)
{
	arrives(reader, length);
	SYS(shutdown(sv[0], SHUT_WR));
	CHECK_UEQ(reader_join(reader), length);
	close_pair(sv);
}

/* Small and large, by each call, with each flag, warm and cold; none of it zero-copy. */
static void ranges(snapsend_t *ctx, int file, const unsigned char *image)
{
	int sv[2];
	tls_pair(sv, 0, 0);
	every_way(ctx, sv, file, image, SIZE, NULL, NULL, NULL);
	for (int i = 0; i < 4; i++) {
		struct snapsend_completion done =
			transfer_ok(ctx, sv, make_request(-1, file, 1, SIZE - 1), image + 1, SIZE - 1);
		CHECK(!(done.flags & SNAPSEND_WAS_ZEROCOPY));
	}
	close_pair(sv);
}

/* Many to a slow peer with little room: pieces of records, and refusals, between which nothing is sent twice. */
static void slow_peer(snapsend_t *ctx, int file)
{
	enum { OPS = 12 };
	int sv[2];
	uint64_t ids[OPS];
	struct reader reader;
	char mark = '|';
	struct iovec wrap = { &mark, 1 };
	tls_pair(sv, 16384, 16384);
	set_nonblock(sv[0]);
	reader_init(&reader, sv[1], UINT64_MAX);
	reader.keep = true, reader.step = 5000, reader.pause_us = 50;
	reader_go(&reader);
	for (int i = 0; i < OPS; i++) {
		struct snapsend_request request = make_request(sv[0], file, (uint64_t)i, 70001);
		request.header = &wrap, request.header_count = 1;
		request.flags = i % 3 == 2 ? 0 : SNAPSEND_MORE;
		ids[i] = submit_ok(ctx, &request);
	}
	for (int i = 0; i < OPS; i++) {
		struct snapsend_completion done;
		wait_done(ctx, ids[i], &done);
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.wire_bytes, 70002);
	}
	ends_with(&reader, sv, OPS * 70002);
	for (int i = 0; i < OPS; i++) {
		CHECK_EQ(reader.data[i * 70002], '|');
		CHECK_UEQ(pattern_bad(reader.data + i * 70002 + 1, (uint64_t)i, 70001, SEED), SIZE_MAX);
	}
	reader_free(&reader);
}

/* What is cut off part-way, by the file's end or by a cancel: all of wire_bytes arrives, no byte more. */
static void cut_off(snapsend_t *ctx, const unsigned char *image, bool cancel, int round)
{
	int sv[2], file = temp_file(SIZE, SEED);
	struct reader reader;
	struct snapsend_completion done;
	size_t cut = (size_t)rand() % SIZE;
	tls_pair(sv, 65536, 65536);
	reader_start_slow(&reader, sv[1], 200);
	if (round % 2)
		drop_cache(file);
	uint64_t id = submit_range(ctx, sv[0], file, 0, SIZE);
	usleep((useconds_t)(rand() % 20000));
	if (cancel)
		(void)snapsend_cancel(ctx, id);
	else
		SYS(ftruncate(file, (off_t)cut));
	wait_done(ctx, id, &done);
	CHECK(done.status == 0 || done.status == (cancel ? -ECANCELED : -ENODATA));
	ends_with(&reader, sv, done.wire_bytes);
	size_t same = cancel || cut > done.wire_bytes ? done.wire_bytes : cut;
	CHECK(same == 0 || memcmp(reader.data, image, same) == 0);
	reader_free(&reader);
	close(file);
}

typedef ssize_t sendfile_call(int, int, off_t *, size_t);

/* sendfile as servers call it: until all has gone, or the file ends. */
static void by_sendfile(sendfile_call *call, int file, bool nonblocking, size_t count)
{
	int sv[2];
	off_t offset = 5;
	uint64_t total = 0;
	struct reader reader;
	tls_pair(sv, 0, 0);
	if (nonblocking)
		set_nonblock(sv[0]);
	reader_start_check(&reader, sv[1], UINT64_MAX, 5, SEED);
	for (size_t left = count; left > 0;) {
		struct pollfd writable = { .fd = sv[0], .events = POLLOUT };
		ssize_t n = call(sv[0], file, &offset, left);
		if (n == 0)
			break;
		if (n < 0) {
			CHECK_EQ(errno, EAGAIN);
			CHECK_EQ(poll(&writable, 1, WAIT_MS), 1);
			continue;
		}
		total += (uint64_t)n, left -= (size_t)n;
	}
	CHECK_UEQ(total, count < SIZE - 5 ? count : SIZE - 5);
	CHECK_UEQ(offset, total + 5);
	ends_with(&reader, sv, total);
}

/* The file is cut while sendfile works: what it says has gone arrives. */
static void *cut_main(void *argument)
{
	usleep((useconds_t)(rand() % 3000));
	SYS(ftruncate(*(int *)argument, 1000000));
	return NULL;
}

static void by_sendfile_cut(sendfile_call *call)
{
	int sv[2], file = temp_file(SIZE, SEED);
	off_t offset = 0;
	struct reader reader;
	pthread_t thread;
	tls_pair(sv, 65536, 65536);
	reader_init(&reader, sv[1], UINT64_MAX);
	reader.pause_us = 100;
	reader_go(&reader);
	PTHREAD(pthread_create(&thread, NULL, cut_main, &file));
	ssize_t n = call(sv[0], file, &offset, SIZE);
	PTHREAD(pthread_join(thread, NULL));
	CHECK_GT(n, 0);
	ends_with(&reader, sv, (uint64_t)n);
	close(file);
}

static void sendfile_ways(sendfile_call *call)
{
	int file = temp_file(SIZE, SEED);
	for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
		by_sendfile(call, file, nonblocking, 100);
		by_sendfile(call, file, nonblocking, 70001);
		by_sendfile(call, file, nonblocking, SIZE - 5);
		by_sendfile(call, file, nonblocking, 0x7ffff000); /* more than there is */
		drop_cache(file);
		by_sendfile(call, file, nonblocking, 0x7ffff000);
	}
	for (int i = 0; i < 10; i++)
		by_sendfile_cut(call);
	close(file);
}

/* The same in an unmodified binary: this program again, which then calls sendfile(2) only. */
static void under_the_shim(void)
{
	char line[PATH_MAX + 100], library[PATH_MAX] = "", shim[PATH_MAX + 64];
	FILE *maps = fopen("/proc/self/maps", "re");
	CHECK(maps != NULL);
	while (*library == '\0' && fgets(line, sizeof line, maps) != NULL)
		if (strstr(line, "/libsnapsend.so") != NULL)
			sscanf(strchr(line, '/'), "%s", library);
	fclose(maps);
	*strrchr(library, '/') = '\0';
	snprintf(shim, sizeof shim, "%s/libsnapsend_preload.so", library);
	if (access(shim, R_OK) != 0) {
		printf("without the shim: no %s\n", shim);
		return;
	}
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0) {
		setenv("LD_PRELOAD", shim, 1);
		execl("/proc/self/exe", "kernel_tls", "shim", (char *)NULL);
		_exit(126);
	}
	int status;
	SYS(waitpid(pid, &status, 0));
	CHECK_EQ(status, 0);
}

int main(int argc, char **argv)
{
	(void)argv;
	srand(SEED);
	time_limit(120);
	if (argc > 1) {
		CHECK_GT(count_mappings("libsnapsend_preload"), 0);
		sendfile_ways(sendfile);
		return 0;
	}
	int file = temp_file(SIZE, SEED);
	unsigned char *image = image_of(0, SIZE, SEED);
	snapsend_t *ctx = create_ctx();
	doing("ranges");
	ranges(ctx, file, image);
	doing("a slow peer");
	slow_peer(ctx, file);
	doing("cut off");
	for (int i = 0; i < 24; i++)
		cut_off(ctx, image, i / 2 % 2, i);
	destroy_ctx(ctx);
	free(image);
	close(file);
	doing("snapsend_sendfile");
	sendfile_ways(snapsend_sendfile);
	doing("the shim");
	under_the_shim();
	return 0;
}
