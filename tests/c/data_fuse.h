/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A file system of one file, whose every answer the test decides: slow reads, short reads, errors. It speaks
 * the kernel's FUSE protocol from a process of its own, so that it goes on whatever the test does.
 *
 *   fuse_mount(size, seed, threads)  the path of the file, which holds the pattern
 *   fuse->delay_ms  fuse->hold  fuse->error_from  fuse->short_max  fuse->direct  may be changed at any time,
 *   fuse->size  fuse->seed  fuse->open_flags  fuse->changes  fuse->attr_delay_ms  fuse->flush_delay_ms  too
 *   fuse->attributes  fuse->hold_attr
 *   fuse_init_flags  before it is mounted
 */
#ifndef SNAPSEND_TESTS_DATA_FUSE_H
#define SNAPSEND_TESTS_DATA_FUSE_H

#include "data_common.h"

#include <linux/fs.h>
#include <linux/fuse.h>
#include <sys/prctl.h>

struct fuse_control {
	_Atomic uint64_t size, seed;
	_Atomic uint64_t error_from; /* a read that reaches this offset gives EIO; UINT64_MAX: none */
	atomic_int delay_ms;         /* before each answer to a read */
	atomic_bool hold;            /* reads are not answered while this is set */
	atomic_int short_max;        /* at most so many bytes in an answer; 0: all */
	atomic_bool direct;          /* the page cache is not used; for descriptors opened from then on */
	atomic_int reads;            /* so many came */
	atomic_int open_flags;       /* FOPEN_*, where the page cache is used */
	atomic_int changes;          /* the time of the last change */
	atomic_int attr_delay_ms;    /* before each answer to a question for attributes */
	atomic_bool hold_attr;       /* questions for attributes are not answered while this is set */
	atomic_int flush_delay_ms;   /* before each answer to a close */
	atomic_int attributes;       /* FS_*_FL, for lsattr(1) */
};

static uint32_t fuse_init_flags = FUSE_ASYNC_READ;

static struct fuse_control *fuse;
static pid_t fuse_pid;

#define FUSE_BUFFER (256 * 1024)

static inline void fuse_answer(int fd, uint64_t unique, int error, const void *data, size_t length)
{
	struct fuse_out_header head = { .len = (uint32_t)(sizeof head + length), .error = -error, .unique = unique };
	struct iovec pieces[2] = { { &head, sizeof head }, { (void *)(uintptr_t)data, length } };
	ssize_t n = writev(fd, pieces, 2); /* may fail when the request was interrupted */
	(void)n;
}

static inline struct fuse_attr fuse_attributes(uint64_t node)
{
	struct fuse_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.ino = node;
	attr.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0700 : S_IFREG | 0600;
	attr.nlink = 1;
	attr.size = node == FUSE_ROOT_ID ? 0 : fuse->size;
	attr.blksize = 4096;
	attr.mtime = attr.ctime = 1000 + (uint64_t)atomic_load(&fuse->changes);
	return attr;
}

static inline void fuse_read(int fd, uint64_t unique, const struct fuse_read_in *in)
{
	unsigned char *data = malloc(in->size + 1);
	CHECK(data != NULL);
	uint64_t left = in->offset < fuse->size ? fuse->size - in->offset : 0;
	size_t n = in->size < left ? in->size : (size_t)left, most = (size_t)atomic_load(&fuse->short_max);
	atomic_fetch_add(&fuse->reads, 1);
	sleep_ms(atomic_load(&fuse->delay_ms));
	while (atomic_load(&fuse->hold))
		sleep_ms(1);
	if (in->offset + n > atomic_load(&fuse->error_from)) {
		fuse_answer(fd, unique, EIO, NULL, 0);
	} else {
		n = most > 0 && n > most ? most : n;
		pattern_fill(data, in->offset, n, fuse->seed);
		fuse_answer(fd, unique, 0, data, n);
	}
	free(data);
}

static inline void fuse_start(int fd, uint64_t unique, const struct fuse_init_in *in)
{
	struct fuse_init_out out;
	memset(&out, 0, sizeof out);
	out.major = FUSE_KERNEL_VERSION;
	out.minor = in->minor < 31 ? in->minor : 31;
	out.max_readahead = in->max_readahead;
	out.max_background = 64;
	out.congestion_threshold = 64;
	out.max_write = 4096;
	out.flags = fuse_init_flags;
	fuse_answer(fd, unique, 0, &out, sizeof out);
}

