/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Contexts are independent: a completion goes to its own, a full or destroyed one does not hold up others. */
#include "common.h"

int main(void)
{
	enum { CONTEXTS = 6 };
	snapsend_t *contexts[CONTEXTS];
	uint64_t ids[CONTEXTS];
	int sv[CONTEXTS][2], stalled[2];
	struct snapsend_completion completion;
	int file = temp_file(1000, 1);
	unix_pair(stalled);
	fill_socket(stalled[0]);
	for (int i = 0; i < CONTEXTS; i++) {
		contexts[i] = create_ctx_with(2, 0, 0);
		unix_pair(sv[i]);
		struct snapsend_request request = make_request(stalled[0], file, 0, 1000);
		submit_ok(contexts[i], &request); /* all of them have one that does not move */
	}
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < CONTEXTS; i++) {
			struct snapsend_request request = make_request(sv[i][0], file, 0, 1000);
			request.user_data = (uint64_t)(round * 100 + i);
			ids[i] = submit_ok(contexts[i], &request);
		}
		for (int i = CONTEXTS - 1; i >= 0; i--) {
			CHECK_EQ(snapsend_poll(contexts[i], &completion, 1, WAIT_MS), 1);
			CHECK_UEQ(completion.id, ids[i]);
			CHECK_UEQ(completion.user_data, round * 100 + i);
			CHECK_EQ(completion.status, 0);
			CHECK_UEQ(drain(sv[i][1], 0), 1000);
		}
	}
	for (int i = 0; i < CONTEXTS; i++) {
		destroy_ctx(contexts[i]);
		for (int k = i + 1; k < CONTEXTS; k++)
			expect_nothing(contexts[k], 0);
	}
	return 0;
}
