/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * snapsend sends a range of a file to a stream socket as one asynchronous operation.  It reports
 * completion only when no later change to the file can change what goes over the wire,
 * retransmissions included.
 *
 * Generated from src/ffi/mod.rs by cbindgen: do not edit.
 *
 * Conventions
 *   - A function returns 0 or a positive count on success and -errno on failure, and does not
 *     change errno.  Only snapsend_sendfile() follows sendfile(2): it returns -1 and sets errno.
 *   - Each struct is passed with its size, as in openat2(2).
 *     Input: a shorter struct, from an older caller, is extended with zeros.  A longer one is
 *     accepted if the tail unknown to this library is all zero, otherwise the call fails with
 *     -E2BIG.
 *     Output: at most the given size is written; a longer tail is zeroed.
 *     Both: -EINVAL if smaller than the first published version.
 *   - A zero-initialised struct is valid wherever defaults make sense.
 *   - Unknown flag bits give -EINVAL.
 *   - NULL for a required pointer gives -EFAULT.  The ids of the submit functions may be NULL.
 *     Other pointers must be valid, as everywhere in C.  Only snapsend_sendfile() reports an
 *     invalid offset pointer, with EFAULT.
 *   - Submit reports errors in the arguments and descriptors of the wrong kind.  The completion
 *     reports errors of the connection and of the state of the file.
 *   - Any thread may call any function at any time, except that no thread may use a context
 *     during or after snapsend_destroy().
 *   - After fork(2), calls on an inherited context give -ECHILD in the child, except for
 *     snapsend_destroy(), which frees the child's copy and returns 0.
 *   - snapsend_poll() is a cancellation point (pthreads(7)).  A thread that is cancelled in it has
 *     taken no completion.  No other function is a cancellation point.
 *   - No function raises SIGPIPE, except snapsend_sendfile(), which raises it as sendfile(2) does.
 */

#ifndef SNAPSEND_H
#define SNAPSEND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
/* The version of this header; snapsend_version() returns that of the loaded library. */
#define SNAPSEND_VERSION_MAJOR 0
#define SNAPSEND_VERSION_MINOR 1
#define SNAPSEND_VERSION_PATCH 0
#define SNAPSEND_VERSION \
    (SNAPSEND_VERSION_MAJOR << 16 | SNAPSEND_VERSION_MINOR << 8 | SNAPSEND_VERSION_PATCH)

/**
 * io_uring where it is available, otherwise the portable engine.  The environment variable
 * SNAPSEND_ENGINE (auto, uring, portable) overrides this value only; any other value of the
 * variable gives -EINVAL.
 */
#define SNAPSEND_ENGINE_AUTO 0u

/**
 * io_uring.  Where it is not available, snapsend_create() fails with the kernel's errno.
 */
#define SNAPSEND_ENGINE_URING 1u

/**
 * The portable engine: epoll and plain system calls.
 */
#define SNAPSEND_ENGINE_PORTABLE 2u

/**
 * As length: the range extends to the end of the file, which is determined when the operation
 * starts.  An offset beyond the end gives an empty range.  If the file shrinks later, the
 * operation ends early with status 0; with ZEROCOPY it gives -ENODATA if bytes that are cut off
 * were in the socket already.
 */
#define SNAPSEND_TO_EOF UINT64_MAX

/**
 * Takes the snapshot at the disk's pace, not the peer's, as far as pool_bytes allows.  A range
 * beyond exact_max is cloned, see EXACT; if it cannot be cloned, the operation continues as far as
 * the pool allows.
 */
#define SNAPSEND_EAGER (1u << 0)