/* Only the question for attributes is answered. */
static inline void fuse_ioctl(int fd, uint64_t unique, const struct fuse_ioctl_in *in)
{
	struct {
		struct fuse_ioctl_out out;
		uint32_t attributes;
	} answer;
	memset(&answer, 0, sizeof answer);
	answer.attributes = (uint32_t)atomic_load(&fuse->attributes);
	if (in->cmd == (uint32_t)FS_IOC_GETFLAGS)
		fuse_answer(fd, unique, 0, &answer, sizeof answer);
	else
		fuse_answer(fd, unique, ENOTTY, NULL, 0);
}

static inline void fuse_serve(int fd, const struct fuse_in_header *in, const void *body)
{
	struct fuse_entry_out entry = { .nodeid = 2, .attr = fuse_attributes(2) };
	struct fuse_attr_out attr = { .attr_valid = 0, .attr = fuse_attributes(in->nodeid) };
	struct fuse_open_out opened = { .open_flags = FOPEN_DIRECT_IO };
	if (!atomic_load(&fuse->direct))
		opened.open_flags = (uint32_t)atomic_load(&fuse->open_flags);
	switch (in->opcode) {
	case FUSE_INIT: fuse_start(fd, in->unique, body); break;
	case FUSE_LOOKUP: fuse_answer(fd, in->unique, 0, &entry, sizeof entry); break;
	case FUSE_GETATTR:
		sleep_ms(atomic_load(&fuse->attr_delay_ms));
		while (atomic_load(&fuse->hold_attr))
			sleep_ms(1);
		attr.attr = fuse_attributes(in->nodeid);
		fuse_answer(fd, in->unique, 0, &attr, sizeof attr);
		break;
	case FUSE_OPEN: fuse_answer(fd, in->unique, 0, &opened, sizeof opened); break;
	case FUSE_READ: fuse_read(fd, in->unique, body); break;
	case FUSE_IOCTL: fuse_ioctl(fd, in->unique, body); break;
	case FUSE_FLUSH: sleep_ms(atomic_load(&fuse->flush_delay_ms)); /* fall through */
	case FUSE_RELEASE: fuse_answer(fd, in->unique, 0, NULL, 0); break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT: break; /* want no answer */
	default: fuse_answer(fd, in->unique, ENOSYS, NULL, 0);
	}
}

static inline void *fuse_loop(void *argument)
{
	int fd = *(int *)argument;
	char *buffer = aligned_alloc(16, FUSE_BUFFER);
	while (buffer != NULL) {
		ssize_t n = read(fd, buffer, FUSE_BUFFER);
		if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue;
		if (n < (ssize_t)sizeof(struct fuse_in_header))
			_exit(0); /* unmounted */
		fuse_serve(fd, (const struct fuse_in_header *)(void *)buffer, buffer + sizeof(struct fuse_in_header));
	}
	return NULL;
}

static inline void fuse_process(int fd, int threads)
{
	pthread_t thread;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* ends with the test, however that ends */
	for (int i = 1; i < threads; i++)
		PTHREAD(pthread_create(&thread, NULL, fuse_loop, &fd));
	fuse_loop(&fd);
	_exit(0);
}

/* So many reads are answered at a time. Must be called before any other thread exists. */
static inline const char *fuse_mount(uint64_t size, uint64_t seed, int threads)
{
	static char path[PATH_MAX];
	char options[200];
	const char *dir = private_mounts();
	fuse = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(fuse != MAP_FAILED);
	fuse->size = size;
	fuse->seed = seed;
	atomic_store(&fuse->error_from, UINT64_MAX);
	atomic_store(&fuse->open_flags, FOPEN_KEEP_CACHE);
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		skip("no FUSE here");
	snprintf(path, sizeof path, "%s/fuse", dir);
	SYS(mkdir(path, 0700));
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (mount("snapsend-test", path, "fuse", MS_NOSUID | MS_NODEV, options) != 0)
		skip("no FUSE mounts here");
	fuse_pid = (pid_t)SYS(fork());
	if (fuse_pid == 0)
		fuse_process(fd, threads);
	close(fd);
	snprintf(path, sizeof path, "%s/fuse/file", dir);
	return path;
}

static inline int fuse_open(const char *path, bool direct)
{
	atomic_store(&fuse->direct, direct);
	return (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
}

#endif
