/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Faults below the library: this program's own definitions of the libc functions that libsnapsend.so calls
 * come first in the search for symbols, so each call the library makes passes through here, and fails where
 * the plan says so. Calls of the test itself, and of libc within itself, do not: what counts is where a call
 * comes from. Requests in an io_uring are changed before the kernel sees them, so that what is said of them
 * stays true: one that is to fail becomes a no-op whose completion gets the error, one that is to be short is
 * made shorter.
 *
 * Not covered: malloc (Rust ends the process when it fails), and calls that cannot fail.
 */
#ifndef SNAPSEND_TESTS_FAULTS_H
#define SNAPSEND_TESTS_FAULTS_H

#include "common.h"

#include <dlfcn.h>
#include <link.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* ---- what can fail, and how ------------------------------------------------------------------ */

#define SHORT    (-1) /* less is done than was asked for */
#define SPURIOUS (-2) /* success, though nothing has happened */
#define LATE     (-3) /* it comes with a later system call */
#define LOST     (-4) /* it never comes: only for tests that expect it */

/* Each with what it can give: from the man pages, the kernel's source, and seccomp or cgroup filters (EPERM, ENOSYS). */
#define FAULT_KINDS(X)                                                                                                 \
	X(MMAP, "mmap", ENOMEM, EAGAIN, ENODEV)                                                                        \
	X(MADVISE, "madvise", ENOMEM, EAGAIN, EINVAL)                                                                  \
	X(MINCORE, "mincore", ENOMEM, EAGAIN, EPERM)                                                                   \
	X(DISCONNECT, "connect to AF_UNSPEC", EBUSY, ENOMEM, EPERM)                                                    \
	X(PTHREAD_CREATE, "pthread_create", EAGAIN)                                                                    \
	X(SOCKETPAIR, "socketpair", EMFILE, ENFILE, ENOBUFS)                                                           \
	X(EVENTFD, "eventfd", EMFILE, ENOMEM)                                                                          \
	X(GETRLIMIT, "getrlimit", EPERM)                                                                               \
	X(GETSOCKOPT, "getsockopt", ENOMEM, EPERM)                                                                     \
	X(FCNTL, "fcntl", EMFILE, EPERM)                                                                               \
	X(FSTAT, "fstat", EIO, ENOMEM, EPERM)                                                                          \
	X(STATX, "statx", EIO, ENOMEM, ENOSYS, EPERM)                                                                  \
	X(CLOSE, "close", EIO, EINTR)                                                                                  \
	X(CLOSE_RANGE, "close_range", ENOSYS, EPERM, ENOMEM)                                                           \
	X(UNSHARE, "unshare", ENOMEM, EPERM)                                                                           \
	X(KCMP, "kcmp", EPERM, ENOSYS)                                                                                 \
	X(CACHESTAT, "cachestat", ENOSYS, EPERM, EOPNOTSUPP)                                                           \
	X(FUTEX_WAIT, "futex wait", EINTR, EAGAIN, SPURIOUS)                                                           \
	X(EPOLL_CREATE, "epoll_create1", EMFILE, ENOMEM)                                                               \
	X(EPOLL_CTL, "epoll_ctl", ENOMEM, ENOSPC)                                                                      \
	X(EPOLL_WAIT, "epoll_wait", EINTR, EPERM, SPURIOUS)                                                            \
	X(PPOLL, "ppoll", EINTR, ENOMEM)                                                                               \
	X(POLL, "poll", EINTR, ENOMEM)                                                                                 \
	X(NOTIFY, "sendmsg of a message to the ring thread", EINTR, EAGAIN, ENOBUFS, ENOMEM, ETOOMANYREFS, EPERM)      \
	X(RECVMSG, "recvmsg by the ring thread", EINTR, ENOMEM, SHORT)                                                 \
	X(BELL, "send of the bell", ENOBUFS, ENOMEM)                                                                   \
	X(CLEAR_BELL, "recv of the bell", EAGAIN, EINTR, ENOMEM)                                                       \
	X(SEND, "sendmsg of data", EINTR, EAGAIN, ENOBUFS, ENOMEM, EFAULT, EPIPE, ECONNRESET, EIO, ETIMEDOUT, SHORT)   \
	X(SEND_BYTES, "send of snapsend_sendfile", EINTR, ENOBUFS, ENOMEM, ECONNRESET, SHORT)                          \
	X(PREADV2, "preadv2", EAGAIN, EINTR, EIO, ENOMEM, EFAULT, EINVAL, EOPNOTSUPP, ENOSYS, EPERM, SHORT)            \
	X(PREAD, "pread", EINTR, EIO, ENOMEM, EFAULT, ESTALE, SHORT)                                                   \
	X(WRITE, "write to a pipe", EINTR, SHORT)                                                                      \
	X(PWRITEV2, "pwritev2", EAGAIN, EOPNOTSUPP, ENOSYS, EPERM, SHORT)                                              \
	X(LSEEK, "lseek", EIO)                                                                                         \
	X(READ_EVENTFD, "read of an eventfd", EINTR, EAGAIN)                                                           \
	X(URING_SETUP, "io_uring_setup", ENOMEM, EPERM, ENOSYS, EINVAL, EMFILE)                                        \
	X(URING_REGISTER, "io_uring_register", ENOMEM, EINVAL, EOPNOTSUPP, EFAULT, EPERM)                              \
	X(URING_ENTER, "io_uring_enter", EINTR, EAGAIN, EBUSY, ENOMEM, EIO, EBADFD, EOPNOTSUPP, EPERM, SPURIOUS)       \
	X(CQE_SEND, "CQE of a send", EINTR, EAGAIN, ENOBUFS, ENOMEM, EFAULT, EPIPE, ECONNRESET, EIO, ECANCELED, SHORT) \
	X(CQE_ZEROCOPY, "CQE of a zero-copy send", EINTR, EAGAIN, ENOBUFS, ENOMEM, EFAULT, EINVAL, EOPNOTSUPP, EPIPE,  \
	  ECONNRESET, ECANCELED, SHORT)                                                                                \
	X(NOTIFICATION, "notification of a zero-copy send", LATE)                                                      \
	X(CQE_READ, "CQE of a read", EINTR, EAGAIN, EIO, ENOMEM, EFAULT, EINVAL, EOPNOTSUPP, ECANCELED, SHORT)         \
	X(CQE_POLL, "CQE of a poll", ENOMEM, EINVAL, ECANCELED, SPURIOUS)                                              \
	X(CQE_MULTIPOLL, "CQE of a multishot poll", ENOMEM, ECANCELED)                                                 \
	X(CQE_POLL_REMOVE, "CQE of a poll's removal", ENOENT, EALREADY)