/**
 * Sends no byte before the whole range has been snapshotted.  If the file is too short, nothing
 * is sent.  The operation waits for room in the pool; timeout_ms runs during that wait.  As with
 * EAGER, the file is read as soon as there is room, even while earlier operations on the same
 * socket are in flight.  A file that is too short may therefore be reported before those are
 * done.
 *
 * A range beyond exact_max is not read into the pool but cloned (FICLONERANGE), where the file
 * system shares extents: XFS with reflink, btrfs, and others by trying.  A helper thread has dirty
 * pages written, then clones the range at one instant into an unnamed file, see snapshot_dir;
 * SNAPSHOT comes then.  A store through a shared mapping during the clone may be in it or not.  A
 * file that can never be cloned gives -EMSGSIZE from submit, as far as that is known by then.  If
 * the clone fails (no permission, no space, quota, RLIMIT_FSIZE, a read-only mount), DONE has
 * -EMSGSIZE, and nothing was sent.
 *
 * Content that cannot change is neither kept nor cloned: SNAPSHOT comes at once, for any length.
 */
#define SNAPSEND_EXACT (1u << 1)

/**
 * Also reports SNAPSEND_EVENT_SNAPSHOT.  Ignored by calls that return DONE directly.
 */
#define SNAPSEND_NOTIFY_SNAPSHOT (1u << 2)

/**
 * Fills up a short file with zeros.  With EXACT or TO_EOF: -EINVAL.
 */
#define SNAPSEND_ZERO_PAD (1u << 3)

/**
 * More data follows on this socket (MSG_MORE).
 */
#define SNAPSEND_MORE (1u << 4)

/**
 * Sends the file's cached pages themselves where the kernel does so without a copy: to peers on
 * other machines, with io_uring and Linux 6.2 or newer.  Then nothing is copied, and DONE comes
 * when the peer has acknowledged the last byte; until then the file should not change.  Where that
 * cannot be, the operation goes as without the flag.  With EAGER or EXACT: -EINVAL.
 * snapsend_send() and what snapsend_try_send() does on the calling thread ignore it.
 *
 * An operation that is cancelled or times out, or whose context is destroyed, waits up to a second
 * for the acknowledgement.  After that its connection is reset.
 *
 * If the file is cut before DONE, zeros may have been sent in place of the bytes behind its new end.
 * The operation then ends with -ENODATA, with TO_EOF, too.
 */
#define SNAPSEND_ZEROCOPY (1u << 5)

/**
 * Also reports SNAPSEND_EVENT_SENT.  Ignored by calls that return DONE directly.
 */
#define SNAPSEND_NOTIFY_SENT (1u << 6)

/**
 * file_fd is a handle that snapsend_register_file() returned.
 */
#define SNAPSEND_REGISTERED_FILE (1u << 7)

/**
 * socket_fd is a handle that snapsend_register_socket() returned.
 */
#define SNAPSEND_REGISTERED_SOCKET (1u << 8)

/**
 * The operation has ended: the last completion of an operation, exactly one for each.
 */
#define SNAPSEND_EVENT_DONE 0u

/**
 * The file may change from now on; DONE follows.
 */
#define SNAPSEND_EVENT_SNAPSHOT 1u

/**
 * All bytes are in the socket: other data may be sent there, or its writing side shut down.  At
 * most once, before DONE.  The file should not change yet unless SNAPSHOT has come.
 */
#define SNAPSEND_EVENT_SENT 2u

/**
 * Some file data was copied into socket buffers.
 */
#define SNAPSEND_WAS_COPIED (1u << 0)

/**
 * Some file data was sent from memory, or from the page cache, without a copy.
 */
#define SNAPSEND_WAS_ZEROCOPY (1u << 1)

/**
 * Zeros replace the missing end of the file.
 */
#define SNAPSEND_WAS_PADDED (1u << 2)

/**
 * The operation was done on the calling thread.
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
 * Notifications report whether data was copied (Linux 6.2).
 */
#define SNAPSEND_KERNEL_ZC_REPORT_USAGE (UINT64_C(1) << 2)

/**
 * Never set by this version, which does not use IORING_SETUP_DEFER_TASKRUN.
 */
#define SNAPSEND_KERNEL_DEFER_TASKRUN (UINT64_C(1) << 3)

