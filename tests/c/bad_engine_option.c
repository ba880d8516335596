/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* engine: one */
/* Engines that do not exist, and extreme values of the other options: refused, or a context that works. */
#include "common.h"

static int sv[2];
static int file;

static int create(const struct snapsend_options *options)
{
    snapsend_t *ctx = NULL;
    int result = snapsend_create(options, sizeof *options, &ctx);
    CHECK_LE(result, 0);
    if (result < 0) {
        CHECK(ctx == NULL);
        return result;
    }
    struct snapsend_request request = make_request(sv[0], file, 0, 20000);
    struct snapsend_completion completion;
    struct reader reader;
    reader_start_check(&reader, sv[1], 20000, 0, 1);
    wait_done(ctx, submit_ok(ctx, &request), &completion);
    CHECK_EQ(completion.status, 0);
    reader_join(&reader);
    destroy_ctx(ctx);
    return 0;
}

int main(void)
{
    struct snapsend_options options;
    unix_pair(sv);
    file = temp_file(20000, 1);
    memset(&options, 0, sizeof options);
    int fds = count_fds(), threads = count_threads();

    static const uint32_t no_engines[] = {3, 4, 255, 256, 1u << 16, INT32_MAX, UINT32_MAX};
    for (size_t i = 0; i < COUNT_OF(no_engines); i++) {
        options.engine = no_engines[i];
        CHECK_ERR(create(&options), EINVAL);
    }
    options.engine = 0;
    options.reserved0 = 1;
    CHECK_ERR(create(&options), EINVAL);
    options.reserved0 = 0;

    static const uint64_t sizes[] = {1, 4095, 65536, 1ULL << 40, UINT64_MAX};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        memset(&options, 0, sizeof options);
        options.pool_bytes = sizes[i];
        int pool = create(&options);
        memset(&options, 0, sizeof options);
        options.chunk_bytes = sizes[i];
        int chunk = create(&options);
        printf("%" PRIu64 ": as pool_bytes %d, as chunk_bytes %d\n", sizes[i], pool, chunk);
    }
    memset(&options, 0, sizeof options);
    options.max_ops = UINT32_MAX;
    printf("max_ops %u: %d\n", options.max_ops, create(&options));
    CHECK_EQ(count_fds(), fds);
    CHECK_EQ(wait_threads(threads, 2000), threads);
    return 0;
}
