/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* NOTIFY_SNAPSHOT: exactly one SNAPSHOT, before the DONE, for each operation that succeeds; none for those
 * that did not ask, and none where the DONE is handed over directly. */
#include "data_common.h"

#define OPS 400

static struct {
	uint64_t id;
	bool asked;
	int snapshots, dones;
} ops[OPS];

static void on_event(const struct snapsend_completion *c)
{
	CHECK_ULE(c->user_data, OPS - 1);
	size_t i = (size_t)c->user_data;
	CHECK_UEQ(c->id, ops[i].id);
	CHECK_EQ(ops[i].dones, 0); /* DONE is the last word */
	CHECK_EQ(c->status, 0);
	if (c->event == SNAPSEND_EVENT_SNAPSHOT) {
		ops[i].snapshots++;
		return;
	}
	CHECK_UEQ(c->event, SNAPSEND_EVENT_DONE);
	ops[i].dones++;
	CHECK_EQ(ops[i].snapshots, ops[i].asked ? 1 : 0);
}

static void submit_all(snapsend_t *ctx, int sv[KINDS][2], int file, int empty)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT, SNAPSEND_ZERO_PAD };
	for (size_t i = 0; i < OPS; i++) {
		int to = sv[i % 3][0] >= 0 ? sv[i % 3][0] : sv[0][0];
		struct snapsend_request request =
			make_request(to, file, (uint64_t)rand() % MIB, 1 + (uint64_t)rand() % 300000);
		if (i % 16 == 7)
			request.length = MIB;
		if (i % 16 == 9)
			request = make_request(to, empty, 0,
					       SNAPSEND_TO_EOF); /* nothing to snapshot is soon snapshotted */
		ops[i].asked = rand() % 2;
		request.flags = flags[i % 16 == 9 ? 0 : i % 4] | (ops[i].asked ? SNAPSEND_NOTIFY_SNAPSHOT : 0);
		request.user_data = i;
		ops[i].id = submit_ok(ctx, &request);
	}
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	struct snapsend_completion batch[7];
	struct reader readers[KINDS];
	int file = temp_file(2 * MIB, 22), empty = temp_file(0, 0), sv[KINDS][2], dones = 0;
	for (int kind = 0; kind < KINDS; kind++) {
		if (!pair_of_kind((enum kind)kind, sv[kind], 0)) {
			sv[kind][0] = -1;
			continue;
		}
		reader_init(&readers[kind], sv[kind][1], UINT64_MAX);
		reader_go(&readers[kind]);
	}
	submit_all(ctx, sv, file, empty);
	while (dones < OPS) {
		int n = snapsend_poll(ctx, batch, COUNT_OF(batch), WAIT_MS);
		CHECK_GT(n, 0);
		for (int i = 0; i < n; i++) {
			on_event(&batch[i]);
			dones += batch[i].event == SNAPSEND_EVENT_DONE;
		}
	}
	struct snapsend_request direct = make_request(sv[0][0], file, 5, 100000);
	direct.flags = SNAPSEND_NOTIFY_SNAPSHOT;
	CHECK_EQ(snapsend_send(ctx, &direct, sizeof direct, batch), 0);
	CHECK_EQ(batch[0].status, 0);
	CHECK_UEQ(batch[0].event, SNAPSEND_EVENT_DONE);
	expect_nothing(ctx, 30);
	destroy_ctx(ctx);
	return 0;
}