/**
 * The pool's memory can be registered with the ring (Linux 5.19).
 */
#define SNAPSEND_KERNEL_REGISTERED_BUFFERS (UINT64_C(1) << 4)

/**
 * cachestat(2) (Linux 6.5), judged by the kernel's version.
 */
#define SNAPSEND_KERNEL_CACHESTAT (UINT64_C(1) << 5)

/**
 * A context: one ring thread and the operations in flight on it.
 */
struct snapsend;

/**
 * Options of snapsend_create().  All zero: the defaults.
 */
struct snapsend_options {
    /**
     * Reserved, must be 0: no flag is defined yet.
     */
    uint32_t flags;
    /**
     * SNAPSEND_ENGINE_*.
     */
    uint32_t engine;
    /**
     * Maximum number of operations whose DONE has not been taken, at most 1048576; 0 selects
     * 65536.  Beyond it submit gives -EAGAIN.
     */
    uint32_t max_ops;
    /**
     * Reserved, must be 0.
     */
    uint32_t reserved0;
    /**
     * Maximum private memory for file data, headers and trailers, in bytes, at least 65536; 0
     * selects 32 MiB.  An eighth of it is for headers and trailers.  Three quarters of the rest
     * are for data that is kept (EAGER, EXACT, zero-copy).  At least two pages: where a page has 64
     * KiB, less than 131072 counts as 131072.
     */
    uint64_t pool_bytes;
    /**
     * Maximum number of bytes that one kernel request moves, at least 4096; 0: the library
     * chooses.
     */
    uint64_t chunk_bytes;
    /**
     * Maximum address space for windows of files that are sent with SNAPSEND_ZEROCOPY, in bytes,
     * at least 4096; 0: the library chooses.  A window has whole pages.
     */
    uint64_t window_bytes;
    /**
     * The directory in which unnamed files for clones are made (EAGER and EXACT beyond exact_max),
     * as an absolute path.  It must be on the file system of the files, before Linux 5.18 on the
     * same mount, and the context's threads must be allowed to create files there; otherwise
     * nothing is cloned.  Nothing is left behind in it, however an operation or the process ends.
     * The string is copied; the path is resolved for each clone.  NULL: the directory of each file,
     * which /proc names.  A relative or an empty path: -EINVAL.
     */
    const char *snapshot_dir;
};

/**
 * The name of a context in C.
 */
typedef struct snapsend snapsend_t;

/**
 * One operation: sends a header, then a range of a file, then a trailer to a socket.
 */
struct snapsend_request {
    /**
     * A connected stream socket, blocking or non-blocking; its mode is never changed.
     */
    int32_t socket_fd;
    /**
     * A regular file or block device, open for reading.  -1: no file; length must then be 0.
     */
    int32_t file_fd;
    /**
     * Start of the range in the file, in bytes.  The file position is not used.
     */
    uint64_t offset;
    /**
     * Length of the range in bytes, or SNAPSEND_TO_EOF.
     */
    uint64_t length;
    /**
     * Copied before submit returns.  Header and trailer have at most IOV_MAX (1024) entries each
     * and 1 MiB together; beyond that -EMSGSIZE.
     */
    const struct iovec *header;
    /**
     * As for the header.
     */
    const struct iovec *trailer;
    /**
     * Number of entries of the header.
     */
    uint32_t header_count;
    /**
     * Number of entries of the trailer.
     */
    uint32_t trailer_count;
    /**
     * SNAPSEND_EAGER ...; an unknown bit gives -EINVAL.
     */
    uint32_t flags;
    /**
     * Time limit of the whole operation, from submit on, in milliseconds; 0: no limit.
     */
    uint32_t timeout_ms;
    /**
     * Returned with each completion.
     */
    uint64_t user_data;
};

