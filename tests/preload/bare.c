/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The least that keeps the promise in place of sendfile(2): pread and send, without any of the shim's care. What
 * bench-nginx.sh compares the shim with. */
#include <errno.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

ssize_t sendfile64(int out, int in, off64_t *offset, size_t count)
{
	static char buffer[256 * 1024];
	size_t sent = 0;

	while (sent < count) {
		size_t most = count - sent < sizeof buffer ? count - sent : sizeof buffer;
		ssize_t got = pread(in, buffer, most, *offset);
		if (got <= 0)
			return sent > 0 ? (ssize_t)sent : got;
		ssize_t taken = send(out, buffer, (size_t)got, sent + (size_t)got < count ? MSG_MORE : 0);
		if (taken < 0)
			return sent > 0 && errno == EAGAIN ? (ssize_t)sent : taken;
		*offset += taken;
		sent += (size_t)taken;
		if (taken < got)
			break;
	}
	return (ssize_t)sent;
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count)
{
	return sendfile64(out, in, offset, count);
}
