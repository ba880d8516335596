/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* engine: one */
/* Each function has the type that the contract gives it: this compiles, and the library exports them all. */
#include "common.h"

static int (*const create)(const struct snapsend_options *, size_t, snapsend_t **) = snapsend_create;
static int (*const destroy)(snapsend_t *) = snapsend_destroy;
static int (*const submit)(snapsend_t *, const struct snapsend_request *, size_t, uint64_t *) = snapsend_submit;
static int (*const submit_many)(snapsend_t *, const struct snapsend_request *, size_t, uint32_t,
				uint64_t *) = snapsend_submit_many;
static int (*const poll_)(snapsend_t *, struct snapsend_completion *, uint32_t, int) = snapsend_poll;
static int (*const event_fd)(snapsend_t *) = snapsend_event_fd;
static int (*const cancel)(snapsend_t *, uint64_t) = snapsend_cancel;
static int (*const cancel_socket)(snapsend_t *, int) = snapsend_cancel_socket;
static int (*const try_send)(snapsend_t *, const struct snapsend_request *, size_t,
			     struct snapsend_completion *) = snapsend_try_send;
static int (*const send_)(snapsend_t *, const struct snapsend_request *, size_t,
			  struct snapsend_completion *) = snapsend_send;
static ssize_t (*const sendfile_)(int, int, off_t *, size_t) = snapsend_sendfile;
static int (*const get_info)(snapsend_t *, struct snapsend_info *, size_t) = snapsend_get_info;
static int (*const get_stats)(snapsend_t *, struct snapsend_stats *, size_t) = snapsend_get_stats;
static uint32_t (*const version)(void) = snapsend_version;
static const char *(*const version_string)(void) = snapsend_version_string;

int main(void)
{
	snapsend_t *ctx = NULL;
	struct snapsend *same = NULL; /* the tag is part of the contract: it can be declared without the header */
	struct snapsend_info info;
	struct snapsend_stats stats;
	struct snapsend_completion completion;
	CHECK_EQ(create(NULL, 0, &ctx), 0);
	same = ctx;
	CHECK_EQ(get_info(same, &info, sizeof info), 0);
	CHECK_EQ(get_stats(ctx, &stats, sizeof stats), 0);
	CHECK_UEQ(info.version, version());
	CHECK(version_string() != NULL);
	CHECK_GE(event_fd(ctx), 0);
	CHECK_EQ(poll_(ctx, &completion, 1, 0), 0);
	CHECK_ERR(cancel(ctx, 5), ENOENT);
	CHECK_ERR(cancel_socket(ctx, -1), EBADF);
	CHECK_LT(submit(ctx, NULL, 0, NULL), 0);
	CHECK_EQ(submit_many(ctx, NULL, 0, 0, NULL) > 0, 0);
	CHECK_LT(try_send(ctx, NULL, 0, &completion), 0);
	CHECK_LT(send_(ctx, NULL, 0, &completion), 0);
	CHECK_EQ(sendfile_(-1, -1, NULL, 1), -1);
	CHECK_EQ(destroy(ctx), 0);
	return 0;
}
