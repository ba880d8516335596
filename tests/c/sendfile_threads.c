/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* snapsend_sendfile from many threads at once, from the very first call on; blocking, each on its socket. */
#include "common.h"

#define THREADS 8
#define LENGTH  (3 * MIB)

static int file;
static pthread_barrier_t start;

static void *sender(void *argument)
{
	int number = *(int *)argument, sv[2];
	struct reader reader;
	(void)pair_sized(number & 1 ? AF_INET : AF_UNIX, sv, 0, 0);
	reader_start_check(&reader, sv[1], LENGTH - (uint64_t)number, (uint64_t)number, 1);
	pthread_barrier_wait(&start);
	for (off_t offset = number; offset < (off_t)LENGTH;) {
		off_t before = offset;
		ssize_t n = snapsend_sendfile(sv[0], file, &offset, 700000);
		CHECK_GE(n, 1);
		CHECK_EQ(offset, before + n);
	}
	reader_join(&reader);
	close(sv[0]);
	close(sv[1]);
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];
	int numbers[THREADS];
	file = temp_file(LENGTH, 1);
	int fds = count_fds(), tasks = count_threads(), first = 0;
	for (int round = 0; round < 3; round++) {
		PTHREAD(pthread_barrier_init(&start, NULL, THREADS));
		for (int i = 0; i < THREADS; i++) {
			numbers[i] = i;
			PTHREAD(pthread_create(&threads[i], NULL, sender, &numbers[i]));
		}
		for (int i = 0; i < THREADS; i++)
			PTHREAD(pthread_join(threads[i], NULL));
		pthread_barrier_destroy(&start);
		/* At most one default context was made, however many came first. */
		if (round == 0)
			first = count_fds();
		CHECK_EQ(count_fds(), first);
		CHECK_LE(first - fds, 16);
		CHECK_LE(wait_threads(tasks + 2, 1000), tasks + 2);
	}
	return 0;
}
