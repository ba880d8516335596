/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What can change although it does not look so is never sent by reference: with other seals, on a read-only mount, with
 * `chattr +i`, on read-only devices, on overlayfs over squashfs (FUSE: frozen_fuse; DAX: src/decide/frozen.rs). Each is
 * then changed after each call has sent it, while the peers have not read yet, and what arrives is what was sent.
 * Controls: sealed, squashfs, erofs. */
#include "frozen.h"

#include <linux/fs.h>
#include <sys/sysmacros.h>

#define LENGTH (MIB + 5)

static snapsend_t *ctx;
static unsigned char *image;

static void changing(const char *what, int file)
{
	printf("may change: %s\n", what);
	doing(what);
	CHECK_UEQ(by_reference(ctx, file, image, LENGTH), 0);
}

/* Nothing of it needs to be kept, so that a pool of any size will do. */
static void exact_beyond_the_pool(int file)
{
	struct snapsend_options options = { .pool_bytes = MIB / 2 };
	snapsend_t *small = NULL;
	int sv[2];
	CHECK_EQ(snapsend_create(&options, sizeof options, &small), 0);
	int handle = snapsend_register_file(small, file, 0);
	CHECK_GT(handle, 0);
	tcp_pair(sv);
	for (int i = 0; i < 4; i++) {
		bool by_handle = i % 2;
		struct snapsend_request request =
			make_request(sv[0], by_handle ? handle : file, 0, i / 2 ? SNAPSEND_TO_EOF : LENGTH);
		request.flags = SNAPSEND_EXACT | (by_handle ? SNAPSEND_REGISTERED_FILE : 0);
		(void)transfer_ok(small, sv, request, image, LENGTH);
	}
	close_pair(sv);
	destroy_ctx(small);
}

static void frozen(const char *what, int file)
{
	printf("cannot change: %s\n", what);
	doing(what);
	CHECK_UGE(by_reference(ctx, file, image, LENGTH), LENGTH);
	/* Handles are told apart when they are registered. */
	int handle = snapsend_register_file(ctx, file, 0), sv[2];
	CHECK_GT(handle, 0);
	tcp_pair(sv);
	set_nonblock(sv[0]);
	uint64_t before = frozen_bytes(ctx);
	for (int i = 0; i < 4; i++) {
		struct snapsend_request request = make_request(sv[0], handle, 0, LENGTH);
		request.flags = SNAPSEND_REGISTERED_FILE;
		(void)transfer_ok(ctx, sv, request, image, LENGTH);
	}
	CHECK_UGE(frozen_bytes(ctx) - before, 2 * LENGTH);
	CHECK_EQ(snapsend_unregister_file(ctx, handle), 0);
	close_pair(sv);
	exact_beyond_the_pool(file);
}

/* ---- each call, then a change ------------------------------------------------------------------ */

#define SENT (320 * KIB) /* of shorter calls snapsend_sendfile queries no file system */

enum { SUBMIT, TRY_SEND, SUBMIT_FIXED, TRY_FIXED, SENDFILE, WAYS };
static const char *const way_name[] = { "submit", "try_send", "submit by handles", "try_send by handles", "sendfile" };

/* Sends the first bytes one way to a peer that reads nothing, and has room for all of them. */
static void send_whole(int way, int file, int handle, int sv[2])
{
	pair_of_kind(TCP4, sv, 8 * (int)MIB);
	set_nonblock(sv[0]);
	if (way == SENDFILE) {
		off_t offset = 0;
		CHECK_EQ(snapsend_sendfile(sv[0], file, &offset, SENT), SENT);
		return;
	}
	bool is_fixed = way == SUBMIT_FIXED || way == TRY_FIXED;
	struct snapsend_request request = make_request(sv[0], is_fixed ? handle : file, 0, SENT);
	if (is_fixed) {
		request.socket_fd = snapsend_register_socket(ctx, sv[0], 0);
		request.flags = SNAPSEND_REGISTERED_FILE | SNAPSEND_REGISTERED_SOCKET;
	}
	enum call call = way == TRY_SEND || way == TRY_FIXED ? CALL_TRY_SEND : CALL_SUBMIT;
	CHECK_EQ(call_done(ctx, call, request).status, 0);
	if (is_fixed)
		CHECK_EQ(snapsend_unregister_socket(ctx, request.socket_fd), 0);
}

