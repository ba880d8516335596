/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is no regular file and no block device is refused by submit, and nothing is sent. */
#include "data_common.h"

static void refused(snapsend_t *ctx, int file, const char *what)
{
	int sv[2];
	uint64_t id;
	doing(what);
	if (file < 0)
		fail("cannot open it: %s", strerror(errno));
	tcp_pair(sv);
	struct snapsend_request request = make_request(sv[0], file, 0, 10);
	int fixed = snapsend_submit(ctx, &request, sizeof request, &id);
	request.length = SNAPSEND_TO_EOF;
	int to_eof = snapsend_submit(ctx, &request, sizeof request, &id);
	CHECK_LT(fixed, 0);
	CHECK_LT(to_eof, 0);
	expect_silence(sv[1]);
	expect_nothing(ctx, 5);
	close(file);
	close_pair(sv);
}

int main(void)
{
	snapsend_t *ctx = create_ctx();
	int sv[2], p[2];
	char path[PATH_MAX];
	close(temp_file_path(0, 0, path));
	unlink(path);
	SYS(mkfifo(path, 0600));
	unix_pair(sv);
	SYS(pipe2(p, O_CLOEXEC));
	refused(ctx, open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "a directory");
	refused(ctx, open(path, O_RDWR | O_CLOEXEC), "a FIFO");
	refused(ctx, p[0], "a pipe");
	refused(ctx, sv[0], "a socket");
	refused(ctx, open("/dev/null", O_RDONLY | O_CLOEXEC), "a character device");
	refused(ctx, open("/dev/zero", O_RDONLY | O_CLOEXEC), "a character device");
	refused(ctx, open("/etc", O_PATH | O_CLOEXEC), "O_PATH of a directory");
	destroy_ctx(ctx);
	return 0;
}
