/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The smallest pool: one block of 32 KiB, of which EXACT may keep 24. While an EXACT operation keeps its data for
 * a peer that does not read, others go on, whatever else waits for room. */
#include "data_common.h"

#define WAITING 40 /* more than are looked at each time that room becomes free */

static snapsend_t *ctx;
static int file;

static void open_pair(int sv[2], bool full)
{
    unix_pair(sv);
    if (full)
        stuff_socket(sv[0]);
}

static uint64_t submit_on(int sv[2], uint64_t length, uint32_t flags)
{
    struct snapsend_request request = make_request(sv[0], file, 0, length);
    request.flags = flags;
    return submit_ok(ctx, &request);
}

static uint64_t submit_to(int sv[2], bool full, uint64_t length, uint32_t flags)
{
    open_pair(sv, full);
    return submit_on(sv, length, flags);
}

static void arrives(uint64_t id, int sv[2], uint64_t length)
{
    struct snapsend_completion done;
    struct reader reader;
    reader_start_check(&reader, sv[1], length, 0, 8);
    wait_done_ms(ctx, id, &done, 10000);
    CHECK_EQ(done.status, 0);
    reader_join(&reader);
    close_pair(sv);
}

static void cancelled(uint64_t id, int sv[2])
{
    struct snapsend_completion done;
    CHECK_EQ(snapsend_cancel(ctx, id), 0);
    wait_done(ctx, id, &done);
    CHECK_EQ(done.status, -ECANCELED);
    close_pair(sv);
}

int main(void)
{
    int keeps[2], waits[WAITING][2], passes[2], too[2], last[2];
    uint64_t waiting[WAITING];
    ctx = create_ctx_with(0, 64 * KIB, 0);
    file = temp_file(100 * KIB, 8);

    doing("what is read and passed on, in the quarter that is left");
    uint64_t kept = submit_to(keeps, true, 24 * KIB, SNAPSEND_EXACT);
    sleep_ms(20);
    arrives(submit_to(passes, false, SNAPSEND_TO_EOF, 0), passes, 100 * KIB);
    cancelled(kept, keeps);

    doing("EXACT whose room is set aside, behind many for whom there is none");
    kept = submit_to(keeps, true, 16 * KIB, SNAPSEND_EXACT);
    for (int i = 0; i < WAITING; i++)
        waiting[i] = submit_to(waits[i], false, 12 * KIB, SNAPSEND_EXACT);
    uint64_t passing = submit_to(passes, true, SNAPSEND_TO_EOF, 0); /* its data stays for 50 ms */
    sleep_ms(5);
    arrives(submit_to(last, false, 4000, SNAPSEND_EXACT), last, 4000);
    cancelled(passing, passes);
    cancelled(kept, keeps);
    for (int i = 0; i < WAITING; i++)
        arrives(waiting[i], waits[i], 12 * KIB);

    doing("EAGER, refused in the line for room to keep data and in that for data that passes");
    kept = submit_to(keeps, true, 24 * KIB, SNAPSEND_EXACT);
    sleep_ms(20);
    open_pair(passes, true), open_pair(too, true), open_pair(last, false);
    passing = submit_on(passes, SNAPSEND_TO_EOF, 0);
    uint64_t second = submit_on(too, SNAPSEND_TO_EOF, 0);  /* takes what the first one gives up after 50 ms */
    uint64_t eager = submit_on(last, 30000, SNAPSEND_EAGER); /* too short to be mapped */
    arrives(eager, last, 30000);
    cancelled(second, too);
    cancelled(passing, passes);
    cancelled(kept, keeps);
    destroy_ctx(ctx);
    return 0;
}