#define X_ENUM(name, text, ...) K_##name,
enum fault_kind { FAULT_KINDS(X_ENUM) FAULT_KINDS_COUNT };
#define ERRNOS_MAX 12
struct fault_kind_facts {
	const char *name;
	int errnos[ERRNOS_MAX]; /* 0: no more */
};
#define X_FACTS(name, text, ...) { text, { __VA_ARGS__ } },
static const struct fault_kind_facts fault_kinds[] = { FAULT_KINDS(X_FACTS) };

static inline int errnos_of(enum fault_kind kind)
{
	int n = 0;
	while (n < ERRNOS_MAX && fault_kinds[kind].errnos[n] != 0)
		n++;
	return n;
}

static inline const char *fault_errno_name(int error)
{
	switch (error) {
	case SHORT: return "short";
	case SPURIOUS: return "spurious";
	case LATE: return "late";
	case LOST: return "lost";
	default: return strerrorname_np(error);
	}
}

/* ---- the plan ---------------------------------------------------------------------------------- */

/* The calls from number `first` to `last` of the kind, counted from 1 since it was set, fail with `error`.
 * at_random > 0 instead: one in so many of all calls of all kinds, with anything it can give. */
struct fault_plan {
	enum fault_kind kind;
	unsigned first, last;
	int error;
	unsigned at_random;
	unsigned seed;
};

