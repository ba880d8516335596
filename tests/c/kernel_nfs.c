/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* NFS 4.2, server and client in one network namespace: what changes on the server is sent as read(2) would show it,
 * and while the server is silent only operations on its files wait. */
#include "data_common.h"

#include <net/if.h>

#define SIZE         (2 * MIB + 100)
#define ATTRIBUTES_S 1 /* so long the client believes what it knows of a file (actimeo) */

static int loopback = -1; /* a socket in the namespace, for its interface */

static void loopback_up(bool up)
{
	struct ifreq request;
	memset(&request, 0, sizeof request);
	strcpy(request.ifr_name, "lo");
	SYS(ioctl(loopback, SIOCGIFFLAGS, &request));
	request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
	SYS(ioctl(loopback, SIOCSIFFLAGS, &request));
}

static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (!good)
		printf("%s to %s: %s\n", text, path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return good;
}

/* What mountd would answer: every client, one export, its root is what clients mount. */
static bool serve(void)
{
	return put("/proc/net/rpc/auth.unix.ip/channel", "nfsd 127.0.0.1 2147483647 test\n")
	       /* NFSEXP_FSID, no subtree check, rw, root is root */
	       && put("/proc/net/rpc/nfsd.export/channel", "test /mnt/export 2147483647 9218 65534 65534 0\n") &&
	       put("/proc/net/rpc/nfsd.fh/channel", "test 1 \\x00000000 2147483647 /mnt/export\n")
	       /* Clients of an earlier life may come back for so long; without, none may open a file. */
	       && put("/mnt/nfsd/nfsv4gracetime", "10\n") && put("/mnt/nfsd/versions", "-3\n") &&
	       put("/mnt/nfsd/portlist", "tcp 2049\n") && put("/mnt/nfsd/threads", "3\n");
}

static void mount_all(void)
{
	char options[200];
	if (strcmp(private_mounts(), "/mnt") != 0)
		skip("no /mnt");
	if (unshare(CLONE_NEWNET) != 0)
		skip("no network namespace of its own");
	loopback = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	loopback_up(true);
	SYS(mkdir("/mnt/export", 0755));
	SYS(mkdir("/mnt/client", 0755));
	SYS(mkdir("/mnt/nfsd", 0755));
	if (mount("nfsd", "/mnt/nfsd", "nfsd", 0, NULL) != 0)
		skip("this kernel has no NFS server");
	if (!serve())
		fail("the NFS server does not start");
	snprintf(options, sizeof options, "vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1,proto=tcp,hard,actimeo=%d",
		 ATTRIBUTES_S);
	if (mount("127.0.0.1:/", "/mnt/client", "nfs", 0, options) != 0)
		fail("mounting NFS: %s", strerror(errno));
}

static int served(const char *file, uint64_t seed)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "/mnt/export/%s", file);
	int fd = (int)SYS(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	pattern_write(fd, 0, SIZE, seed);
	return fd;
}

static int client_opens(const char *file)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "/mnt/client/%s", file);
	return (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
}

/* One operation by that call, beyond them snapsend_sendfile; what arrives must be the pattern of that seed. */
static void sends(snapsend_t *ctx, int file, int call, size_t length, uint64_t seed)
{
	int sv[2];
	struct reader reader;
	unix_pair(sv);
	reader_start_check(&reader, sv[1], length, 0, seed);
	if (call < CALLS) {
		struct snapsend_completion done = call_done(ctx, (enum call)call, make_request(sv[0], file, 0, length));
		CHECK_EQ(done.status, 0);
		CHECK_UEQ(done.wire_bytes, length);
	} else {
		off_t offset = 0;
		CHECK_EQ(snapsend_sendfile(sv[0], file, &offset, length), (long long)length);
	}
	reader_join(&reader);
	close_pair(sv);
}

/* The server's file is written in place. The client may believe for a while what it knows; it must ask after that,
 * as a read would, and what a read has shown must be sent at once. */
