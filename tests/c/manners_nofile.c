/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* RLIMIT_NOFILE nearly used up: none free, -EMFILE and nothing left behind; three free, a context and one of them
 * kept; and with the host at its limit everything works, in what was made before and in what is in flight. */
#include "manners_common.h"

#define LIMIT   300
#define SOCKETS 60

/* Takes numbers until so many are free. */
static void leave_free(int count)
{
	int last[LIMIT], n = 0, fd;
	while ((fd = fcntl(0, F_DUPFD_CLOEXEC, 0)) >= 0)
		last[n++] = fd;
	CHECK_EQ(errno, EMFILE);
	CHECK_GE(n, count);
	while (count-- > 0)
		close(last[--n]);
}

static void limit_to(rlim_t soft)
{
	struct rlimit limit;
	SYS(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = soft;
	SYS(setrlimit(RLIMIT_NOFILE, &limit));
}

static void refused_when_full(const void *argument)
{
	int free_numbers = *(const int *)argument;
	limit_to(LIMIT);
	int fds = (leave_free(1), count_fds()); /* looking takes one */
	if (free_numbers == 0)
		CHECK_GE(fcntl(0, F_DUPFD_CLOEXEC, 0), 0);
	for (int i = 0; i < 20; i++) {
		snapsend_t *ctx = NULL;
		CHECK_ERR(snapsend_create(NULL, 0, &ctx), EMFILE);
		CHECK(ctx == NULL);
	}
	limit_to(LIMIT + 10);
	CHECK_EQ(count_fds(), fds + (free_numbers == 0));
	CHECK_EQ(wait_threads(1, 2000), 1);
	transfers(create_ctx());
}

static void three_free(const void *unused)
{
	(void)unused;
	int file = temp_file(TRANSFERS_LENGTH, 81), sv[2];
	unsigned char *image = image_of(0, TRANSFERS_LENGTH, 81);
	tcp_pair(sv);
	limit_to(LIMIT);
	leave_free(3);
	snapsend_t *ctx = create_ctx();
	int event_fd = snapsend_event_fd(ctx);
	CHECK_GE(event_fd, 0);
	CHECK_LT(event_fd, LIMIT);
	every_way(ctx, sv, file, image, TRANSFERS_LENGTH, NULL, NULL, NULL);
	leave_free(0);
	every_way(ctx, sv, file, image, TRANSFERS_LENGTH, NULL, NULL, NULL);
	struct pollfd p = { .fd = event_fd, .events = POLLIN };
	CHECK_GE(poll(&p, 1, 0), 0);
	destroy_ctx(ctx);
	int fd = 0, count = 0;
	while ((fd = fcntl(0, F_DUPFD_CLOEXEC, 0)) >= 0)
		count++;
	CHECK_EQ(count, 1); /* what the context kept has been given back */
	free(image);
}

/* Half the numbers are sockets with operations in flight, when the host uses up the rest. */
static void host_at_its_limit(const void *unused)
{
	static int sv[SOCKETS][2];
	static uint64_t ids[2 * SOCKETS];
	(void)unused;
	int file = temp_file(TRANSFERS_LENGTH, 81);
	limit_to(LIMIT);
	snapsend_t *ctx = create_ctx();
	for (int i = 0; i < SOCKETS; i++)
		unix_pair(sv[i]);
	for (int i = 0; i < SOCKETS; i++) {
		struct snapsend_request request = make_request(sv[i][0], file, (uint64_t)i, MIB);
		request.flags = i % 3 == 1 ? SNAPSEND_EAGER : 0;
		ids[i] = submit_ok(ctx, &request);
	}
	leave_free(0);
	drop_cache(file);
	for (int i = 0; i < SOCKETS; i++) {
		struct snapsend_request request = make_request(sv[i][0], file, (uint64_t)i + MIB, MIB);
		ids[SOCKETS + i] = submit_ok(ctx, &request);
	}
	for (int i = 0; i < SOCKETS; i++) {
		struct reader reader;
		struct snapsend_completion done;
		reader_start_check(&reader, sv[i][1], 2 * MIB, (uint64_t)i, 81);
		for (int j = 0; j < 2; j++) {
			wait_done(ctx, ids[j * SOCKETS + i], &done);
			CHECK_EQ(done.status, 0);
		}
		reader_join(&reader);
	}
	destroy_ctx(ctx);
}

int main(void)
{
	static const int none = 0, one = 1;
	in_child("no number free", refused_when_full, &none);
	in_child("one number free", refused_when_full, &one);
	in_child("three numbers free", three_free, NULL);
	in_child("the host at its limit", host_at_its_limit, NULL);
	return parts_done();
}