static struct fault_plan fault_plan;
static _Atomic unsigned fault_calls[FAULT_KINDS_COUNT];
static _Atomic unsigned faults_given;
static _Atomic uint64_t fault_random_state;
static atomic_bool fault_armed;
/* Peers seem to be on other machines, so that zero-copy is tried. */
static atomic_bool fault_far_peers;
/* Not 0: so many entries has each io_uring, and its completion queue no more. */
static unsigned fault_ring_entries;
static unsigned fault_overflows; /* io_uring_enter came back with completions in the kernel's backlog */

static _Atomic uint64_t fault_largest; /* bytes of data in one request to the kernel so far */

static inline void fault_note_size(const struct iovec *iov, size_t count)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += iov[i].iov_len;
	uint64_t largest = atomic_load(&fault_largest);
	while (sum > largest && !atomic_compare_exchange_weak(&fault_largest, &largest, sum))
		;
}

static inline void faults_set(struct fault_plan plan)
{
	atomic_store(&fault_armed, false);
	fault_plan = plan;
	for (int i = 0; i < FAULT_KINDS_COUNT; i++)
		atomic_store(&fault_calls[i], 0);
	atomic_store(&faults_given, 0);
	atomic_store(&fault_random_state, plan.seed * 2654435761ULL + 88172645463325252ULL);
	atomic_store(&fault_armed, true);
}

static inline void faults_off(void)
{
	atomic_store(&fault_armed, false);
}

static inline unsigned fault_random(unsigned below)
{
	uint64_t x = atomic_fetch_add(&fault_random_state, 0x9e3779b97f4a7c15ULL);
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return (unsigned)((x ^ x >> 31) % below);
}

/* 0, or how this call is to fail. */
static inline int fault_of(enum fault_kind kind)
{
	if (!atomic_load(&fault_armed))
		return 0;
	unsigned number = atomic_fetch_add(&fault_calls[kind], 1) + 1;
	int error = 0;
	if (fault_plan.at_random > 0) {
		if (fault_random(fault_plan.at_random) == 0)
			error = fault_kinds[kind].errnos[fault_random((unsigned)errnos_of(kind))];
	} else if (kind == fault_plan.kind && number >= fault_plan.first && number <= fault_plan.last) {
		error = fault_plan.error;
	}
	if (error != 0)
		atomic_fetch_add(&faults_given, 1);
	return error;
}

/* ---- whose call it is ------------------------------------------------------------------------------ */

static uintptr_t fault_library_from, fault_library_to;

static int fault_find_library(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)size, (void)unused;
	if (strstr(info->dlpi_name, "libsnapsend.so") == NULL)
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) {
			fault_library_from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
			fault_library_to = fault_library_from + info->dlpi_phdr[i].p_memsz;
		}
	return 1;
}

__attribute__((constructor)) static void fault_begin(void)
{
	dl_iterate_phdr(fault_find_library, NULL);
	if (fault_library_to == 0)
		fail("libsnapsend.so is not loaded");
}

#define FROM_LIBRARY                                                     \
	((uintptr_t)__builtin_return_address(0) >= fault_library_from && \
	 (uintptr_t)__builtin_return_address(0) < fault_library_to)

