/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A FUSE server that claims fs-verity for its file, and changes it in place: by no call is it sent by reference. The
 * control: sendfile(2), by which changed bytes arrive. */
#include "data_fuse.h"
#include "frozen.h"

#include <sys/syscall.h>

#define LENGTH (320 * KIB) /* of shorter calls snapsend_sendfile queries no file system */
#define SEED   81

static snapsend_t *ctx;
static unsigned char *image;
static int server; /* the server's end of the connection to the kernel */

static int descriptor_of_server(void)
{
	char path[64], target[64];
	int process = (int)SYS(syscall(SYS_pidfd_open, fuse_pid, 0));
	for (int number = 0; number < 100; number++) {
		snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)fuse_pid, number);
		ssize_t length = readlink(path, target, sizeof target);
		if (length == 9 && memcmp(target, "/dev/fuse", 9) == 0)
			return (int)SYS(syscall(SYS_pidfd_getfd, process, number, 0));
	}
	fail("the server has no descriptor");
}

/* Puts the image, or its complement, into the pages that the kernel has cached. */
static void store(bool is_right)
{
	static unsigned char data[LENGTH];
	for (size_t i = 0; i < LENGTH; i++)
		data[i] = is_right ? image[i] : (unsigned char)~image[i];
	struct fuse_notify_store_out where = { .nodeid = 2, .offset = 0, .size = LENGTH };
	struct fuse_out_header head = { .len = sizeof head + sizeof where + LENGTH, .error = FUSE_NOTIFY_STORE };
	struct iovec pieces[3] = { { &head, sizeof head }, { &where, sizeof where }, { data, LENGTH } };
	SYS(writev(server, pieces, 3));
}

enum { SUBMIT, TRY_SEND, SUBMIT_HANDLE, TRY_SEND_HANDLE, SNAPSEND_SENDFILE, SENDFILE, WAYS };

static void send_by(int way, int socket, int file, int handle)
{
	off_t offset = 0;
	struct snapsend_request request = make_request(socket, file, 0, LENGTH);
	if (way == SUBMIT_HANDLE || way == TRY_SEND_HANDLE) {
		request.file_fd = handle;
		request.flags = SNAPSEND_REGISTERED_FILE;
	}
	if (way == SENDFILE)
		CHECK_EQ(sendfile(socket, file, &offset, LENGTH), LENGTH);
	else if (way == SNAPSEND_SENDFILE)
		CHECK_EQ(snapsend_sendfile(socket, file, &offset, LENGTH), LENGTH);
	else
		CHECK_EQ(call_done(ctx, way % 2 ? CALL_TRY_SEND : CALL_SUBMIT, request).status, 0);
}

/* How many bytes arrive changed, to a peer that reads after the change. */
static size_t changed(int way, int file, int handle)
{
	int sv[2];
	struct reader reader;
	pair_of_kind(TCP4, sv, 8 * (int)MIB);
	set_nonblock(sv[0]);
	store(true);
	send_by(way, sv[0], file, handle);
	store(false);
	reader_start_keep(&reader, sv[1], LENGTH);
	reader_join(&reader);
	size_t count = count_different(reader.data, image, LENGTH);
	reader_free(&reader);
	close_pair(sv);
	return count;
}

int main(void)
{
	const char *path = fuse_mount(LENGTH, SEED, 2);
	int attributes = 0;
	atomic_store(&fuse->attributes, FS_VERITY_FL | FS_IMMUTABLE_FL);
	server = descriptor_of_server();
	ctx = create_ctx();
	image = image_of(0, LENGTH, SEED);
	int file = fuse_open(path, false), handle = snapsend_register_file(ctx, file, 0);
	CHECK_GT(handle, 0);
	SYS(ioctl(file, FS_IOC_GETFLAGS, &attributes));
	CHECK_EQ(attributes, FS_VERITY_FL | FS_IMMUTABLE_FL);
	CHECK_UEQ(by_reference(ctx, file, image, LENGTH), 0);
	for (int round = 0; round < 5; round++)
		for (int way = 0; way < SENDFILE; way++)
			CHECK_UEQ(changed(way, file, handle), 0);
	CHECK_UEQ(frozen_bytes(ctx), 0);
	if (changed(SENDFILE, file, handle) == 0)
		fail("sendfile was not caught: the test cannot fail");
	CHECK_EQ(snapsend_unregister_file(ctx, handle), 0);
	destroy_ctx(ctx);
	free(image);
	close(file);
	return 0;
}
