/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* engine: one */
/* A file of the lower layer of overlayfs that is opened for reading and then written to by another descriptor: read(2)
 * gives the new content, a mapping the old. snapsend_sendfile sends what read(2) gives. */
#include "data_common.h"

#define LENGTH (4 * MIB)

int main(void)
{
	const char *dir = private_mounts();
	char path[PATH_MAX];
	int sv[2];
	struct reader reader;
	overlay_attach(dir, "below", LENGTH, 1);
	snprintf(path, sizeof path, "%s/merged/below", dir);
	int file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	int writer = (int)SYS(open(path, O_WRONLY | O_CLOEXEC));
	pattern_write(writer, 0, LENGTH, 2);
	close(writer);
	tcp_pair(sv);
	reader_start_check(&reader, sv[1], LENGTH, 0, 2);
	for (off_t at = 0; (uint64_t)at < LENGTH;)
		CHECK_GE(snapsend_sendfile(sv[0], file, &at, (size_t)(LENGTH - (uint64_t)at)), 1);
	CHECK_UEQ(reader_join(&reader), LENGTH);
	reader_free(&reader);
	close(file);
	close_pair(sv);
	return 0;
}