/* The libc's own, looked for once; two threads that do so at once find the same. */
static inline void fault_find_real(const char *name, void *real)
{
	void *found = dlsym(RTLD_NEXT, name);
	if (found == NULL)
		abort();
	memcpy(real, &found, sizeof found);
}
#define KEEP_REAL(name)                \
	static __typeof__(&name) real; \
	if (real == NULL)              \
	fault_find_real(#name, &real)

/* A call that fails instead of being made; returns from the caller. */
#define MAY_FAIL(kind)                                         \
	do {                                                   \
		int fault = FROM_LIBRARY ? fault_of(kind) : 0; \
		if (fault > 0) {                               \
			errno = fault;                         \
			return -1;                             \
		}                                              \
	} while (0)

/* ---- io_uring: requests are changed before the kernel sees them ------------------------------------- */

struct fault_patch {
	uint64_t user_data;
	int32_t result;
	bool used;
};

/* A notification that is held up; it comes as the completion of a request of this layer. */
struct fault_late {
	uint64_t user_data;
	int32_t result;
	uint32_t flags;
	int64_t at_ms; /* not before; 0: none is held up here */
	bool requested;
};

#define LATE_MS     20
#define LATE_TOKEN  (UINT64_C(0xfe) << 56) /* the library does not know it */
#define LOST_TOKEN  UINT64_MAX
#define LATES_COUNT 64

static struct {
	int fd;
	struct io_uring_params params;
	unsigned char *queues; /* the mapping of both queues */
	struct io_uring_sqe *requests;
	unsigned seen_requests, seen_completions;
	struct fault_patch patches[256];
	struct fault_late lates[LATES_COUNT];
} fault_ring = { .fd = -1 };

static inline bool fault_patch_later(uint64_t user_data, int32_t result)
{
	for (size_t i = 0; i < COUNT_OF(fault_ring.patches); i++) {
		struct fault_patch *patch = &fault_ring.patches[i];
		if (patch->used)
			continue;
		*patch = (struct fault_patch){ user_data, result, true };
		return true;
	}
	return false;
}

static inline enum fault_kind fault_kind_of(const struct io_uring_sqe *request)
{
	switch (request->opcode) {
	case IORING_OP_SEND:
	case IORING_OP_SENDMSG: return K_CQE_SEND;
	case IORING_OP_SEND_ZC: return K_CQE_ZEROCOPY;
	case IORING_OP_READ:
	case IORING_OP_READ_FIXED: return K_CQE_READ;
	case IORING_OP_POLL_ADD: return request->len & IORING_POLL_ADD_MULTI ? K_CQE_MULTIPOLL : K_CQE_POLL;
	case IORING_OP_POLL_REMOVE: return K_CQE_POLL_REMOVE;
	case IORING_OP_NOP: return K_NOTIFICATION; /* of this layer */
	default: fail("the library uses request %u, which this layer does not know", request->opcode);
	}
}

static inline void fault_shorten(struct io_uring_sqe *request)
{
	if (request->opcode == IORING_OP_SENDMSG) {
		struct msghdr *message = (struct msghdr *)(uintptr_t)request->addr;
		message->msg_iovlen = 1;
		message->msg_iov[0].iov_len = (message->msg_iov[0].iov_len + 1) / 2;
	} else {
		request->len = (request->len + 1) / 2;
	}
}

static inline void fault_request(struct io_uring_sqe *request)
{
	enum fault_kind kind = fault_kind_of(request);
	if (kind == K_NOTIFICATION)
		return;
	int fault = fault_of(kind);
	if (request->opcode == IORING_OP_SENDMSG) {
		const struct msghdr *message = (struct msghdr *)(uintptr_t)request->addr;
		fault_note_size(message->msg_iov, message->msg_iovlen);
	} else if (kind == K_CQE_SEND || kind == K_CQE_ZEROCOPY || kind == K_CQE_READ) {
		fault_note_size(&(struct iovec){ .iov_len = request->len }, 1);
	}
	if (fault == 0)
		return;
	if (fault == SHORT) {
		fault_shorten(request);
		return;
	}
	if (!fault_patch_later(request->user_data, fault == SPURIOUS ? 0 : -fault))
		return;
	if (kind == K_CQE_POLL_REMOVE)
		return; /* the poll fires all the same: that is when it gives these */
	uint64_t user_data = request->user_data;
	memset(request, 0, sizeof *request);
	request->opcode = IORING_OP_NOP;
	request->user_data = user_data;
}

static inline void fault_look_at_requests(void)
{
	const struct io_sqring_offsets *at = &fault_ring.params.sq_off;
	unsigned tail = __atomic_load_n((unsigned *)(void *)(fault_ring.queues + at->tail), __ATOMIC_ACQUIRE);
	unsigned mask = *(unsigned *)(void *)(fault_ring.queues + at->ring_mask);
	const unsigned *array = (unsigned *)(void *)(fault_ring.queues + at->array);
	for (; fault_ring.seen_requests != tail; fault_ring.seen_requests++) {
		fault_request(&fault_ring.requests[array[fault_ring.seen_requests & mask]]);
	}
}

/* Held up, if there is a place for it, or lost. */
static inline void fault_notification(struct io_uring_cqe *completion)
{
	int fault = fault_of(K_NOTIFICATION);
	if (fault == 0)
		return;
	for (size_t i = 0; i < LATES_COUNT && fault == LATE; i++) {
		struct fault_late *late = &fault_ring.lates[i];
		if (late->at_ms != 0)
			continue;
		*late = (struct fault_late){ .user_data = completion->user_data, .result = completion->res };
		late->flags = completion->flags;
		late->at_ms = now_ms() + LATE_MS;
		completion->user_data = LOST_TOKEN;
		return;
	}
	if (fault == LOST)
		completion->user_data = LOST_TOKEN;
}

/* Requests that bring what was held up for long enough, behind those of the library; how many. */
static inline long fault_request_lates(void)
{
	const struct io_sqring_offsets *at = &fault_ring.params.sq_off;
	unsigned *tail = (unsigned *)(void *)(fault_ring.queues + at->tail);
	unsigned mask = *(unsigned *)(void *)(fault_ring.queues + at->ring_mask);
	unsigned *array = (unsigned *)(void *)(fault_ring.queues + at->array);
	long count = 0;
	for (size_t i = 0; i < LATES_COUNT; i++) {
		struct fault_late *late = &fault_ring.lates[i];
		unsigned head = __atomic_load_n((unsigned *)(void *)(fault_ring.queues + at->head), __ATOMIC_ACQUIRE);
		if (late->at_ms == 0 || late->requested || late->at_ms > now_ms() || *tail - head > mask)
			continue;
		struct io_uring_sqe *request = &fault_ring.requests[*tail & mask];
		*request = (struct io_uring_sqe){ .opcode = IORING_OP_NOP, .user_data = LATE_TOKEN + i };
		array[*tail & mask] = *tail & mask;
		__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
		late->requested = true;
		count++;
	}
	return count;
}

/* The completion of such a request is what was held up. */
static inline void fault_bring_late(struct io_uring_cqe *completion)
{
	struct fault_late *late = &fault_ring.lates[completion->user_data - LATE_TOKEN];
	completion->user_data = late->user_data;
	completion->res = late->result;
	completion->flags = late->flags;
	late->at_ms = 0;
}

static inline void fault_look_at_completions(void)
{
	const struct io_cqring_offsets *at = &fault_ring.params.cq_off;
	unsigned tail = __atomic_load_n((unsigned *)(void *)(fault_ring.queues + at->tail), __ATOMIC_ACQUIRE);
	unsigned mask = *(unsigned *)(void *)(fault_ring.queues + at->ring_mask);
	unsigned flags = __atomic_load_n((unsigned *)(void *)(fault_ring.queues + fault_ring.params.sq_off.flags),
					 __ATOMIC_RELAXED);
	fault_overflows += (flags & IORING_SQ_CQ_OVERFLOW) != 0;
	struct io_uring_cqe *all = (struct io_uring_cqe *)(void *)(fault_ring.queues + at->cqes);
	for (; fault_ring.seen_completions != tail; fault_ring.seen_completions++) {
		struct io_uring_cqe *completion = &all[fault_ring.seen_completions & mask];
		if (completion->user_data - LATE_TOKEN < LATES_COUNT) {
			fault_bring_late(completion);
			continue;
		}
		if (completion->flags & IORING_CQE_F_NOTIF) {
			fault_notification(completion);
			continue;
		}
		for (size_t i = 0; i < COUNT_OF(fault_ring.patches); i++) {
			struct fault_patch *patch = &fault_ring.patches[i];
			if (patch->used && patch->user_data == completion->user_data) {
				completion->res = patch->result;
				patch->used = false;
				break;
			}
		}
	}
}

static inline long fault_setup(long (*real)(long, ...), long entries, struct io_uring_params *params)
{
	if (fault_ring_entries != 0) {
		entries = fault_ring_entries;
		params->flags |= IORING_SETUP_CQSIZE;
		params->cq_entries = fault_ring_entries;
	}
	long fd = real(SYS_io_uring_setup, entries, params);
	if (fd >= 0) {
		memset(&fault_ring, 0, sizeof fault_ring);
		fault_ring.fd = (int)fd;
		fault_ring.params = *params;
		if (!(params->features & IORING_FEAT_SINGLE_MMAP))
			fail("a kernel without IORING_FEAT_SINGLE_MMAP, which this layer does not know");
	}
	return fd;
}

static inline long fault_enter(long (*real)(long, ...), const long a[6])
{
	int fault = fault_of(K_URING_ENTER);
	if (fault == SPURIOUS)
		return 0;
	if (fault != 0) {
		errno = fault;
		return -1;
	}
	bool known = a[0] == fault_ring.fd && fault_ring.queues != NULL && fault_ring.requests != NULL;
	long more = known ? fault_request_lates() : 0;
	if (known)
		fault_look_at_requests();
	long result = real(SYS_io_uring_enter, a[0], a[1] + more, a[2], a[3], a[4], a[5]);
	int error = errno;
	if (known)
		fault_look_at_completions();
	errno = error;
	return result;
}

static inline bool fault_is_futex_wait(long operation)
{
	operation &= FUTEX_CMD_MASK;
	return operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET;
}

static inline int fault_kind_of_syscall(long number, const long a[6])
{
	switch (number) {
	case SYS_io_uring_setup: return K_URING_SETUP;
	case SYS_io_uring_register: return K_URING_REGISTER;
	case SYS_close_range: return K_CLOSE_RANGE;
	case SYS_kcmp: return K_KCMP;
	case SYS_connect: return K_DISCONNECT;
	case 451: return K_CACHESTAT;
	case SYS_futex: return fault_is_futex_wait(a[1]) ? (int)K_FUTEX_WAIT : -1;
	default: return -1;
	}
}

/* Takes six arguments, however many there are, which AddressSanitizer would not have. */
__attribute__((no_sanitize("address"))) long syscall(long number, ...)
{
	KEEP_REAL(syscall);
	bool ours = FROM_LIBRARY;
	long a[6];
	va_list args;
	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (ours && number == SYS_io_uring_enter)
		return fault_enter(real, a);
	int kind = ours ? fault_kind_of_syscall(number, a) : -1;
	int fault = kind >= 0 ? fault_of((enum fault_kind)kind) : 0;
	if (fault == SPURIOUS)
		return 0;
	if (fault > 0) {
		errno = fault;
		return -1;
	}
	if (ours && number == SYS_io_uring_setup)
		return fault_setup(real, a[0], (struct io_uring_params *)a[1]);
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- the other calls --------------------------------------------------------------------------------- */

static inline void fault_mapped(void *address, int fd, off_t offset)
{
	if (fd < 0 || fd != fault_ring.fd || address == MAP_FAILED)
		return;
	if (offset == (off_t)IORING_OFF_SQ_RING)
		fault_ring.queues = address;
	else if (offset == (off_t)IORING_OFF_SQES)
		fault_ring.requests = address;
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	KEEP_REAL(mmap);
	bool ours = FROM_LIBRARY;
	int fault = ours ? fault_of(K_MMAP) : 0;
	if (fault != 0) {
		errno = fault;
		return MAP_FAILED;
	}
	void *mapped = real(address, length, protection, flags, fd, offset);
	if (ours)
		fault_mapped(mapped, fd, offset);
	return mapped;
}

int madvise(void *address, size_t length, int advice)
{
	KEEP_REAL(madvise);
	MAY_FAIL(K_MADVISE);
	return real(address, length, advice);
}

int mincore(void *address, size_t length, unsigned char *pages)
{
	KEEP_REAL(mincore);
	MAY_FAIL(K_MINCORE);
	return real(address, length, pages);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument)
{
	KEEP_REAL(pthread_create);
	int fault = FROM_LIBRARY ? fault_of(K_PTHREAD_CREATE) : 0;
	return fault != 0 ? fault : real(thread, attributes, body, argument);
}

int socketpair(int domain, int type, int protocol, int sv[2])
{
	KEEP_REAL(socketpair);
	MAY_FAIL(K_SOCKETPAIR);
	return real(domain, type, protocol, sv);
}

int eventfd(unsigned initial, int flags)
{
	KEEP_REAL(eventfd);
	MAY_FAIL(K_EVENTFD);
	return real(initial, flags);
}

int getrlimit(__rlimit_resource_t resource, struct rlimit *limit)
{
	KEEP_REAL(getrlimit);
	MAY_FAIL(K_GETRLIMIT);
	return real(resource, limit);
}

int getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	KEEP_REAL(getsockopt);
	MAY_FAIL(K_GETSOCKOPT);
	return real(fd, level, option, value, length);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic" /* glibc declares the address as a union */
int getpeername(int fd, struct sockaddr *address, socklen_t *length)
{
	KEEP_REAL(getpeername);
	if (FROM_LIBRARY && atomic_load(&fault_far_peers)) {
		struct sockaddr_in far = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201) };
		memcpy(address, &far, *length < sizeof far ? *length : sizeof far);
		*length = sizeof far;
		return 0;
	}
	return real(fd, address, length);
}

