/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * snapsend: sends a range of a file to a stream socket as one asynchronous operation, and reports
 * its completion only when no later change to the file can change what goes over the wire.
 *
 * Generated from src/ffi/mod.rs by cbindgen: do not edit.
 *
 * Conventions
 *   - Every function returns 0 or a positive count on success and -errno on failure, and leaves
 *     errno alone.  snapsend_sendfile() alone follows sendfile(2): -1 and errno.
 *   - Structs passed in come with their size, as openat2(2) does it: a shorter struct from an
 *     older caller is zero-extended, a longer one is accepted when the tail that this library does
 *     not know is all zero, otherwise -E2BIG.  Shorter than in the first version: -EINVAL.
 *     Structs filled in: at most their size is written, a longer tail is zeroed, shorter than in
 *     the first version gives -EINVAL.
 *   - A zero-initialised struct is valid wherever defaults make sense.
 *   - Unknown flag bits give -EINVAL.  NULL where a pointer is needed gives -EFAULT; the ids of
 *     submit may be NULL when the caller does not want them.  Other pointers must be valid, as
 *     everywhere in C, but for snapsend_sendfile()'s offset, which gives EFAULT.
 *   - What is wrong with the arguments or the kind of a descriptor is said by submit; what is
 *     wrong with the connection or the file's state is said by the completion.
 *   - All functions may be called from any thread at any time, except that nothing may be called
 *     on a context during or after snapsend_destroy().
 *   - After fork, each call on an inherited context gives -ECHILD in the child, but for
 *     snapsend_destroy(), which frees what the child has of it and returns 0.
 *   - snapsend_poll() is a cancellation point (pthreads(7)), and a thread that is cancelled in it has
 *     taken no completion.  No other function is one.
 *   - No function raises SIGPIPE, but for snapsend_sendfile(), as sendfile(2) does.
 */

#ifndef SNAPSEND_H
#define SNAPSEND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
/* The version of this header; snapsend_version() tells that of the library loaded. */
#define SNAPSEND_VERSION_MAJOR 0
#define SNAPSEND_VERSION_MINOR 1
#define SNAPSEND_VERSION_PATCH 0
#define SNAPSEND_VERSION \
    (SNAPSEND_VERSION_MAJOR << 16 | SNAPSEND_VERSION_MINOR << 8 | SNAPSEND_VERSION_PATCH)

/**
 * io_uring where it works, else portable.  The environment variable SNAPSEND_ENGINE (auto,
 * uring, portable) overrides this choice only; another value there gives -EINVAL.
 */
#define SNAPSEND_ENGINE_AUTO 0u

/**
 * io_uring, or fail with the kernel's errno.
 */
#define SNAPSEND_ENGINE_URING 1u

/**
 * epoll and plain system calls.
 */
#define SNAPSEND_ENGINE_PORTABLE 2u

/**
 * As length: up to the end of the file, taken when the operation starts; an offset past it is
 * an empty range, later shrinking ends it early with status 0.
 */
#define SNAPSEND_TO_EOF UINT64_MAX

/**
 * Snapshot at the disk's pace, not the peer's, as far as pool_bytes allows.
 */
#define SNAPSEND_EAGER (1u << 0)

/**
 * No byte is sent before the whole range has been snapshotted; a short file sends nothing.
 * Waits for room in the pool; timeout_ms runs meanwhile.  As with EAGER, the file is read as soon
 * as there is room, also while operations ahead of it on the same socket are not done: a file that
 * is too short may be told before they are.
 */
#define SNAPSEND_EXACT (1u << 1)

/**
 * Also report SNAPSEND_EVENT_SNAPSHOT; ignored where DONE is handed to the caller directly.
 */
#define SNAPSEND_NOTIFY_SNAPSHOT (1u << 2)

/**
 * A short file is filled up with zeros; with EXACT or TO_EOF: -EINVAL.
 */
#define SNAPSEND_ZERO_PAD (1u << 3)

/**
 * More data follows on this socket (MSG_MORE).
 */
