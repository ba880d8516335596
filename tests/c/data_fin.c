/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* After DONE has been taken the library holds no copy of the socket: when the caller closes, the peer sees the
 * end within 100 ms. Also after a cancel, a timeout and a failure. */
#include "data_common.h"

#define LENGTH (2 * MIB)

static void after_success(snapsend_t *ctx, int file, const unsigned char *image)
{
    static const uint32_t flags[] = {0, SNAPSEND_EAGER, SNAPSEND_EXACT};
    static const size_t lengths[] = {0, 10, 100000, LENGTH};
    for (size_t i = 0; i < KINDS * CALLS * COUNT_OF(flags) * COUNT_OF(lengths); i++) {
        int sv[2];
        struct reader reader;
        size_t length = lengths[i / KINDS / CALLS / COUNT_OF(flags)];
        if (!pair_of_kind((enum kind)(i % KINDS), sv, 0))
            continue;
        struct snapsend_request request = make_request(sv[0], file, 0, length);
        request.flags = flags[i / KINDS / CALLS % COUNT_OF(flags)];
        reader_start_keep(&reader, sv[1], length);
        CHECK_EQ(call_done(ctx, (enum call)(i / KINDS % CALLS), request).status, 0);
        close(sv[0]);
        reader_join(&reader);
        expect_eof(sv[1], 100);
        CHECK(length == 0 || memcmp(reader.data, image, length) == 0);
        reader_free(&reader);
        close(sv[1]);
    }
}

/* how 0: cancel, 1: timeout, 2: a short file. */
static void after_failure(snapsend_t *ctx, enum kind kind, int how, uint32_t flags, int file)
{
    int sv[2];
    struct reader reader;
    struct snapsend_completion done;
    if (!pair_of_kind(kind, sv, 32 * 1024)) /* so that not all of it fits */
        return;
    struct snapsend_request request = make_request(sv[0], file, how == 2 ? 1 : 0, LENGTH);
    request.flags = flags;
    request.timeout_ms = how == 1 ? 30 : 0;
    uint64_t id = submit_ok(ctx, &request);
    usleep((useconds_t)(rand() % 5000));
    if (how == 0)
        CHECK_EQ(snapsend_cancel(ctx, id), 0);
    wait_done(ctx, id, &done);
    CHECK_LT(done.status, 0);
    close(sv[0]);
    reader_init(&reader, sv[1], UINT64_MAX);
    int64_t start = now_ms();
    reader_go(&reader);
    reader_join(&reader);
    CHECK(reader.eof);
    CHECK_LE(now_ms() - start, 300); /* there was something to read before */
    close(sv[1]);
}

int main(void)
{
    static const uint32_t flags[] = {0, SNAPSEND_EAGER, SNAPSEND_EXACT};
    snapsend_t *ctx = create_ctx();
    int file = temp_file(LENGTH, 65);
    srand(65);
    doing("after success");
    after_success(ctx, file, image_of(0, LENGTH, 65));
    doing("after failure");
    for (int i = 0; i < 5 * 27; i++)
        after_failure(ctx, (enum kind)(i % KINDS), i / 3 % 3, flags[i / 9 % 3], file);
    destroy_ctx(ctx);
    return 0;
}