int getsockname(int fd, struct sockaddr *address, socklen_t *length)
{
	KEEP_REAL(getsockname);
	if (FROM_LIBRARY && atomic_load(&fault_far_peers)) {
		struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		memcpy(address, &here, *length < sizeof here ? *length : sizeof here);
		*length = sizeof here;
		return 0;
	}
	return real(fd, address, length);
}

#pragma GCC diagnostic pop

__attribute__((no_sanitize("address"))) int fcntl(int fd, int command, ...)
{
	KEEP_REAL(fcntl);
	va_list args;
	va_start(args, command);
	long argument = va_arg(args, long);
	va_end(args);
	MAY_FAIL(K_FCNTL);
	return real(fd, command, argument);
}

int fstat(int fd, struct stat *out)
{
	KEEP_REAL(fstat);
	MAY_FAIL(K_FSTAT);
	return real(fd, out);
}

int statx(int dir, const char *path, int flags, unsigned mask, struct statx *out)
{
	KEEP_REAL(statx);
	MAY_FAIL(K_STATX);
	return real(dir, path, flags, mask, out);
}

/* Linux has closed the number, whatever it says (close(2)). */
int close(int fd)
{
	KEEP_REAL(close);
	int fault = FROM_LIBRARY ? fault_of(K_CLOSE) : 0;
	int result = real(fd);
	if (fault == 0 || result != 0)
		return result;
	errno = fault;
	return -1;
}

