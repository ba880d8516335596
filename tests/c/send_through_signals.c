/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* snapsend_send waits through signals, with SA_RESTART and without: 0 and one whole operation. */
#include "common.h"

static atomic_bool over;
static atomic_int handled;
static pthread_t caller;
static struct reader reader;

static void handler(int sig)
{
	(void)sig;
	atomic_fetch_add(&handled, 1);
}

static void *signaller(void *unused)
{
	(void)unused;
	for (int i = 0; !atomic_load(&over); i++) {
		sleep_ms(5);
		pthread_kill(caller, SIGUSR1);
		if (i == 20)
			reader_go(&reader);
	}
	return NULL;
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int file = temp_file(4 * MIB, 1);
	caller = pthread_self();
	for (int restart = 0; restart < 2; restart++) {
		int sv[2];
		pthread_t thread;
		struct sigaction sa;
		struct snapsend_completion completion;
		unix_pair(sv);
		memset(&sa, 0, sizeof sa);
		sa.sa_handler = handler;
		sa.sa_flags = restart ? SA_RESTART : 0;
		SYS(sigaction(SIGUSR1, &sa, NULL));
		atomic_store(&over, false);
		atomic_store(&handled, 0);
		reader_init(&reader, sv[1], 4 * MIB);
		reader.check = true;
		reader.seed = 1;
		PTHREAD(pthread_create(&thread, NULL, signaller, NULL));
		struct snapsend_request request = make_request(sv[0], file, 0, 4 * MIB);
		CHECK_EQ(snapsend_send(ctx, &request, sizeof request, &completion), 0);
		CHECK_EQ(completion.status, 0);
		CHECK_UEQ(completion.wire_bytes, 4 * MIB);
		CHECK_GE(atomic_load(&handled), 10);
		atomic_store(&over, true);
		PTHREAD(pthread_join(thread, NULL));
		reader_join(&reader);
		close(sv[0]);
		close(sv[1]);
	}
	expect_nothing(ctx, 10);
	destroy_ctx(ctx);
	return 0;
}