#define SNAPSEND_MORE (1u << 4)

/**
 * The last word on an operation: exactly one each.
 */
#define SNAPSEND_EVENT_DONE 0u

/**
 * The file may change from here on; DONE still follows.
 */
#define SNAPSEND_EVENT_SNAPSHOT 1u

/**
 * Some file data was copied into socket buffers.
 */
#define SNAPSEND_WAS_COPIED (1u << 0)

/**
 * Some was sent from memory without a copy.
 */
#define SNAPSEND_WAS_ZEROCOPY (1u << 1)

/**
 * Zeros stand in for a missing end of the file.
 */
#define SNAPSEND_WAS_PADDED (1u << 2)

/**
 * Done on the calling thread.
 */
#define SNAPSEND_WAS_INLINE (1u << 3)

/**
 * io_uring is in use.
 */
#define SNAPSEND_KERNEL_IO_URING (UINT64_C(1) << 0)

/**
 * Zero-copy sends (IORING_OP_SEND_ZC, Linux 6.0).
 */
#define SNAPSEND_KERNEL_SEND_ZC (UINT64_C(1) << 1)

/**
 * Notifications say whether data was copied (Linux 6.2).
 */
#define SNAPSEND_KERNEL_ZC_REPORT_USAGE (UINT64_C(1) << 2)

/**
 * Never set by this version: IORING_SETUP_DEFER_TASKRUN is not used any more.
 */
#define SNAPSEND_KERNEL_DEFER_TASKRUN (UINT64_C(1) << 3)

/**
 * The pool's memory can be registered with the ring (Linux 5.19).
 */
#define SNAPSEND_KERNEL_REGISTERED_BUFFERS (UINT64_C(1) << 4)

/**
 * cachestat(2) (Linux 6.5), by the kernel's version.
 */
#define SNAPSEND_KERNEL_CACHESTAT (UINT64_C(1) << 5)

/**
 * A context: one ring thread and what is in flight there.
 */
struct snapsend;

/**
 * How a context is made.  All zero: defaults.
 */
struct snapsend_options {
    /**
     * None defined yet: 0.
     */
    uint32_t flags;
    /**
     * SNAPSEND_ENGINE_*.
     */
    uint32_t engine;
    /**
     * Operations whose DONE has not been taken, at most 1048576; 0: 65536.  Past it submit gives
     * -EAGAIN.
     */
    uint32_t max_ops;
    /**
     * 0.
     */
    uint32_t reserved0;
    /**
     * Most private memory for file data, headers and trailers, in bytes, at least 65536; 0: 32
     * MiB.  An eighth is for headers and trailers, and of the rest three quarters for data that
     * is kept (EAGER, EXACT, zero-copy).
     */
    uint64_t pool_bytes;
    /**
     * Most bytes moved by one kernel request, at least 4096; 0: chosen by the library.
     */
    uint64_t chunk_bytes;
};

/**
 * The context's name in C.
 */
typedef struct snapsend snapsend_t;

/**
 * One operation: header, then a range of a file, then a trailer, to a socket.
 */
struct snapsend_request {
    /**
     * Stream socket, blocking or not; the mode is never changed.
     */
    int32_t socket_fd;
    /**
     * Regular file or block device, open for reading; -1: no file, then length must be 0.
     */
    int32_t file_fd;
    /**
     * Of the range, in the file, in bytes; the file position is not used.
     */
    uint64_t offset;
    /**
     * Bytes of the range, or SNAPSEND_TO_EOF.
     */
    uint64_t length;
    /**
     * Copied before submit returns: at most IOV_MAX (1024) entries each and 1 MiB of both
     * together, past it -EMSGSIZE.
     */
    const struct iovec *header;
    /**
     * As the header.
     */
    const struct iovec *trailer;
    /**
     * Entries of the header.
     */
    uint32_t header_count;
    /**
     * Entries of the trailer.
     */
    uint32_t trailer_count;
    /**
     * SNAPSEND_EAGER ...; an unknown bit gives -EINVAL.
     */
    uint32_t flags;
    /**
     * For the whole operation, from submit on, in milliseconds; 0: none.
     */
    uint32_t timeout_ms;
    /**
     * Handed back with each completion.
     */
    uint64_t user_data;
};