int unshare(int flags)
{
	KEEP_REAL(unshare);
	MAY_FAIL(K_UNSHARE);
	return real(flags);
}

int epoll_create1(int flags)
{
	KEEP_REAL(epoll_create1);
	MAY_FAIL(K_EPOLL_CREATE);
	return real(flags);
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	KEEP_REAL(epoll_ctl);
	if (operation != EPOLL_CTL_DEL) /* which needs no memory */
		MAY_FAIL(K_EPOLL_CTL);
	return real(epoll, operation, fd, event);
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout_ms)
{
	KEEP_REAL(epoll_wait);
	int fault = FROM_LIBRARY ? fault_of(K_EPOLL_WAIT) : 0;
	if (fault == SPURIOUS)
		return 0;
	if (fault != 0) {
		errno = fault;
		return -1;
	}
	return real(epoll, events, most, timeout_ms);
}

int poll(struct pollfd *entries, nfds_t count, int timeout_ms)
{
	KEEP_REAL(poll);
	MAY_FAIL(K_POLL);
	return real(entries, count, timeout_ms);
}

int ppoll(struct pollfd *entries, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	KEEP_REAL(ppoll);
	MAY_FAIL(K_PPOLL);
	return real(entries, count, timeout, mask);
}

static inline ssize_t fault_send_short(ssize_t (*real)(int, const struct msghdr *, int), int fd,
				       const struct msghdr *message, int flags)
{
	struct iovec first = message->msg_iov[0];
	struct msghdr less = *message;
	first.iov_len = (first.iov_len + 1) / 2;
	less.msg_iov = &first;
	less.msg_iovlen = 1;
	return real(fd, &less, flags);
}

