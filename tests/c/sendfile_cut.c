/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* engine: one */
/* A file that is cut while a blocking snapsend_sendfile() sends it: the call ends with what there was, at most zeros up
 * to the end of the file's last page beyond that, as sendfile(2) may send them, and what it says is what arrives, at once. */
#include "common.h"

#include <netinet/tcp.h>
#include <pthread.h>

#define LENGTH (24 * MIB)
#define ROUNDS 24

static int file, sv[2];
static ssize_t result;

static void *call(void *argument)
{
	off_t offset = 0;
	(void)argument;
	result = snapsend_sendfile(sv[0], file, &offset, LENGTH);
	CHECK_EQ(offset, result);
	return NULL;
}

static void one_round(unsigned round)
{
	static unsigned char got[LENGTH];
	size_t have, cut = 5 * MIB + round * 700001 % (12 * MIB), ahead = round % 2 ? 2 * MIB : 100;
	pthread_t thread;
	CHECK(pair_sized(AF_INET, sv, 0, 0));
	file = temp_file(LENGTH, 5);
	CHECK_EQ(pthread_create(&thread, NULL, call, NULL), 0);
	CHECK_EQ(read_all(sv[1], got, ahead), ahead);
	SYS(ftruncate(file, (off_t)cut));
	have = ahead;
	/* Until it has ended: what it held back with MSG_MORE must come by itself, within 200 ms at that. */
	for (int quiet = 0; quiet < 2;) {
		ssize_t n = recv(sv[1], got + have, sizeof(got) - have, MSG_DONTWAIT);
		if (n > 0) {
			have += (size_t)n;
			quiet = 0;
		} else if (pthread_tryjoin_np(thread, NULL) == 0) {
			quiet = 2;
		} else {
			sleep_ms(1);
		}
	}
	CHECK_GE(result, (ssize_t)ahead);
	CHECK_LE(result, LENGTH);
	CHECK_EQ(read_all(sv[1], got + have, (size_t)result - have), (size_t)result - have);
	size_t end = (size_t)result < cut ? (size_t)result : cut;
	CHECK_UEQ(pattern_bad(got, 0, end, 5), SIZE_MAX);
	if ((size_t)result > cut) { /* sent before, or the rest of the page */
		size_t page = (cut + 4095) / 4096 * 4096;
		for (size_t i = cut; i < (size_t)result; i++)
			if (got[i] != pattern_byte(i, 5) && !(got[i] == 0 && i < page))
				fail("byte %zu after the cut at %zu is %d", i, cut, got[i]);
	} else {
		CHECK_EQ(result, cut);
	}
	close(file);
	close(sv[0]);
	close(sv[1]);
}

int main(void)
{
	for (unsigned round = 0; round < ROUNDS; round++)
		one_round(round);
	return 0;
}