/**
 * What is said of an operation: 64 bytes, in every version.
 *
 * status: 0: header, whole range and trailer are in the socket.  -ENODATA: the file ended before
 * the range did.  -ECANCELED: cancelled, by the caller, by destroy, or because an operation
 * ahead of it on the same socket was cut off part-way (this holds for every operation submitted
 * before the DONE that tells of the cut has been taken by poll).  -ETIMEDOUT: timeout_ms ran
 * out, or the kernel gave up the connection (TCP_USER_TIMEOUT, keepalive).  -ECONNABORTED: the
 * socket was destroyed from outside (ss -K).  -EBADF: the host closed the library's own descriptor.  -EMFILE: the ring thread's
 * descriptor table was full.  -EMSGSIZE: a file has grown past what EXACT takes since submit.
 * -EPIPE, -ECONNRESET, -EIO, ...: from the kernel.
 *
 * wire_bytes == 0 tells that the stream is untouched and the caller may answer otherwise; after
 * a failure with wire_bytes > 0 the stream is cut off part-way and must be closed.
 */
struct snapsend_completion {
    /**
     * As submit gave it.
     */
    uint64_t id;
    /**
     * As the request had it.
     */
    uint64_t user_data;
    /**
     * Bytes of the range (padding included) put into the socket so far.
     */
    uint64_t file_bytes;
    /**
     * All bytes put into the socket so far, header and trailer included.
     */
    uint64_t wire_bytes;
    /**
     * 0 or -errno, see above.
     */
    int32_t status;
    /**
     * SNAPSEND_EVENT_*.
     */
    uint32_t event;
    /**
     * SNAPSEND_WAS_*.
     */
    uint32_t flags;
    /**
     * 0.
     */
    uint32_t reserved[5];
};

/**
 * What a context is made of.
 */
struct snapsend_info {
    /**
     * SNAPSEND_VERSION of the library loaded.
     */
    uint32_t version;
    /**
     * The engine in use, SNAPSEND_ENGINE_URING or SNAPSEND_ENGINE_PORTABLE.
     */
    uint32_t engine;
    /**
     * Why io_uring is not in use (-errno); 0 when it is, or was not asked for.
     */
    int32_t engine_errno;
    /**
     * As made.
     */
    uint32_t max_ops;
    /**
     * As made.
     */
    uint64_t pool_bytes;
    /**
     * Longest range that SNAPSEND_EXACT takes, in bytes; past it submit gives -EMSGSIZE.
     */
    uint64_t exact_max;
    /**
     * Bit set, SNAPSEND_KERNEL_*.
     */
    uint64_t kernel_features;
};

/**
 * Counters since create, but for the gauges at the end; each DONE counts in exactly one of
 * done_ok, done_error, cancelled.
 */