/* Data is sent without waiting, messages to the ring thread are not. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	KEEP_REAL(sendmsg);
	bool ours = FROM_LIBRARY;
	int fault = ours ? fault_of(flags & MSG_DONTWAIT ? K_SEND : K_NOTIFY) : 0;
	if (fault > 0) {
		errno = fault;
		return -1;
	}
	if (ours)
		fault_note_size(message->msg_iov, message->msg_iovlen);
	if (fault == SHORT && message->msg_iovlen > 0)
		return fault_send_short(real, fd, message, flags);
	return real(fd, message, flags);
}

/* Short: the ring thread's table is full, so the kernel drops the descriptors (MSG_CTRUNC). */
ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	KEEP_REAL(recvmsg);
	int fault = FROM_LIBRARY ? fault_of(K_RECVMSG) : 0;
	if (fault > 0) {
		errno = fault;
		return -1;
	}
	struct msghdr without = *message;
	if (fault == SHORT) {
		without.msg_control = NULL;
		without.msg_controllen = 0;
		ssize_t result = real(fd, &without, flags);
		message->msg_controllen = 0;
		message->msg_flags = without.msg_flags | MSG_CTRUNC;
		return result;
	}
	return real(fd, message, flags);
}

ssize_t send(int fd, const void *data, size_t length, int flags)
{
	KEEP_REAL(send);
	int fault = FROM_LIBRARY ? fault_of(length == 1 && flags & MSG_DONTWAIT ? K_BELL : K_SEND_BYTES) : 0;
	if (fault > 0) {
		errno = fault;
		return -1;
	}
	return real(fd, data, fault == SHORT ? (length + 1) / 2 : length, flags);
}