static void changes(snapsend_t *ctx)
{
	int server = served("changing", 1), client = client_opens("changing");
	uint64_t seed = 1;
	unsigned char first[8], now[8];
	for (int call = 0; call <= CALLS; call++)
		sends(ctx, client, call, SIZE, seed); /* all is cached now */
	for (int round = 0; round < 2 * (CALLS + 1); round++) {
		pattern_write(server, 0, SIZE, ++seed);
		if (round % 2) {
			pattern_fill(first, 0, sizeof first, seed);
			do
				SYS(pread(client, now, sizeof now, 0));
			while (memcmp(first, now, sizeof now) != 0);
		} else {
			sleep_ms(ATTRIBUTES_S * 1000 + 300);
		}
		sends(ctx, client, round / 2, round % 4 / 2 ? SIZE : 5000, seed);
	}
	close(client);
	close(server);
}

/* The server cannot be reached: others' operations go on, and so does its own when it is back. */
static void silence(snapsend_t *ctx)
{
	enum { WAITING = 4, ROUNDS = 50 };
	int sv[WAITING][2], local = temp_file(SIZE, 7), server = served("silent", 8), client = client_opens("silent");
	struct reader readers[WAITING];
	uint64_t ids[WAITING];
	struct snapsend_completion done;
	unsigned char *image = image_of(0, SIZE, 7);
	loopback_up(false);
	for (int i = 0; i < WAITING; i++) {
		unix_pair(sv[i]);
		struct snapsend_request request = make_request(sv[i][0], client, (uint64_t)i, SIZE - WAITING);
		int64_t begin = now_ms();
		CHECK_EQ(snapsend_try_send(ctx, &request, sizeof request, &done), 0);
		CHECK_LT(now_ms() - begin, 1000 * slowness());
		ids[i] = done.id;
		reader_start_check(&readers[i], sv[i][1], SIZE - WAITING, (uint64_t)i, 8);
	}
	for (int i = 0; i < ROUNDS; i++) {
		int pair[2];
		unix_pair(pair);
		if (i % 5 == 0)
			drop_cache(local);
		transfer_ok(ctx, pair, make_request(-1, local, 3, i % 2 ? SIZE - 3 : 5000), image + 3,
			    i % 2 ? SIZE - 3 : 5000);
		close_pair(pair);
	}
	for (int i = 0; i < WAITING; i++)
		CHECK_UEQ(atomic_load(&readers[i].got), 0);
	loopback_up(true);
	for (int i = 0; i < WAITING; i++) {
		wait_done_ms(ctx, ids[i], &done, 60000);
		CHECK_EQ(done.status, 0);
		reader_join(&readers[i]);
		close_pair(sv[i]);
	}
	free(image);
	close(local);
	close(client);
	close(server);
}

static int tests(void)
{
	time_limit(120);
	snapsend_t *ctx = create_ctx();
	int file = served("ranges", 9), client = client_opens("ranges"), sv[2];
	unsigned char *image = image_of(0, SIZE, 9);
	tcp_pair(sv);
	doing("ranges");
	every_way(ctx, sv, client, image, SIZE, NULL, NULL, NULL);
	close_pair(sv);
	close(client);
	close(file);
	doing("changes on the server");
	changes(ctx);
	doing("a silent server");
	silence(ctx);
	free(image);
	destroy_ctx(ctx);
	return 0;
}

/* The server belongs to the kernel: whatever becomes of the tests, it is stopped. */
int main(void)
{
	int status;
	mount_all();
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0)
		_exit(tests());
	time_limit(130);
	SYS(waitpid(pid, &status, 0));
	loopback_up(true);
	if (umount2("/mnt/client", MNT_FORCE) != 0)
		umount2("/mnt/client", MNT_DETACH);
	put("/mnt/nfsd/threads", "0\n");
	CHECK_EQ(status, 0);
	return 0;
}