/* DONE, then a change, then the peers read: what they get must be what the file had, whichever call has sent it. */
static void changed_behind_done(int file, void (*change)(void *), void *argument)
{
	int sv[WAYS][2], handle = snapsend_register_file(ctx, file, 0);
	uint64_t before = frozen_bytes(ctx);
	CHECK_GT(handle, 0);
	for (int i = 0; i < WAYS; i++)
		send_whole(i, file, handle, sv[i]);
	CHECK_UEQ(frozen_bytes(ctx), before);
	CHECK_EQ(snapsend_unregister_file(ctx, handle), 0);
	change(argument);
	for (int i = 0; i < WAYS; i++) {
		struct reader reader;
		reader_start_keep(&reader, sv[i][1], SENT);
		reader_join(&reader);
		if (memcmp(reader.data, image, SENT) != 0)
			fail("a change has reached what %s had sent", way_name[i]);
		reader_free(&reader);
		close_pair(sv[i]);
	}
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void write_mapping(void *mapped)
{
	memset(mapped, 0xff, 256 * KIB);
}

static void seals(void)
{
	static const struct {
		const char *what;
		int seals;
	} weak[] = {
		{ "no seal", 0 },
		{ "without F_SEAL_SHRINK", F_SEAL_WRITE | F_SEAL_GROW },
		{ "without F_SEAL_GROW", F_SEAL_WRITE | F_SEAL_SHRINK },
		{ "without F_SEAL_WRITE", F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL },
	};
	for (size_t i = 0; i < COUNT_OF(weak); i++) {
		int file = memory_file(LENGTH, 5);
		seal(file, weak[i].seals);
		changing(weak[i].what, file);
		close(file);
	}
	int file = memory_file(LENGTH, 5);
	void *mapped = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	CHECK(mapped != MAP_FAILED);
	CHECK_EQ(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE), -1); /* because of the mapping */
	seal(file, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
	changing("F_SEAL_FUTURE_WRITE with a writable mapping", file);
	changed_behind_done(file, write_mapping, mapped);
	munmap(mapped, LENGTH);
	close(file);

	file = memory_file(LENGTH, 5);
	changing("before the seals", file);
	seal(file, SEALS);
	frozen("sealed", file);
	close(file);
}

/* ---- disks ------------------------------------------------------------------------------------ */

static int put_file(const char *dir, const char *name, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s", dir, name);
	int file = (int)SYS(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	file_put(file, 0, image, LENGTH);
	SYS(fsync(file));
	return file;
}

static void spoil(void *path)
{
	int file = (int)SYS(open(path, O_WRONLY | O_CLOEXEC));
	file_spoil(file, 0, image, LENGTH);
	SYS(fsync(file)); /* a device would write it behind what comes next */
	close(file);
}

struct undo {
	const char *mounted;
	char *path;
};

static void remount_and_spoil(void *argument)
{
	const struct undo *undo = argument;
	SYS(mount(NULL, undo->mounted, NULL, MS_REMOUNT, NULL));
	spoil(undo->path);
}

static void set_immutable(int file, int on)
{
	int flags = 0;
	SYS(ioctl(file, FS_IOC_GETFLAGS, &flags));
	flags = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
	SYS(ioctl(file, FS_IOC_SETFLAGS, &flags));
}

static void release_and_spoil(void *argument)
{
	int file = (int)SYS(open(argument, O_RDONLY | O_CLOEXEC));
	set_immutable(file, 0);
	close(file);
	spoil(argument);
}

static void set_read_only_device(const char *mounted, int on)
{
	struct stat stat_of;
	char device[64];
	SYS(stat(mounted, &stat_of));
	snprintf(device, sizeof device, "/dev/loop%u", minor(stat_of.st_dev));
	int disk = (int)SYS(open(device, O_RDONLY | O_CLOEXEC));
	SYS(ioctl(disk, BLKROSET, &on));
	close(disk);
}

static void allow_remount_and_spoil(void *argument)
{
	const struct undo *undo = argument;
	set_read_only_device(undo->mounted, 0);
	remount_and_spoil(argument);
}

/* What was unregistered may be open for writing for a moment. */
static void remount_read_only(const char *mounted)
{
	for (int i = 0; mount(NULL, mounted, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0; i++) {
		CHECK_LE(i, 200);
		sleep_ms(10);
	}
}

static void on_ext4(const char *dir)
{
	char mounted[PATH_MAX], path[PATH_MAX];
	image_attach(dir, "ext4", "ext4", 64 * MIB, mounted);
	int file = put_file(mounted, "file", path);
	struct undo undo = { mounted, path };
	set_immutable(file, 1);
	changing("chattr +i", file);
	changed_behind_done(file, release_and_spoil, path);
	close(file);

	close(put_file(mounted, "file", path));
	remount_read_only(mounted);
	file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	changing("a read-only mount", file);
	changed_behind_done(file, remount_and_spoil, &undo);
	close(file);

	close(put_file(mounted, "file", path));
	remount_read_only(mounted);
	set_read_only_device(mounted, 1);
	file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	changing("a read-only mount of a read-only device", file);
	changed_behind_done(file, allow_remount_and_spoil, &undo);
	close(file);
}

static void allow_and_spoil(void *device)
{
	int off = 0, file = (int)SYS(open(device, O_RDONLY | O_CLOEXEC));
	SYS(ioctl(file, BLKROSET, &off));
	close(file);
	spoil(device);
}

/* A device is made read-only by `losetup -r` if its backing file is not open for writing; it is attached again. */
static void attach_again_and_spoil(void *path)
{
	char device[64];
	int backing = (int)SYS(open(path, O_RDWR | O_CLOEXEC)), loop = loop_attach(backing, device);
	spoil(device);
	SYS(fsync(loop));
	close(loop);
	close(backing);
}

static void read_only_device(const char *dir)
{
	char path[PATH_MAX], device[64];
	int backing = put_file(dir, "disk.img", path), on = 1;
	SYS(ftruncate(backing, 4 * MIB));
	int loop = loop_attach(backing, device);
	SYS(ioctl(loop, BLKROSET, &on));
	int file = (int)SYS(open(device, O_RDONLY | O_CLOEXEC));
	changing("a read-only device", file);
	changed_behind_done(file, allow_and_spoil, device);
	close(file);
	close(loop);

	file_put(backing, 0, image, LENGTH);
	close(backing);
	backing = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	loop = loop_attach(backing, device);
	CHECK_EQ(pwrite(loop, "x", 1, 0), -1);
	file = (int)SYS(open(device, O_RDONLY | O_CLOEXEC));
	changing("losetup -r", file);
	changed_behind_done(file, attach_again_and_spoil, path);
	close(file);
	close(loop);
	close(backing);
}

/* ---- file systems that are never written ------------------------------------------------------- */

/* Makes an image of dir/content with a tool and mounts it at dir/name; false: not possible here. */
static bool image_of_folder(const char *dir, const char *type, const char *tool, char mounted[PATH_MAX])
{
	char content[PATH_MAX], made[PATH_MAX], device[64];
	snprintf(content, sizeof content, "%s/content", dir);
	snprintf(made, sizeof made, "%s/%s.img", dir, type);
	snprintf(mounted, PATH_MAX, "%s/%s", dir, type);
	bool is_squashfs = strcmp(type, "squashfs") == 0;
	const char *const argv[] = { tool, is_squashfs ? content : made, is_squashfs ? made : content, NULL };
	if (run_tool(argv) != 0) {
		printf("no %s: %s is not tested\n", tool, type);
		return false;
	}
	int backing = (int)SYS(open(made, O_RDONLY | O_CLOEXEC)), loop = loop_attach(backing, device);
	SYS(mkdir(mounted, 0700));
	bool is_mounted = mount(device, mounted, type, MS_RDONLY, NULL) == 0;
	if (!is_mounted)
		printf("the kernel does not mount %s\n", type);
	close(loop);
	close(backing);
	return is_mounted;
}

static void over_squashfs(const char *dir, const char *lower)
{
	char options[3 * PATH_MAX + 64], path[PATH_MAX];
	static const char *const folders[] = { "upper", "work", "merged" };
	for (size_t i = 0; i < COUNT_OF(folders); i++) {
		snprintf(path, sizeof path, "%s/%s", dir, folders[i]);
		SYS(mkdir(path, 0700));
	}
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, dir, dir);
	snprintf(path, sizeof path, "%s/merged", dir);
	if (mount("overlay", path, "overlay", 0, options) != 0) {
		printf("no overlayfs: not tested over squashfs\n");
		return;
	}
	snprintf(path, sizeof path, "%s/merged/file", dir);
	int file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
	changing("overlayfs over squashfs", file);
	changed_behind_done(file, spoil, path); /* copied up */
	/* The same open file shows the upper one from now on, whose pages change. */
	int upper = (int)SYS(open(path, O_WRONLY | O_CLOEXEC));
	file_put(upper, 0, image, LENGTH);
	close(upper);
	changing("overlayfs over squashfs, copied up", file);
	changed_behind_done(file, spoil, path);
	close(file);
}

static void never_written(const char *dir)
{
	char content[PATH_MAX], path[PATH_MAX], mounted[PATH_MAX];
	snprintf(content, sizeof content, "%s/content", dir);
	SYS(mkdir(content, 0755));
	close(put_file(content, "file", path));
	if (image_of_folder(dir, "squashfs", "mksquashfs", mounted)) {
		snprintf(path, sizeof path, "%s/squashfs/file", dir);
		int file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
		frozen("squashfs", file);
		over_squashfs(dir, mounted);
		close(file);
	}
	if (image_of_folder(dir, "erofs", "mkfs.erofs", mounted)) {
		snprintf(path, sizeof path, "%s/erofs/file", dir);
		int file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
		frozen("erofs", file);
		close(file);
	}
}

int main(void)
{
	const char *dir = geteuid() == 0 ? private_mounts() : NULL;
	image = image_of(0, LENGTH, 5);
	ctx = create_ctx();
	seals();
	if (dir != NULL) {
		read_only_device(dir);
		never_written(dir);
		on_ext4(dir);
	} else {
		printf("not root: only files in memory are tested\n");
	}
	free(image);
	destroy_ctx(ctx);
	return 0;
}