ssize_t recv(int fd, void *data, size_t length, int flags)
{
	KEEP_REAL(recv);
	MAY_FAIL(K_CLEAR_BELL);
	return real(fd, data, length, flags);
}

typedef ssize_t vectored(int fd, const struct iovec *iov, int count, off_t offset, int flags);

/* The call fails, or gets half of the first piece, or is made as it is. */
static inline ssize_t vectored_with(int fault, vectored *real, int fd, const struct iovec *iov, int count, off_t offset,
				    int flags)
{
	if (fault > 0) {
		errno = fault;
		return -1;
	}
	struct iovec first = iov[0];
	if (fault == SHORT) {
		first.iov_len = (first.iov_len + 1) / 2;
		return real(fd, &first, 1, offset, flags);
	}
	return real(fd, iov, count, offset, flags);
}

ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	KEEP_REAL(preadv2);
	bool ours = FROM_LIBRARY;
	int fault = ours ? fault_of(K_PREADV2) : 0;
	if (ours)
		fault_note_size(iov, (size_t)count);
	return vectored_with(fault, real, fd, iov, count, offset, flags);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	KEEP_REAL(pwritev2);
	int fault = FROM_LIBRARY ? fault_of(K_PWRITEV2) : 0;
	return vectored_with(fault, real, fd, iov, count, offset, flags);
}

ssize_t pread(int fd, void *data, size_t length, off_t offset)
{
	KEEP_REAL(pread);
	bool ours = FROM_LIBRARY;
	int fault = ours ? fault_of(K_PREAD) : 0;
	if (ours)
		fault_note_size(&(struct iovec){ .iov_len = length }, 1);
	if (fault > 0) {
		errno = fault;
		return -1;
	}
	return real(fd, data, fault == SHORT ? (length + 1) / 2 : length, offset);
}

ssize_t write(int fd, const void *data, size_t length)
{
	KEEP_REAL(write);
	/* Eight bytes go to an eventfd, which takes them always. */
	int fault = FROM_LIBRARY && length != 8 ? fault_of(K_WRITE) : 0;
	if (fault > 0) {
		errno = fault;
		return -1;
	}
	/* Up to PIPE_BUF goes whole or not at all (pipe(7)). */
	return real(fd, data, fault == SHORT && length > PIPE_BUF ? (length + 1) / 2 : length);
}

ssize_t read(int fd, void *data, size_t length)
{
	KEEP_REAL(read);
	if (length == 8)
		MAY_FAIL(K_READ_EVENTFD);
	return real(fd, data, length);
}

off_t lseek(int fd, off_t offset, int whence)
{
	KEEP_REAL(lseek);
	MAY_FAIL(K_LSEEK);
	return real(fd, offset, whence);
}

#endif