/**
 * A report on an operation.  Its size is 64 bytes in every version.
 *
 * status: 0: header, whole range and trailer are in the socket.  Otherwise:
 *
 * -ENODATA: the file ended before the range did; with ZEROCOPY also if the file became shorter
 *   before the peer had acknowledged all bytes: zeros may have been sent.
 * -ECANCELED: the operation was cancelled, by the caller or by snapsend_destroy(), or an earlier
 *   operation on the same socket failed part-way.  The latter applies to every operation
 *   submitted before the DONE of the failed one has been taken with snapsend_poll().  Or the
 *   connection was reset because another operation with ZEROCOPY was ended early.
 * -ETIMEDOUT: timeout_ms expired, or the kernel gave up the connection (TCP_USER_TIMEOUT,
 *   keepalive).
 * -ECONNABORTED: the socket was destroyed from outside (ss -K).
 * -EBADF: the process closed the context's own descriptor.
 * -EMFILE: the ring thread's descriptor table was full, also when a handle arrived there.
 * -EMSGSIZE: the range is longer than exact_max, and the file could not be cloned for EXACT.
 * -EPIPE, -ECONNRESET, -EIO, ...: from the kernel.
 *
 * wire_bytes == 0 means that nothing was sent: the stream is untouched, and the caller may send
 * a different answer.  After a failure with wire_bytes > 0 the stream ends part-way and must be
 * closed.
 */
