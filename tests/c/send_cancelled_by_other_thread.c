/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* snapsend_send on a peer that does not read is ended from another thread by snapsend_cancel_socket. */
#include "common.h"

static snapsend_t *ctx;

struct caller {
	pthread_t thread;
	struct snapsend_request request;
	struct snapsend_completion completion;
	int result;
	atomic_bool over;
};

static void *call(void *argument)
{
	struct caller *c = argument;
	c->result = snapsend_send(ctx, &c->request, sizeof c->request, &c->completion);
	atomic_store(&c->over, true);
	return NULL;
}

int main(void)
{
	enum { CALLERS = 3 };
	static struct caller callers[CALLERS];
	int sv[2];
	ctx = create_ctx();
	int file = temp_file(1000, 1);
	for (int round = 0; round < 5; round++) {
		unix_pair(sv);
		uint64_t filled = fill_socket(sv[0]);
		for (int i = 0; i < CALLERS; i++) {
			atomic_store(&callers[i].over, false);
			callers[i].request = make_request(sv[0], file, 0, 1000);
			PTHREAD(pthread_create(&callers[i].thread, NULL, call, &callers[i]));
		}
		struct snapsend_stats stats;
		do { /* until all are accepted */
			sleep_ms(5);
			CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
		} while (stats.submitted < (uint64_t)CALLERS * (unsigned)(round + 1));
		sleep_ms(20);
		for (int i = 0; i < CALLERS; i++)
			CHECK(!atomic_load(&callers[i].over));
		CHECK_EQ(snapsend_cancel_socket(ctx, sv[0]), CALLERS);
		uint64_t wire = 0;
		for (int i = 0; i < CALLERS; i++) {
			PTHREAD(pthread_join(callers[i].thread, NULL));
			CHECK_EQ(callers[i].result, 0);
			CHECK_EQ(callers[i].completion.status, -ECANCELED);
			wire += callers[i].completion.wire_bytes;
		}
		CHECK_UEQ(drain(sv[1], 50), filled + wire);
		expect_nothing(ctx, 10);
		close(sv[0]);
		close(sv[1]);
	}
	destroy_ctx(ctx);
	return 0;
}