struct snapsend_stats {
    /**
     * Operations accepted.
     */
    uint64_t submitted;
    /**
     * DONE with status 0.
     */
    uint64_t done_ok;
    /**
     * DONE with another status.
     */
    uint64_t done_error;
    /**
     * DONE with -ECANCELED.
     */
    uint64_t cancelled;
    /**
     * Bytes of ranges put into sockets.
     */
    uint64_t file_bytes;
    /**
     * All bytes put into sockets.
     */
    uint64_t wire_bytes;
    /**
     * File data copied into socket buffers, in bytes.
     */
    uint64_t bytes_copied;
    /**
     * File data sent from memory without a copy, in bytes.
     */
    uint64_t bytes_zerocopy;
    /**
     * File data sent by the calling thread, in bytes.
     */
    uint64_t bytes_inline;
    /**
     * Notifications of zero-copy sends.
     */
    uint64_t zerocopy_notified;
    /**
     * Those of them that said that the kernel copied all the same.
     */
    uint64_t zerocopy_copied_anyway;
    /**
     * How often the ring thread entered the kernel with or for requests.
     */
    uint64_t kernel_enters;
    /**
     * How often the ring thread was woken from its sleep.
     */
    uint64_t wakeups;
    /**
     * Gauge: operations accepted and not yet done.
     */
    uint64_t in_flight;
    /**
     * Gauge: bytes of private memory in use.
     */
    uint64_t pool_in_use;
    /**
     * Gauge: bytes of private memory held from the system.
     */
    uint64_t pool_resident;
    /**
     * Gauge, of the whole process: io_urings of destroyed contexts that are kept until peers have
     * acknowledged what was sent without a copy, at most 16.
     */
    uint64_t rings_kept;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Makes a context and starts its ring thread.
 *
 * options may be NULL for defaults.  On success *out is the context, to be given back with
 * snapsend_destroy(); otherwise it is not written.
 *
 * -EFAULT: out is NULL.  -E2BIG, -EINVAL: options_size, see the conventions; or an option is out
 * of range.  -ENOMEM, -EMFILE, -EAGAIN: no memory, descriptor (one stays open) or thread can be
 * had.  -EPERM, -ENOSYS and others: io_uring was asked for and is refused, or the kernel gives
 * the thread no descriptor table of its own (close_range(2), Linux 5.9, or unshare(2)).
 */
int snapsend_create(const struct snapsend_options *options, size_t options_size, snapsend_t **out);

/**
 * Refuses new work, cancels what is in flight, waits until the kernel holds no memory or
 * descriptor of the context, frees it.  Unread completions are lost.  For a call on a file that
 * does not come back (a dead disk or file server) it waits 0.2 seconds: then the helper thread
 * with that call, the memory it reads into, its copy of the file and the library's code stay until
 * it comes back.
 *
 * In a forked child it closes and frees what the child has of the context.  -EFAULT: ctx is NULL.
 */
int snapsend_destroy(snapsend_t *ctx);

/**
 * Queues an operation and returns at once.  The caller keeps the descriptors open until its
 * DONE completion.  Within one context, operations on one socket go out whole and in the order
 * submitted; two descriptors of the same socket count as one.
 *
 * id may be NULL; otherwise *id is written before anybody can see a completion with it.
 *
 * -EFAULT: ctx, request, or an iovec array with entries is NULL.  -E2BIG, -EINVAL: request_size,
 * see the conventions.  -EINVAL: unknown or contradicting flags, an offset beyond what files
 * have, a length without a file, a file that is neither regular nor a block device.  -EISDIR: it
 * is a directory.  -EOVERFLOW: offset and length together.  -EMSGSIZE: header and trailer, or
 * an EXACT range, are too long.  -EBADF: a descriptor is closed, or the file is not open for
 * reading, or the host has closed the context's own descriptor.  -ENOTSOCK, -ESOCKTNOSUPPORT,
 * -ENOTCONN: no socket, no stream socket, a listening one.  -EAGAIN: max_ops operations are in
 * flight, or headers and trailers fill their part of the pool: take completions and try again.
 * -EMFILE: the ring thread holds as many descriptors as RLIMIT_NOFILE allows.  -ENOMEM: the system
 * gives no memory.  -ECHILD: after fork, in the child.
 */
int snapsend_submit(snapsend_t *ctx,
                    const struct snapsend_request *request,
                    size_t request_size,
                    uint64_t *id);

/**
 * The same for an array of count requests, each request_size bytes long; returns how many of
 * them, from the first on, were queued, or -errno when none was (count 0: 0).  ids may be NULL
 * or has room for count ids.
 */
int snapsend_submit_many(snapsend_t *ctx,
                         const struct snapsend_request *requests,
                         size_t request_size,
                         uint32_t count,
                         uint64_t *ids);

/**
 * Takes up to max completions; waits for the first one up to timeout_ms (0: not at all, -1: for
 * ever).  Returns how many, 0 when the time ran out, or -errno.
 *
 * -EFAULT: ctx or out is NULL.  -EINVAL: max is 0, or timeout_ms is below -1.  -EINTR: a signal
 * handler ran.  -EBADF, -EIO, ...: the context is beyond use (see submit), and all its completions have
 * been taken.  -ECHILD: after fork, in the child.
 */
int snapsend_poll(snapsend_t *ctx,
                  struct snapsend_completion *out,
                  uint32_t max,
                  int timeout_ms);

/**
 * A descriptor for poll, epoll, select, tevent, libevent and libuv: readable while completions
 * wait (and, rarely, once in vain; snapsend_poll() clears it).  It belongs to the context: never
 * read, write or close it.
 *
 * -EFAULT: ctx is NULL.  -EBADF: the host has closed it.  -ECHILD: after fork, in the child.
 */
int snapsend_event_fd(snapsend_t *ctx);

/**
 * Asks for an end.  0: the operation will end with -ECANCELED, or with what it reached first.
 * -ENOENT: it has ended already or never was.  One DONE comes in any case where 0 is returned.
 *
 * -EFAULT: ctx is NULL.  -ENOMEM: the system gives no memory.  -ECHILD: after fork, in the child.
 * -EBADF, -EIO, ...: the context is beyond use.
 */
int snapsend_cancel(snapsend_t *ctx, uint64_t id);

/**
 * The same for all operations on the socket that this descriptor refers to now; returns how many
 * there were.
 *
 * -EBADF, -ENOTSOCK: the descriptor is closed or no socket.  Others as snapsend_cancel().
 */
int snapsend_cancel_socket(snapsend_t *ctx, int socket_fd);

/**
 * Does the whole operation on the calling thread if it can be done without waiting.  As with
 * send(2), the descriptors must stay what they are while the call runs; what it queues has copies
 * of its own.
 *
 * 1: done, *completion is its DONE and none comes through poll.  0: queued as by submit,
 * completion->id says under which id (what already went out counts).  -errno: as submit;
 * *completion is not written.  completion may not be NULL (-EFAULT).
 */
int snapsend_try_send(snapsend_t *ctx,
                      const struct snapsend_request *request,
                      size_t request_size,
                      struct snapsend_completion *completion);

/**
 * Submits and waits, through any signals; the completion goes to the caller alone.  Returns 0
 * when *completion is filled (look at its status), -errno as submit when the operation was not
 * accepted.  Another thread can end it with snapsend_cancel_socket().  Descriptors as for
 * snapsend_try_send().
 */
int snapsend_send(snapsend_t *ctx,
                  const struct snapsend_request *request,
                  size_t request_size,
                  struct snapsend_completion *completion);

/**
 * sendfile(2), to the letter, with one promise more where out_fd is a stream socket or a pipe:
 * when it returns n, no later change to the file can change those n bytes.  Other pairs of
 * descriptors are passed on to sendfile(2).  As that, it is no cancellation point.
 *
 * Returns the number of bytes sent, or -1 with errno set as by sendfile(2).
 */
ssize_t snapsend_sendfile(int out_fd, int in_fd, off_t *offset, size_t count);

/**
 * What the context is made of.  At most out_size bytes are written, a longer tail is zeroed.
 *
 * -EFAULT: ctx or out is NULL.  -EINVAL: out_size is less than in the first version.  -ECHILD:
 * after fork, in the child.
 */
int snapsend_get_info(snapsend_t *ctx, struct snapsend_info *out, size_t out_size);

/**
 * What it has done so far.  Pointers and errors as for snapsend_get_info().
 */
int snapsend_get_stats(snapsend_t *ctx, struct snapsend_stats *out, size_t out_size);

/**
 * The version of the library loaded: major << 16 | minor << 8 | patch.
 */
uint32_t snapsend_version(void);

/**
 * The same as text, for ever valid.
 */
const char *snapsend_version_string(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SNAPSEND_H */