struct snapsend_completion {
    /**
     * The id that submit returned.
     */
    uint64_t id;
    /**
     * The user_data of the request.
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
 * The configuration of a context.
 */
struct snapsend_info {
    /**
     * SNAPSEND_VERSION of the loaded library.
     */
    uint32_t version;
    /**
     * The engine in use: SNAPSEND_ENGINE_URING or SNAPSEND_ENGINE_PORTABLE.
     */
    uint32_t engine;
    /**
     * Why io_uring is not in use (-errno); 0 if it is in use or was not requested.
     */
    int32_t engine_errno;
    /**
     * As set by snapsend_create().
     */
    uint32_t max_ops;
    /**
     * As set by snapsend_create().
     */
    uint64_t pool_bytes;
    /**
     * The longest range that EAGER and EXACT keep in the pool as a whole, in bytes.  A longer one is
     * cloned; if that is not possible, EXACT gives -EMSGSIZE.
     */
    uint64_t exact_max;
    /**
     * A set of SNAPSEND_KERNEL_* bits.
     */
    uint64_t kernel_features;
};

/**
 * Counters since creation, except for the gauges at the end.  Each DONE is counted in exactly one
 * of done_ok, done_error and cancelled.
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
     * DONE with any other status except -ECANCELED.
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
     * File data sent from memory, or from the page cache, without a copy, in bytes.
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
     * Notifications which report that the kernel copied the data after all.
     */
    uint64_t zerocopy_copied_anyway;
    /**
     * How often the ring thread entered the kernel to submit requests or to collect
     * their results.
     */
    uint64_t kernel_enters;
    /**
     * How often the ring thread was woken.
     */
    uint64_t wakeups;
    /**
     * Gauge: operations in flight, that is, accepted and not yet done.
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
     * Gauge, for the whole process: io_urings of destroyed contexts, kept open until peers have
     * acknowledged what was sent without a copy; at most 16.
     */
    uint64_t rings_kept;
    /**
     * File data sent with zero-copy straight from the page cache, in bytes; bytes_zerocopy counts
     * it, too.
     */
    uint64_t bytes_page_cache;
    /**
     * File data sent by reference because its content cannot change, in bytes; bytes_zerocopy
     * counts it, too.
     */
    uint64_t bytes_frozen;
    /**
     * Snapshots of ranges beyond exact_max, taken by cloning (EAGER, EXACT).
     */
    uint64_t snapshots_cloned;
    /**
     * Connections that were reset to keep later changes of a file off the wire: an operation with
     * SNAPSEND_ZEROCOPY ended early, and the peer did not acknowledge its bytes in time.
     */
    uint64_t connections_reset;
    /**
     * Gauge: address space in use for windows of files, in bytes.
     */
    uint64_t window_bytes;
    /**
     * Gauge: what copies of ranges from 128 KiB on cost from a mapping, in nanoseconds of processor
     * time for each MiB; 0 until one was measured.
     */
    uint64_t copy_mapped_ns_per_mib;
    /**
     * Gauge: the same for copies through a buffer, 64 KiB at a time.
     */
    uint64_t copy_64k_ns_per_mib;
    /**
     * Gauge: the same, 256 KiB at a time.
     */
    uint64_t copy_256k_ns_per_mib;
    /**
     * Gauge: the same, 1 MiB at a time.
     */
    uint64_t copy_1m_ns_per_mib;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Creates a context and starts its ring thread.
 *
 * options may be NULL for the defaults.  On success *out is the context, which
 * snapsend_destroy() frees.  On failure *out is not written.
 *
 * -EFAULT: out is NULL.
 * -E2BIG, -EINVAL: options_size, see the conventions.
 * -EINVAL: an option is out of range.
 * -ENOMEM, -EMFILE, -EAGAIN: no memory, no descriptor (the context keeps one open) or no thread
 *   is available.
 * -EPERM, -ENOSYS and others: io_uring was requested and is refused; or the kernel gives the
 *   thread no descriptor table of its own (close_range(2), Linux 5.9, or unshare(2)).
 */
int snapsend_create(const struct snapsend_options *options, size_t options_size, snapsend_t **out);

/**
 * Refuses new work, cancels what is in flight, waits until the kernel holds no memory or
 * descriptor of the context, and frees it.  Completions that were not taken are lost.  What is
 * registered is unregistered.  Operations with SNAPSEND_ZEROCOPY may make it wait for their peers,
 * see there.
 *
 * A call on a file may never return (a dead disk or file server).  snapsend_destroy() waits 0.2
 * seconds for it.  After that, the helper thread in that call, the memory it reads into, its copy
 * of the file and the library's code stay until the call returns.
 *
 * In a forked child it closes and frees the child's copy of the context.
 *
 * -EFAULT: ctx is NULL.
 */
int snapsend_destroy(snapsend_t *ctx);

/**
 * Queues an operation and returns at once.  The caller keeps the descriptors open until the
 * operation's DONE.  Within one context, operations on one socket go out whole and in the order
 * submitted; two descriptors of the same socket count as one socket.
 *
 * id may be NULL.  Otherwise *id is written before any thread can see a completion with it.
 *
 * -EFAULT: ctx, request, or an iovec array with entries is NULL.
 * -E2BIG, -EINVAL: request_size, see the conventions.
 * -EINVAL: a flag is unknown, flags contradict each other, the offset is beyond the largest
 *   possible file, a length is given without a file, or the file is neither regular nor a block
 *   device.
 * -EISDIR: the file is a directory.
 * -EOVERFLOW: offset plus length is beyond the largest possible file.
 * -EMSGSIZE: header and trailer are too long, or the range is longer than exact_max and the file can
 *   change and cannot be cloned for EXACT.
 * -EBADF: a descriptor is closed, the file is not open for reading, or the process has closed the
 *   context's own descriptor.
 * -ENOTSOCK, -ESOCKTNOSUPPORT, -ENOTCONN: the descriptor is not a socket, not a stream socket, or
 *   a listening socket.
 * -EAGAIN: max_ops operations are in flight, or headers and trailers fill their part of the pool.
 *   Take completions and try again.
 * -EMFILE: the ring thread holds as many descriptors as RLIMIT_NOFILE allows.
 * -ETOOMANYREFS: for one second, more descriptors of this user have been in messages between
 *   processes and threads than RLIMIT_NOFILE allows.
 * -ENOMEM, -ENOBUFS: the system is out of memory, or the kernel has none to pass the descriptors
 *   on.
 * -EIO, ...: the context has failed.
 * -ECHILD: the context belongs to a parent process.
 */
int snapsend_submit(snapsend_t *ctx,
                    const struct snapsend_request *request,
                    size_t request_size,
                    uint64_t *id);

/**
 * Queues an array of count requests, each request_size bytes long, as snapsend_submit() does one.
 * Returns the number of requests queued, counted from the first, or -errno if none was queued.  A
 * count of 0 gives 0.  ids may be NULL; otherwise it has room for count ids.
 */
int snapsend_submit_many(snapsend_t *ctx,
                         const struct snapsend_request *requests,
                         size_t request_size,
                         uint32_t count,
                         uint64_t *ids);

/**
 * Takes up to max completions.  Waits up to timeout_ms for the first one; 0: does not wait, -1:
 * waits indefinitely.  Returns the number taken, 0 if the time expired, or -errno.
 *
 * -EFAULT: ctx or out is NULL.
 * -EINVAL: max is 0, or timeout_ms is below -1.
 * -EINTR: a signal handler ran.
 * -EBADF, -EIO, ...: the context has failed (see snapsend_submit()), and all its completions have
 *   been taken.
 * -ECHILD: the context belongs to a parent process.
 */
int snapsend_poll(snapsend_t *ctx, struct snapsend_completion *out, uint32_t max, int timeout_ms);

/**
 * Returns a descriptor for poll, epoll, select, tevent, libevent and libuv.  It is readable while
 * completions wait.  On rare occasions it is readable without a completion; snapsend_poll() clears
 * that.  The descriptor belongs to the context: the caller never reads, writes or closes it.
 *
 * -EFAULT: ctx is NULL.
 * -EBADF: the process has closed the descriptor.
 * -ENOMEM, -ENOBUFS: the system is out of memory.
 * -EIO, ...: the context has failed.
 * -ECHILD: the context belongs to a parent process.
 */
int snapsend_event_fd(snapsend_t *ctx);

/**
 * Requests the end of an operation.  0: the operation will end with -ECANCELED, or with the status
 * that it reached first.  One DONE follows in either case; with SNAPSEND_ZEROCOPY it may take a
 * second, and the connection may be reset.
 *
 * -ENOENT: the operation has ended already or never existed.
 * -EFAULT: ctx is NULL.
 * -ENOMEM, -ENOBUFS: the system is out of memory.
 * -ECHILD: the context belongs to a parent process.
 * -EBADF, -EIO, ...: the context has failed.
 */
int snapsend_cancel(snapsend_t *ctx, uint64_t id);

/**
 * Does the same for all operations on the socket that socket_fd refers to at this moment.  Returns
 * the number of operations.
 *
 * -EBADF, -ENOTSOCK: the descriptor is closed or not a socket.
 * Others as for snapsend_cancel().
 */
int snapsend_cancel_socket(snapsend_t *ctx, int socket_fd);

/**
 * Registers a file with the context.  The library keeps a copy of the descriptor until it is
 * unregistered or the context is destroyed, checks it once, and may keep parts of the file mapped.
 * Operations then name the file by its handle, with SNAPSEND_REGISTERED_FILE, which saves the
 * hand-over of a descriptor each time.  What the calling thread does itself (snapsend_try_send(),
 * snapsend_send()) uses the caller's number, which must stay what it is while registered.
 *
 * flags must be 0.  Returns the handle, which is greater than 0.
 *
 * -EFAULT: ctx is NULL.
 * -EINVAL: flags is not 0, or file_fd is neither a regular file nor a block device.
 * -EISDIR: file_fd is a directory.
 * -EBADF: file_fd is closed or not open for reading, or the context has failed.
 * -EMFILE, -ETOOMANYREFS, -ENOMEM, -ENOBUFS, -EIO, ...: as for snapsend_submit().
 * -ECHILD: the context belongs to a parent process.
 */
int snapsend_register_file(snapsend_t *ctx, int file_fd, uint32_t flags);

/**
 * Registers a socket, as snapsend_register_file() does a file; requests name it with
 * SNAPSEND_REGISTERED_SOCKET.  Operations through a handle and through a descriptor of the same
 * socket go out in one order.  The connection stays open until it is unregistered, also if the
 * caller closes its descriptor: an epoll(7) that watches it continues to do so until
 * EPOLL_CTL_DEL.
 *
 * -EFAULT: ctx is NULL.
 * -EINVAL: flags is not 0.
 * -EBADF: socket_fd is closed, or the context has failed.
 * -ENOTSOCK, -ESOCKTNOSUPPORT, -ENOTCONN, -EMFILE, -ETOOMANYREFS, -ENOMEM, -ENOBUFS, -EIO, ...: as
 *   for snapsend_submit().
 * -ECHILD: the context belongs to a parent process.
 */
int snapsend_register_socket(snapsend_t *ctx, int socket_fd, uint32_t flags);

/**
 * Unregisters a file.  New operations with this handle give -EBADF from now on.  Those in flight
 * go on; after the last one the ring thread closes its copy, which may be after this call has
 * returned.
 *
 * -EBADF: it is not the handle of a registered file.
 * -EFAULT: ctx is NULL.
 * -ECHILD: the context belongs to a parent process.
 */
int snapsend_unregister_file(snapsend_t *ctx, int file);

/**
 * Unregisters a socket, as snapsend_unregister_file() does a file.
 */
int snapsend_unregister_socket(snapsend_t *ctx, int socket);

/**
 * Does the whole operation on the calling thread if that is possible without waiting.  As with
 * send(2), the descriptors must not change while the call runs.  An operation that is queued has
 * copies of its own.
 *
 * 1: the operation is done.  *completion is its DONE; no completion follows through
 * snapsend_poll().
 * 0: the operation is queued as by snapsend_submit(), with the id in completion->id.  Bytes that
 * were sent already count in its DONE.
 * -errno: as for snapsend_submit(); *completion is not written.
 * -EFAULT: also if completion is NULL.
 */
int snapsend_try_send(snapsend_t *ctx,
                      const struct snapsend_request *request,
                      size_t request_size,
                      struct snapsend_completion *completion);

/**
 * Submits an operation and waits for its DONE, through any signals.  The completion is returned to
 * this caller only.  Another thread can end the operation with snapsend_cancel_socket().  For the
 * descriptors see snapsend_try_send().
 *
 * 0: *completion is filled in; its status is the outcome.
 * -errno: as for snapsend_submit(); the operation was not accepted.
 */
int snapsend_send(snapsend_t *ctx,
                  const struct snapsend_request *request,
                  size_t request_size,
                  struct snapsend_completion *completion);

/**
 * Behaves exactly as sendfile(2), with one promise more where out_fd is a stream socket or a pipe:
 * when it returns n, no later change to the file can change those n bytes.  For other pairs of
 * descriptors it calls sendfile(2).  Like sendfile(2), it is not a cancellation point.
 *
 * Returns the number of bytes sent, or -1 with errno set as by sendfile(2).
 */
ssize_t snapsend_sendfile(int out_fd, int in_fd, off_t *offset, size_t count);

/**
 * Fills in *out with the configuration of the context.  At most out_size bytes are written; a
 * longer tail is zeroed.
 *
 * -EFAULT: ctx or out is NULL.
 * -EINVAL: out_size is smaller than in the first published version.
 * -ECHILD: the context belongs to a parent process.
 */
int snapsend_get_info(snapsend_t *ctx, struct snapsend_info *out, size_t out_size);

/**
 * Fills in *out with the counters of the context.  Pointers and errors as for snapsend_get_info().
 */
int snapsend_get_stats(snapsend_t *ctx, struct snapsend_stats *out, size_t out_size);

/**
 * Returns the version of the loaded library: major << 16 | minor << 8 | patch.
 */
uint32_t snapsend_version(void);

/**
 * Returns the same as text, which stays valid indefinitely.
 */
const char *snapsend_version_string(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SNAPSEND_H */
