/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* engine: one */
/* snapsend_sendfile is no cancellation point, as sendfile(2) is none: a pending cancellation waits for a later one, and
 * leaves nothing behind. With the asynchronous type a thread that waits in it ends. */
#include "common.h"

static int file, out;

static void *pending(void *into)
{
	off_t at = 0;
	pthread_cancel(pthread_self());
	*(ssize_t *)into = snapsend_sendfile(out, file, &at, 20000);
	pthread_testcancel();
	return NULL;
}

static void *waits(void *unused)
{
	int old;
	off_t at = 0;
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	snapsend_sendfile(out, file, &at, 20000);
	return unused;
}

int main(void)
{
	int sv[2];
	ssize_t sent = -9;
	pthread_t thread;
	void *end;
	file = temp_file(MIB, 1);
	unix_pair(sv);
	out = sv[0];
	SYS(lseek(file, 100, SEEK_SET));
	CHECK_EQ(pthread_create(&thread, NULL, pending, &sent), 0);
	CHECK_EQ(pthread_join(thread, &end), 0);
	CHECK(end == PTHREAD_CANCELED);
	CHECK_EQ(sent, 20000);
	CHECK_UEQ(drain(sv[1], 20), 20000);
	fill_socket(sv[0]);
	for (int i = 0; i < 20; i++) {
		CHECK_EQ(pthread_create(&thread, NULL, waits, NULL), 0);
		sleep_ms(i);
		CHECK_EQ(pthread_cancel(thread), 0);
		CHECK_EQ(pthread_join(thread, &end), 0);
		CHECK(end == PTHREAD_CANCELED);
	}
	CHECK_EQ(lseek(file, 0, SEEK_CUR), 100);
	drain(sv[1], 20);
	off_t at = 0; /* nothing is amiss */
	CHECK_EQ(snapsend_sendfile(sv[0], file, &at, 20000), 20000);
	CHECK_UEQ(drain(sv[1], 20), 20000);
	return 0;
}
