/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Regular files of size 0 that have a content all the same (procfs), and such as claim more than they have
 * (sysfs): TO_EOF gives what read gives. */
#include "data_common.h"

static void one(snapsend_t *ctx, const char *path)
{
	static unsigned char want[256 * 1024], again[256 * 1024];
	int sv[2], file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return;
	doing(path);
	tcp_pair(sv);
	for (int tries = 0;; tries++) { /* nobody must have changed it meanwhile */
		size_t n = read_all(file, want, sizeof want);
		struct snapsend_completion done;
		struct reader reader;
		CHECK(n > 0 && n < sizeof want);
		reader_start_keep(&reader, sv[1], UINT64_MAX);
		struct snapsend_request request = make_request(sv[0], file, 0, SNAPSEND_TO_EOF);
		wait_done(ctx, submit_ok(ctx, &request), &done);
		SYS(shutdown(sv[0], SHUT_WR));
		size_t got = reader_join(&reader);
		CHECK_UEQ(got, done.wire_bytes);
		CHECK_EQ(lseek(file, 0, SEEK_CUR), n);
		SYS(lseek(file, 0, SEEK_SET));
		bool same = read_all(file, again, sizeof again) == n && memcmp(want, again, n) == 0;
		SYS(lseek(file, 0, SEEK_SET));
		close_pair(sv);
		if (same || tries == 5) {
			CHECK_EQ(done.status, 0);
			CHECK_UEQ(got, n);
			CHECK(memcmp(reader.data, want, n) == 0);
			reader_free(&reader);
			break;
		}
		reader_free(&reader);
		tcp_pair(sv);
	}
	close(file);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	one(ctx, "/proc/version");
	one(ctx, "/proc/filesystems");
	one(ctx, "/proc/self/cmdline");
	one(ctx, "/proc/self/limits");
	one(ctx, "/sys/kernel/mm/transparent_hugepage/enabled");
	one(ctx, "/sys/devices/system/cpu/online");
	destroy_ctx(ctx);
	return 0;
}
