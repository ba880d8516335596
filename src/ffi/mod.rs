// SPDX-License-Identifier: MIT OR Apache-2.0
//! The C edge: pointers and sizes in, errno out.  No logic, and no panic leaves it.

#![allow(non_camel_case_types)]
// The conventions at the head of snapsend.h state the requirements for all pointers.
#![allow(clippy::missing_safety_doc)]

mod allocator;
/// cbindgen:ignore
mod cancellation;
mod copy;

use crate::caller::poll::PollStep;
use crate::caller::sendfile;
use crate::collections::memory;
use crate::context::{Context, TrySend};
use crate::sys::{self, CallerOffset, KeepErrno};
use crate::types::completion::{Completion, CompletionFlags, Event};
use crate::types::errno::{Errno, Result};
use crate::types::feature::KernelFeatures;
use crate::types::handle::Handle;
use crate::types::options::{EngineChoice, Options};
use crate::types::request::{Descriptor, Request, RequestFlags, TO_EOF};
use cancellation::{Step, Wait};
use copy::{copy_in, copy_out};
use libc::{c_char, c_int, c_void, iovec, off_t, size_t, ssize_t};
use std::ffi::{CStr, OsStr};
use std::io::IoSlice;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

// Runs when the library is unloaded or the process ends.
#[used]
#[unsafe(link_section = ".fini_array")]
static UNLOADED: extern "C" fn() = unloaded;

extern "C" fn unloaded() {
    sendfile::trim();
    crate::engine::kept::close_all();
}

/// A context: one ring thread and the operations in flight on it.
pub struct snapsend {
    context: Context,
}

/// The name of a context in C.
pub type snapsend_t = snapsend;

/// io_uring where it is available, otherwise the portable engine.  The environment variable
/// SNAPSEND_ENGINE (auto, uring, portable) overrides this value only; any other value of the
/// variable gives -EINVAL.
pub const SNAPSEND_ENGINE_AUTO: u32 = 0;
/// io_uring.  Where it is not available, snapsend_create() fails with the kernel's errno.
pub const SNAPSEND_ENGINE_URING: u32 = 1;
/// The portable engine: epoll and plain system calls.
pub const SNAPSEND_ENGINE_PORTABLE: u32 = 2;

/// Options of snapsend_create().  All zero: the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct snapsend_options {
    /// Reserved, must be 0: no flag is defined yet.
    pub flags: u32,
    /// SNAPSEND_ENGINE_*.
    pub engine: u32,
    /// Maximum number of operations whose DONE has not been taken, at most 1048576; 0 selects
    /// 65536.  Beyond it submit gives -EAGAIN.
    pub max_ops: u32,
    /// Reserved, must be 0.
    pub reserved0: u32,
    /// Maximum private memory for file data, headers and trailers, in bytes, at least 65536; 0
    /// selects 32 MiB.  An eighth of it is for headers and trailers.  Three quarters of the rest
    /// are for data that is kept (EAGER, EXACT, zero-copy).  At least two pages: where a page has 64
    /// KiB, less than 131072 counts as 131072.
    pub pool_bytes: u64,
    /// Maximum number of bytes that one kernel request moves, at least 4096; 0: the library
    /// chooses.
    pub chunk_bytes: u64,
    /// Maximum address space for windows of files that are sent with SNAPSEND_ZEROCOPY, in bytes,
    /// at least 4096; 0: the library chooses.  A window has whole pages.
    pub window_bytes: u64,
    /// The directory in which unnamed files for clones are made (EAGER and EXACT beyond exact_max),
    /// as an absolute path.  It must be on the file system of the files, before Linux 5.18 on the
    /// same mount, and the context's threads must be allowed to create files there; otherwise
    /// nothing is cloned.  Nothing is left behind in it, however an operation or the process ends.
    /// The string is copied; the path is resolved for each clone.  NULL: the directory of each file,
    /// which /proc names.  A relative or an empty path: -EINVAL.
    pub snapshot_dir: *const c_char,
}

/// As length: the range extends to the end of the file, which is determined when the operation
/// starts.  An offset beyond the end gives an empty range.  If the file shrinks later, the
/// operation ends early with status 0; with ZEROCOPY it gives -ENODATA if bytes that are cut off
/// were in the socket already.
pub const SNAPSEND_TO_EOF: u64 = u64::MAX;

/// Takes the snapshot at the disk's pace, not the peer's, as far as pool_bytes allows.  A range
/// beyond exact_max is cloned, see EXACT; if it cannot be cloned, the operation continues as far as
/// the pool allows.
pub const SNAPSEND_EAGER: u32 = 1 << 0;
/// Sends no byte before the whole range has been snapshotted.  If the file is too short, nothing
/// is sent.  The operation waits for room in the pool; timeout_ms runs during that wait.  As with
/// EAGER, the file is read as soon as there is room, even while earlier operations on the same
/// socket are in flight.  A file that is too short may therefore be reported before those are
/// done.
///
/// A range beyond exact_max is not read into the pool but cloned (FICLONERANGE), where the file
/// system shares extents: XFS with reflink, btrfs, and others by trying.  A helper thread has dirty
/// pages written, then clones the range at one instant into an unnamed file, see snapshot_dir;
/// SNAPSHOT comes then.  A store through a shared mapping during the clone may be in it or not.  A
/// file that can never be cloned gives -EMSGSIZE from submit, as far as that is known by then.  If
/// the clone fails (no permission, no space, quota, RLIMIT_FSIZE, a read-only mount), DONE has
/// -EMSGSIZE, and nothing was sent.
///
/// Content that cannot change is neither kept nor cloned: SNAPSHOT comes at once, for any length.
pub const SNAPSEND_EXACT: u32 = 1 << 1;
/// Also reports SNAPSEND_EVENT_SNAPSHOT.  Ignored by calls that return DONE directly.
pub const SNAPSEND_NOTIFY_SNAPSHOT: u32 = 1 << 2;
/// Fills up a short file with zeros.  With EXACT or TO_EOF: -EINVAL.
pub const SNAPSEND_ZERO_PAD: u32 = 1 << 3;
/// More data follows on this socket (MSG_MORE).
pub const SNAPSEND_MORE: u32 = 1 << 4;

/// Sends the file's cached pages themselves where the kernel does so without a copy: to peers on
/// other machines, with io_uring and Linux 6.2 or newer.  Then nothing is copied, and DONE comes
/// when the peer has acknowledged the last byte; until then the file should not change.  Where that
/// cannot be, the operation goes as without the flag.  With EAGER or EXACT: -EINVAL.
/// snapsend_send() and what snapsend_try_send() does on the calling thread ignore it.
///
/// An operation that is cancelled or times out, or whose context is destroyed, waits up to a second
/// for the acknowledgement.  After that its connection is reset.
///
/// If the file is cut before DONE, zeros may have been sent in place of the bytes behind its new end.
/// The operation then ends with -ENODATA, with TO_EOF, too.
pub const SNAPSEND_ZEROCOPY: u32 = 1 << 5;
/// Also reports SNAPSEND_EVENT_SENT.  Ignored by calls that return DONE directly.
pub const SNAPSEND_NOTIFY_SENT: u32 = 1 << 6;
/// file_fd is a handle that snapsend_register_file() returned.
pub const SNAPSEND_REGISTERED_FILE: u32 = 1 << 7;
/// socket_fd is a handle that snapsend_register_socket() returned.
pub const SNAPSEND_REGISTERED_SOCKET: u32 = 1 << 8;

/// One operation: sends a header, then a range of a file, then a trailer to a socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct snapsend_request {
    /// A connected stream socket, blocking or non-blocking; its mode is never changed.
    pub socket_fd: i32,
    /// A regular file or block device, open for reading.  -1: no file; length must then be 0.
    pub file_fd: i32,
    /// Start of the range in the file, in bytes.  The file position is not used.
    pub offset: u64,
    /// Length of the range in bytes, or SNAPSEND_TO_EOF.
    pub length: u64,
    /// Copied before submit returns.  Header and trailer have at most IOV_MAX (1024) entries each
    /// and 1 MiB together; beyond that -EMSGSIZE.
    pub header: *const iovec,
    /// As for the header.
    pub trailer: *const iovec,
    /// Number of entries of the header.
    pub header_count: u32,
    /// Number of entries of the trailer.
    pub trailer_count: u32,
    /// SNAPSEND_EAGER ...; an unknown bit gives -EINVAL.
    pub flags: u32,
    /// Time limit of the whole operation, from submit on, in milliseconds; 0: no limit.
    pub timeout_ms: u32,
    /// Returned with each completion.
    pub user_data: u64,
}

/// The operation has ended: the last completion of an operation, exactly one for each.
pub const SNAPSEND_EVENT_DONE: u32 = 0;
/// The file may change from now on; DONE follows.
pub const SNAPSEND_EVENT_SNAPSHOT: u32 = 1;
/// All bytes are in the socket: other data may be sent there, or its writing side shut down.  At
/// most once, before DONE.  The file should not change yet unless SNAPSHOT has come.
pub const SNAPSEND_EVENT_SENT: u32 = 2;

/// Some file data was copied into socket buffers.
pub const SNAPSEND_WAS_COPIED: u32 = 1 << 0;
/// Some file data was sent from memory, or from the page cache, without a copy.
pub const SNAPSEND_WAS_ZEROCOPY: u32 = 1 << 1;
/// Zeros replace the missing end of the file.
pub const SNAPSEND_WAS_PADDED: u32 = 1 << 2;
/// The operation was done on the calling thread.
pub const SNAPSEND_WAS_INLINE: u32 = 1 << 3;

/// A report on an operation.  Its size is 64 bytes in every version.
///
/// status: 0: header, whole range and trailer are in the socket.  Otherwise:
///
/// -ENODATA: the file ended before the range did; with ZEROCOPY also if the file became shorter
///   before the peer had acknowledged all bytes: zeros may have been sent.
/// -ECANCELED: the operation was cancelled, by the caller or by snapsend_destroy(), or an earlier
///   operation on the same socket failed part-way.  The latter applies to every operation
///   submitted before the DONE of the failed one has been taken with snapsend_poll().  Or the
///   connection was reset because another operation with ZEROCOPY was ended early.
/// -ETIMEDOUT: timeout_ms expired, or the kernel gave up the connection (TCP_USER_TIMEOUT,
///   keepalive).
/// -ECONNABORTED: the socket was destroyed from outside (ss -K).
/// -EBADF: the process closed the context's own descriptor.
/// -EMFILE: the ring thread's descriptor table was full, also when a handle arrived there.
/// -EMSGSIZE: the range is longer than exact_max, and the file could not be cloned for EXACT.
/// -EPIPE, -ECONNRESET, -EIO, ...: from the kernel.
///
/// wire_bytes == 0 means that nothing was sent: the stream is untouched, and the caller may send
/// a different answer.  After a failure with wire_bytes > 0 the stream ends part-way and must be
/// closed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct snapsend_completion {
    /// The id that submit returned.
    pub id: u64,
    /// The user_data of the request.
    pub user_data: u64,
    /// Bytes of the range (padding included) put into the socket so far.
    pub file_bytes: u64,
    /// All bytes put into the socket so far, header and trailer included.
    pub wire_bytes: u64,
    /// 0 or -errno, see above.
    pub status: i32,
    /// SNAPSEND_EVENT_*.
    pub event: u32,
    /// SNAPSEND_WAS_*.
    pub flags: u32,
    /// 0.
    pub reserved: [u32; 5],
}

/// io_uring is in use.
pub const SNAPSEND_KERNEL_IO_URING: u64 = 1 << 0;
/// Zero-copy sends (IORING_OP_SEND_ZC, Linux 6.0).
pub const SNAPSEND_KERNEL_SEND_ZC: u64 = 1 << 1;
/// Notifications report whether data was copied (Linux 6.2).
pub const SNAPSEND_KERNEL_ZC_REPORT_USAGE: u64 = 1 << 2;
/// Never set by this version, which does not use IORING_SETUP_DEFER_TASKRUN.
pub const SNAPSEND_KERNEL_DEFER_TASKRUN: u64 = 1 << 3;
/// The pool's memory can be registered with the ring (Linux 5.19).
pub const SNAPSEND_KERNEL_REGISTERED_BUFFERS: u64 = 1 << 4;
/// cachestat(2) (Linux 6.5), judged by the kernel's version.
pub const SNAPSEND_KERNEL_CACHESTAT: u64 = 1 << 5;

/// The configuration of a context.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct snapsend_info {
    /// SNAPSEND_VERSION of the loaded library.
    pub version: u32,
    /// The engine in use: SNAPSEND_ENGINE_URING or SNAPSEND_ENGINE_PORTABLE.
    pub engine: u32,
    /// Why io_uring is not in use (-errno); 0 if it is in use or was not requested.
    pub engine_errno: i32,
    /// As set by snapsend_create().
    pub max_ops: u32,
    /// As set by snapsend_create().
    pub pool_bytes: u64,
    /// The longest range that EAGER and EXACT keep in the pool as a whole, in bytes.  A longer one is
    /// cloned; if that is not possible, EXACT gives -EMSGSIZE.
    pub exact_max: u64,
    /// A set of SNAPSEND_KERNEL_* bits.
    pub kernel_features: u64,
}

/// Counters since creation, except for the gauges at the end.  Each DONE is counted in exactly one
/// of done_ok, done_error and cancelled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct snapsend_stats {
    /// Operations accepted.
    pub submitted: u64,
    /// DONE with status 0.
    pub done_ok: u64,
    /// DONE with any other status except -ECANCELED.
    pub done_error: u64,
    /// DONE with -ECANCELED.
    pub cancelled: u64,
    /// Bytes of ranges put into sockets.
    pub file_bytes: u64,
    /// All bytes put into sockets.
    pub wire_bytes: u64,
    /// File data copied into socket buffers, in bytes.
    pub bytes_copied: u64,
    /// File data sent from memory, or from the page cache, without a copy, in bytes.
    pub bytes_zerocopy: u64,
    /// File data sent by the calling thread, in bytes.
    pub bytes_inline: u64,
    /// Notifications of zero-copy sends.
    pub zerocopy_notified: u64,
    /// Notifications which report that the kernel copied the data after all.
    pub zerocopy_copied_anyway: u64,
    /// How often the ring thread entered the kernel to submit requests or to collect
    /// their results.
    pub kernel_enters: u64,
    /// How often the ring thread was woken.
    pub wakeups: u64,
    /// Gauge: operations in flight, that is, accepted and not yet done.
    pub in_flight: u64,
    /// Gauge: bytes of private memory in use.
    pub pool_in_use: u64,
    /// Gauge: bytes of private memory held from the system.
    pub pool_resident: u64,
    /// Gauge, for the whole process: io_urings of destroyed contexts, kept open until peers have
    /// acknowledged what was sent without a copy; at most 16.
    pub rings_kept: u64,
    /// File data sent with zero-copy straight from the page cache, in bytes; bytes_zerocopy counts
    /// it, too.
    pub bytes_page_cache: u64,
    /// File data sent by reference because its content cannot change, in bytes; bytes_zerocopy
    /// counts it, too.
    pub bytes_frozen: u64,
    /// Snapshots of ranges beyond exact_max, taken by cloning (EAGER, EXACT).
    pub snapshots_cloned: u64,
    /// Connections that were reset to keep later changes of a file off the wire: an operation with
    /// SNAPSEND_ZEROCOPY ended early, and the peer did not acknowledge its bytes in time.
    pub connections_reset: u64,
    /// Gauge: address space in use for windows of files, in bytes.
    pub window_bytes: u64,
    /// Gauge: what copies of ranges from 128 KiB on cost from a mapping, in nanoseconds of processor
    /// time for each MiB; 0 until one was measured.
    pub copy_mapped_ns_per_mib: u64,
    /// Gauge: the same for copies through a buffer, 64 KiB at a time.
    pub copy_64k_ns_per_mib: u64,
    /// Gauge: the same, 256 KiB at a time.
    pub copy_256k_ns_per_mib: u64,
    /// Gauge: the same, 1 MiB at a time.
    pub copy_1m_ns_per_mib: u64,
}

// The values of the header are those of the Rust interface.
const _: () = {
    assert!(SNAPSEND_TO_EOF == TO_EOF);
    assert!(SNAPSEND_EAGER == RequestFlags::EAGER.bits());
    assert!(SNAPSEND_EXACT == RequestFlags::EXACT.bits());
    assert!(SNAPSEND_NOTIFY_SNAPSHOT == RequestFlags::NOTIFY_SNAPSHOT.bits());
    assert!(SNAPSEND_ZERO_PAD == RequestFlags::ZERO_PAD.bits());
    assert!(SNAPSEND_MORE == RequestFlags::MORE.bits());
    assert!(SNAPSEND_ZEROCOPY == RequestFlags::ZEROCOPY.bits());
    assert!(SNAPSEND_NOTIFY_SENT == RequestFlags::NOTIFY_SENT.bits());
    assert!(
        RequestFlags::all().bits() & (SNAPSEND_REGISTERED_FILE | SNAPSEND_REGISTERED_SOCKET) == 0
    );
    assert!(SNAPSEND_WAS_COPIED == CompletionFlags::WAS_COPIED.bits());
    assert!(SNAPSEND_WAS_ZEROCOPY == CompletionFlags::WAS_ZEROCOPY.bits());
    assert!(SNAPSEND_WAS_PADDED == CompletionFlags::WAS_PADDED.bits());
    assert!(SNAPSEND_WAS_INLINE == CompletionFlags::WAS_INLINE.bits());
    assert!(SNAPSEND_KERNEL_IO_URING == KernelFeatures::IO_URING.bits());
    assert!(SNAPSEND_KERNEL_SEND_ZC == KernelFeatures::SEND_ZC.bits());
    assert!(SNAPSEND_KERNEL_ZC_REPORT_USAGE == KernelFeatures::ZC_REPORT_USAGE.bits());
    assert!(SNAPSEND_KERNEL_DEFER_TASKRUN == KernelFeatures::DEFER_TASKRUN.bits());
    assert!(SNAPSEND_KERNEL_REGISTERED_BUFFERS == KernelFeatures::REGISTERED_BUFFERS.bits());
    assert!(SNAPSEND_KERNEL_CACHESTAT == KernelFeatures::CACHESTAT.bits());
};

// Runs the body of a call: errors become -errno, errno stays unchanged, panics end here.
fn fenced(body: impl FnOnce() -> Result<c_int>) -> c_int {
    let _errno = KeepErrno::new();
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => error.negative(),
        Err(_) => -libc::EIO,
    }
}

// The same for calls on a context.  A panic makes the context unusable.
fn fenced_on(ctx: *mut snapsend_t, body: impl FnOnce(&Context) -> Result<c_int>) -> c_int {
    fenced(|| {
        // SAFETY: C passes null or a context that snapsend_create() made and snapsend_destroy()
        // has not freed.
        let context = unsafe { ctx.as_ref() }.map(|ctx| &ctx.context).ok_or(FAULT)?;
        let done = catch_unwind(AssertUnwindSafe(|| body(context)));
        done.unwrap_or_else(|_| {
            context.poison();
            Err(Errno(libc::EIO))
        })
    })
}

// A whole call: fenced, and not a cancellation point.
#[inline(always)]
fn call(body: impl FnOnce() -> Result<c_int>) -> c_int {
    cancellation::without(|| fenced(body))
}

#[inline(always)]
fn call_on(ctx: *mut snapsend_t, body: impl FnOnce(&Context) -> Result<c_int>) -> c_int {
    cancellation::without(|| fenced_on(ctx, body))
}

const FAULT: Errno = Errno(libc::EFAULT);

/// Creates a context and starts its ring thread.
///
/// options may be NULL for the defaults.  On success *out is the context, which
/// snapsend_destroy() frees.  On failure *out is not written.
///
/// -EFAULT: out is NULL.
/// -E2BIG, -EINVAL: options_size, see the conventions.
/// -EINVAL: an option is out of range.
/// -ENOMEM, -EMFILE, -EAGAIN: no memory, no descriptor (the context keeps one open) or no thread
///   is available.
/// -EPERM, -ENOSYS and others: io_uring was requested and is refused; or the kernel gives the
///   thread no descriptor table of its own (close_range(2), Linux 5.9, or unshare(2)).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_create(
    options: *const snapsend_options,
    options_size: size_t,
    out: *mut *mut snapsend_t,
) -> c_int {
    call(|| {
        if out.is_null() {
            return Err(FAULT);
        }
        let options = if options.is_null() {
            Options::default()
        } else {
            // SAFETY: C passes options_size readable bytes.
            unsafe { options_from(copy_in(options, options_size)?) }?
        };
        let context = Context::new(&options)?;
        // SAFETY: not null, so valid for a write.
        unsafe { out.write(Box::into_raw(Box::new(snapsend { context }))) };
        Ok(0)
    })
}

/// # Safety
/// snapshot_dir is null or a C string.
unsafe fn options_from(options: snapsend_options) -> Result<Options> {
    if options.flags != 0 || options.reserved0 != 0 {
        return Err(Errno(libc::EINVAL));
    }
    let engine = match options.engine {
        SNAPSEND_ENGINE_AUTO => EngineChoice::Auto,
        SNAPSEND_ENGINE_URING => EngineChoice::Uring,
        SNAPSEND_ENGINE_PORTABLE => EngineChoice::Portable,
        _ => return Err(Errno(libc::EINVAL)),
    };
    Ok(Options {
        engine,
        max_ops: options.max_ops,
        pool_bytes: options.pool_bytes,
        chunk_bytes: options.chunk_bytes,
        window_bytes: options.window_bytes,
        // SAFETY: as promised by the caller.
        snapshot_dir: unsafe { path_from(options.snapshot_dir) },
    })
}

/// # Safety
/// `path` is null or a C string.
unsafe fn path_from(path: *const c_char) -> Option<PathBuf> {
    if path.is_null() {
        return None;
    }
    // SAFETY: as promised by the caller.
    let path = unsafe { CStr::from_ptr(path) };
    Some(Path::new(OsStr::from_bytes(path.to_bytes())).to_path_buf())
}

/// Refuses new work, cancels what is in flight, waits until the kernel holds no memory or
/// descriptor of the context, and frees it.  Completions that were not taken are lost.  What is
/// registered is unregistered.  Operations with SNAPSEND_ZEROCOPY may make it wait for their peers,
/// see there.
///
/// A call on a file may never return (a dead disk or file server).  snapsend_destroy() waits 0.2
/// seconds for it.  After that, the helper thread in that call, the memory it reads into, its copy
/// of the file and the library's code stay until the call returns.
///
/// In a forked child it closes and frees the child's copy of the context.
///
/// -EFAULT: ctx is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_destroy(ctx: *mut snapsend_t) -> c_int {
    call(|| {
        if ctx.is_null() {
            return Err(FAULT);
        }
        // SAFETY: snapsend_create() made it with Box, and C does not use it again.
        drop(unsafe { Box::from_raw(ctx) });
        Ok(0)
    })
}

/// # Safety
/// The iovec arrays are null or have as many valid entries as their counts say, for 'a.
unsafe fn request_from<'a>(request: &snapsend_request) -> Result<Request<'a>> {
    // SAFETY: as promised by the caller.
    let (header, trailer) = unsafe {
        (
            slices(request.header, request.header_count)?,
            slices(request.trailer, request.trailer_count)?,
        )
    };
    let timeout = Duration::from_millis(request.timeout_ms.into());
    let timeout = (!timeout.is_zero()).then_some(timeout);
    let is_registered = |flag| request.flags & flag != 0;
    let file = (request.file_fd != -1).then_some(request.file_fd);
    let file_registered = is_registered(SNAPSEND_REGISTERED_FILE);
    let file = file.map(|file| Descriptor::from_number(file, file_registered)).transpose()?;
    let socket_registered = is_registered(SNAPSEND_REGISTERED_SOCKET);
    let flags = request.flags & !(SNAPSEND_REGISTERED_FILE | SNAPSEND_REGISTERED_SOCKET);
    Ok(Request {
        socket: Descriptor::from_number(request.socket_fd, socket_registered)?,
        file,
        offset: request.offset,
        length: request.length,
        header,
        trailer,
        flags: RequestFlags::from_bits_retain(flags),
        timeout,
        user_data: request.user_data,
    })
}

/// # Safety
/// As for request_from().
unsafe fn slices<'a>(iovecs: *const iovec, count: u32) -> Result<&'a [IoSlice<'a>]> {
    if count == 0 {
        return Ok(&[]);
    }
    if count as usize > crate::handoff::staging::IOVECS_MAX {
        return Err(Errno(libc::EMSGSIZE));
    }
    if iovecs.is_null() {
        return Err(FAULT);
    }
    // SAFETY: C passes count valid entries.  IoSlice has the layout of iovec, and only
    // sys::gather() reads it, which allows empty entries with any address.
    Ok(unsafe { std::slice::from_raw_parts(iovecs.cast(), count as usize) })
}

/// Queues an operation and returns at once.  The caller keeps the descriptors open until the
/// operation's DONE.  Within one context, operations on one socket go out whole and in the order
/// submitted; two descriptors of the same socket count as one socket.
///
/// id may be NULL.  Otherwise *id is written before any thread can see a completion with it.
///
/// -EFAULT: ctx, request, or an iovec array with entries is NULL.
/// -E2BIG, -EINVAL: request_size, see the conventions.
/// -EINVAL: a flag is unknown, flags contradict each other, the offset is beyond the largest
///   possible file, a length is given without a file, or the file is neither regular nor a block
///   device.
/// -EISDIR: the file is a directory.
/// -EOVERFLOW: offset plus length is beyond the largest possible file.
/// -EMSGSIZE: header and trailer are too long, or the range is longer than exact_max and the file can
///   change and cannot be cloned for EXACT.
/// -EBADF: a descriptor is closed, the file is not open for reading, or the process has closed the
///   context's own descriptor.
/// -ENOTSOCK, -ESOCKTNOSUPPORT, -ENOTCONN: the descriptor is not a socket, not a stream socket, or
///   a listening socket.
/// -EAGAIN: max_ops operations are in flight, or headers and trailers fill their part of the pool.
///   Take completions and try again.
/// -EMFILE: the ring thread holds as many descriptors as RLIMIT_NOFILE allows.
/// -ETOOMANYREFS: for one second, more descriptors of this user have been in messages between
///   processes and threads than RLIMIT_NOFILE allows.
/// -ENOMEM, -ENOBUFS: the system is out of memory, or the kernel has none to pass the descriptors
///   on.
/// -EIO, ...: the context has failed.
/// -ECHILD: the context belongs to a parent process.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_submit(
    ctx: *mut snapsend_t,
    request: *const snapsend_request,
    request_size: size_t,
    id: *mut u64,
) -> c_int {
    call_on(ctx, |context| {
        context.check_process()?;
        // SAFETY: C passes request_size readable bytes with valid pointers.
        let request = unsafe { request_from(&copy_in(request, request_size)?) }?;
        // SAFETY: C passes null or a valid pointer.
        context.submit_with_id(&request, &mut |given| unsafe { write_id(id, 0, given) })?;
        Ok(0)
    })
}

/// # Safety
/// `ids` is null or valid for `index + 1` numbers.
unsafe fn write_id(ids: *mut u64, index: usize, id: u64) {
    if !ids.is_null() {
        // SAFETY: as promised by the caller.
        unsafe { ids.add(index).write(id) };
    }
}

/// Queues an array of count requests, each request_size bytes long, as snapsend_submit() does one.
/// Returns the number of requests queued, counted from the first, or -errno if none was queued.  A
/// count of 0 gives 0.  ids may be NULL; otherwise it has room for count ids.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_submit_many(
    ctx: *mut snapsend_t,
    requests: *const snapsend_request,
    request_size: size_t,
    count: u32,
    ids: *mut u64,
) -> c_int {
    call_on(ctx, |context| {
        context.check_process()?;
        let count = count.min(c_int::MAX as u32) as usize;
        let mut queued = 0;
        while queued < count {
            let most = (count - queued).min(GROUP);
            // SAFETY: C passes count requests of request_size bytes each.
            let group = unsafe { request_group(requests, request_size, queued, most) };
            let (group, bad) = group.unwrap_or_else(|error| (Vec::new(), Some(error)));
            let mut index = queued;
            let mut told = |id| {
                // SAFETY: C passes null or room for count ids.
                unsafe { write_id(ids, index, id) };
                index += 1;
            };
            let taken = match group.is_empty() {
                true => Ok(0),
                false => context.submit_many_with_ids(&group, &mut told),
            };
            match taken {
                Ok(taken) => queued += taken,
                Err(error) if queued == 0 => return Err(error),
                Err(_) => break,
            }
            match bad {
                Some(error) if queued == 0 => return Err(error),
                Some(_) => break,
                None if taken != Ok(most) => break,
                None => {}
            }
        }
        Ok(queued as c_int)
    })
}

const GROUP: usize = 64;

/// # Safety
/// `requests` is null or valid for `first + most` requests of `size` bytes each.
unsafe fn request_group<'a>(
    requests: *const snapsend_request,
    size: usize,
    first: usize,
    most: usize,
) -> Result<(Vec<Request<'a>>, Option<Errno>)> {
    let mut group = memory::list(most)?;
    for index in first..first + most {
        let request = requests.cast::<u8>().wrapping_add(index * size).cast();
        let request = if requests.is_null() { requests } else { request };
        // SAFETY: as promised by the caller.
        let request = unsafe { copy_in(request, size).and_then(|request| request_from(&request)) };
        match request {
            Ok(request) => group.push(request),
            Err(error) => return Ok((group, Some(error))),
        }
    }
    Ok((group, None))
}

impl From<Completion> for snapsend_completion {
    fn from(completion: Completion) -> snapsend_completion {
        snapsend_completion {
            id: completion.id,
            user_data: completion.user_data,
            file_bytes: completion.file_bytes,
            wire_bytes: completion.wire_bytes,
            status: completion.status,
            event: match completion.event {
                Event::Done => SNAPSEND_EVENT_DONE,
                Event::Snapshot => SNAPSEND_EVENT_SNAPSHOT,
                Event::Sent => SNAPSEND_EVENT_SENT,
            },
            flags: completion.flags.bits(),
            reserved: [0; 5],
        }
    }
}

/// Takes up to max completions.  Waits up to timeout_ms for the first one; 0: does not wait, -1:
/// waits indefinitely.  Returns the number taken, 0 if the time expired, or -errno.
///
/// -EFAULT: ctx or out is NULL.
/// -EINVAL: max is 0, or timeout_ms is below -1.
/// -EINTR: a signal handler ran.
/// -EBADF, -EIO, ...: the context has failed (see snapsend_submit()), and all its completions have
///   been taken.
/// -ECHILD: the context belongs to a parent process.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_poll(
    ctx: *mut snapsend_t,
    out: *mut snapsend_completion,
    max: u32,
    timeout_ms: c_int,
) -> c_int {
    let mut poll = Poll { ctx, out, max, timeout_ms, deadline: None, waits: false };
    // SAFETY: C does not destroy the context while a call on it runs, and the waits are on the
    // context's completions.
    unsafe {
        cancellation::with_waits(|woken| {
            let mut step = Step::Done(0);
            let result = fenced_on(ctx, |context| {
                step = poll.step(context, woken)?;
                Ok(0)
            });
            if result < 0 { Step::Done(result) } else { step }
        })
    }
}

// One call of snapsend_poll().
struct Poll {
    ctx: *mut snapsend_t,
    out: *mut snapsend_completion,
    max: u32,
    timeout_ms: c_int,
    deadline: Option<Instant>,
    /// The call is registered as waiting.
    waits: bool,
}

impl Poll {
    // Takes the completions there are.  `woken` is the errno of the preceding wait.
    fn step(&mut self, context: &Context, woken: c_int) -> Result<Step> {
        let mut may_wait = self.timeout_ms != 0;
        if std::mem::take(&mut self.waits) {
            context.completions().end_wait();
            match woken {
                0 | libc::EAGAIN => {}
                libc::ETIMEDOUT => may_wait = self.deadline.is_none(),
                error => return Err(Errno(error)),
            }
        } else {
            self.begin(context)?;
        }
        let (out, mut index) = (self.out, 0);
        let max = self.max.min(c_int::MAX as u32) as usize;
        let step = context.poll_step(max, may_wait, |completion| {
            // SAFETY: C passes room for max completions, and at most that many come.
            unsafe { out.add(index).write(completion.into()) };
            index += 1;
        })?;
        match step {
            PollStep::Taken(count) => Ok(Step::Done(count as c_int)),
            PollStep::Wait { sequence } => {
                self.waits = true;
                Ok(Step::Wait(Wait {
                    word: context.completions().sequence(),
                    expected: sequence,
                    until: self.deadline,
                    abandoned: poll_abandoned,
                    argument: self.ctx.cast(),
                }))
            }
        }
    }

    fn begin(&mut self, context: &Context) -> Result<()> {
        context.check_process()?;
        if self.out.is_null() {
            return Err(FAULT);
        }
        self.deadline = match self.timeout_ms {
            -1 => None,
            time if time >= 0 => Some(Instant::now() + Duration::from_millis(time as u64)),
            _ => return Err(Errno(libc::EINVAL)),
        };
        Ok(())
    }
}

/// # Safety
/// `ctx` is a context in which a poll waits.
unsafe extern "C" fn poll_abandoned(ctx: *mut c_void) {
    let abandon = || {
        // SAFETY: as promised by the caller.
        let ctx = unsafe { &*ctx.cast::<snapsend_t>() };
        ctx.context.completions().abandon_wait();
        Ok(0)
    };
    fenced(abandon);
}

/// Returns a descriptor for poll, epoll, select, tevent, libevent and libuv.  It is readable while
/// completions wait.  On rare occasions it is readable without a completion; snapsend_poll() clears
/// that.  The descriptor belongs to the context: the caller never reads, writes or closes it.
///
/// -EFAULT: ctx is NULL.
/// -EBADF: the process has closed the descriptor.
/// -ENOMEM, -ENOBUFS: the system is out of memory.
/// -EIO, ...: the context has failed.
/// -ECHILD: the context belongs to a parent process.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_event_fd(ctx: *mut snapsend_t) -> c_int {
    call_on(ctx, Context::event_fd)
}

/// Requests the end of an operation.  0: the operation will end with -ECANCELED, or with the status
/// that it reached first.  One DONE follows in either case; with SNAPSEND_ZEROCOPY it may take a
/// second, and the connection may be reset.
///
/// -ENOENT: the operation has ended already or never existed.
/// -EFAULT: ctx is NULL.
/// -ENOMEM, -ENOBUFS: the system is out of memory.
/// -ECHILD: the context belongs to a parent process.
/// -EBADF, -EIO, ...: the context has failed.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_cancel(ctx: *mut snapsend_t, id: u64) -> c_int {
    call_on(ctx, |context| context.cancel(id).map(|()| 0))
}

/// Does the same for all operations on the socket that socket_fd refers to at this moment.  Returns
/// the number of operations.
///
/// -EBADF, -ENOTSOCK: the descriptor is closed or not a socket.
/// Others as for snapsend_cancel().
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_cancel_socket(
    ctx: *mut snapsend_t,
    socket_fd: c_int,
) -> c_int {
    call_on(ctx, |context| context.cancel_socket_number(socket_fd).map(|count| count as c_int))
}

/// Registers a file with the context.  The library keeps a copy of the descriptor until it is
/// unregistered or the context is destroyed, checks it once, and may keep parts of the file mapped.
/// Operations then name the file by its handle, with SNAPSEND_REGISTERED_FILE, which saves the
/// hand-over of a descriptor each time.  What the calling thread does itself (snapsend_try_send(),
/// snapsend_send()) uses the caller's number, which must stay what it is while registered.
///
/// flags must be 0.  Returns the handle, which is greater than 0.
///
/// -EFAULT: ctx is NULL.
/// -EINVAL: flags is not 0, or file_fd is neither a regular file nor a block device.
/// -EISDIR: file_fd is a directory.
/// -EBADF: file_fd is closed or not open for reading, or the context has failed.
/// -EMFILE, -ETOOMANYREFS, -ENOMEM, -ENOBUFS, -EIO, ...: as for snapsend_submit().
/// -ECHILD: the context belongs to a parent process.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_register_file(
    ctx: *mut snapsend_t,
    file_fd: c_int,
    flags: u32,
) -> c_int {
    call_on(ctx, |context| {
        context.check_process()?;
        check_no_flags(flags)?;
        context.register_file_number(file_fd).map(|handle| handle.number() as c_int)
    })
}

/// Registers a socket, as snapsend_register_file() does a file; requests name it with
/// SNAPSEND_REGISTERED_SOCKET.  Operations through a handle and through a descriptor of the same
/// socket go out in one order.  The connection stays open until it is unregistered, also if the
/// caller closes its descriptor: an epoll(7) that watches it continues to do so until
/// EPOLL_CTL_DEL.
///
/// -EFAULT: ctx is NULL.
/// -EINVAL: flags is not 0.
/// -EBADF: socket_fd is closed, or the context has failed.
/// -ENOTSOCK, -ESOCKTNOSUPPORT, -ENOTCONN, -EMFILE, -ETOOMANYREFS, -ENOMEM, -ENOBUFS, -EIO, ...: as
///   for snapsend_submit().
/// -ECHILD: the context belongs to a parent process.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_register_socket(
    ctx: *mut snapsend_t,
    socket_fd: c_int,
    flags: u32,
) -> c_int {
    call_on(ctx, |context| {
        context.check_process()?;
        check_no_flags(flags)?;
        context.register_socket_number(socket_fd).map(|handle| handle.number() as c_int)
    })
}

fn check_no_flags(flags: u32) -> Result<()> {
    if flags == 0 { Ok(()) } else { Err(Errno(libc::EINVAL)) }
}

/// Unregisters a file.  New operations with this handle give -EBADF from now on.  Those in flight
/// go on; after the last one the ring thread closes its copy, which may be after this call has
/// returned.
///
/// -EBADF: it is not the handle of a registered file.
/// -EFAULT: ctx is NULL.
/// -ECHILD: the context belongs to a parent process.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_unregister_file(
    ctx: *mut snapsend_t,
    file: c_int,
) -> c_int {
    call_on(ctx, |context| {
        context.check_process()?;
        context.unregister_file(Handle::from_number(file)?).map(|()| 0)
    })
}

/// Unregisters a socket, as snapsend_unregister_file() does a file.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_unregister_socket(
    ctx: *mut snapsend_t,
    socket: c_int,
) -> c_int {
    call_on(ctx, |context| {
        context.check_process()?;
        context.unregister_socket(Handle::from_number(socket)?).map(|()| 0)
    })
}

/// Does the whole operation on the calling thread if that is possible without waiting.  As with
/// send(2), the descriptors must not change while the call runs.  An operation that is queued has
/// copies of its own.
///
/// 1: the operation is done.  *completion is its DONE; no completion follows through
/// snapsend_poll().
/// 0: the operation is queued as by snapsend_submit(), with the id in completion->id.  Bytes that
/// were sent already count in its DONE.
/// -errno: as for snapsend_submit(); *completion is not written.
/// -EFAULT: also if completion is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_try_send(
    ctx: *mut snapsend_t,
    request: *const snapsend_request,
    request_size: size_t,
    completion: *mut snapsend_completion,
) -> c_int {
    call_on(ctx, |context| {
        context.check_process()?;
        if completion.is_null() {
            return Err(FAULT);
        }
        // SAFETY: C passes request_size readable bytes with valid pointers.
        let request = unsafe { request_from(&copy_in(request, request_size)?) }?;
        let user_data = request.user_data;
        let mut queued = |id| {
            let waiting = Completion { id, user_data, ..Completion::default() };
            // SAFETY: not null, so valid for a write.
            unsafe { completion.write(waiting.into()) };
        };
        match context.try_send_with_id(&request, &mut queued)? {
            TrySend::Queued(_) => Ok(0),
            TrySend::Done(done) => {
                // SAFETY: as above.
                unsafe { completion.write(done.into()) };
                Ok(1)
            }
        }
    })
}

/// Submits an operation and waits for its DONE, through any signals.  The completion is returned to
/// this caller only.  Another thread can end the operation with snapsend_cancel_socket().  For the
/// descriptors see snapsend_try_send().
///
/// 0: *completion is filled in; its status is the outcome.
/// -errno: as for snapsend_submit(); the operation was not accepted.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_send(
    ctx: *mut snapsend_t,
    request: *const snapsend_request,
    request_size: size_t,
    completion: *mut snapsend_completion,
) -> c_int {
    call_on(ctx, |context| {
        context.check_process()?;
        if completion.is_null() {
            return Err(FAULT);
        }
        // SAFETY: C passes request_size readable bytes with valid pointers.
        let request = unsafe { request_from(&copy_in(request, request_size)?) }?;
        let done = context.send(&request)?;
        // SAFETY: not null, so valid for a write.
        unsafe { completion.write(done.into()) };
        Ok(0)
    })
}

/// Behaves exactly as sendfile(2), with one promise more where out_fd is a stream socket or a pipe:
/// when it returns n, no later change to the file can change those n bytes.  For other pairs of
/// descriptors it calls sendfile(2).  Like sendfile(2), it is not a cancellation point.
///
/// Returns the number of bytes sent, or -1 with errno set as by sendfile(2).
// A thread with asynchronous cancellation may be unwound from within.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_sendfile(
    out_fd: c_int,
    in_fd: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    // On success errno is restored: a probe may have failed on the way.
    let errno = sys::errno();
    // SAFETY: C passes what it would pass to sendfile(2).
    let offset = unsafe { CallerOffset::new(offset) };
    match sendfile::sendfile_then(out_fd, in_fd, offset, count, |_| ()).result {
        Ok(sent) => {
            sys::set_errno(errno);
            sent as ssize_t
        }
        Err(error) => {
            sys::set_errno(error.0);
            -1
        }
    }
}

/// Fills in *out with the configuration of the context.  At most out_size bytes are written; a
/// longer tail is zeroed.
///
/// -EFAULT: ctx or out is NULL.
/// -EINVAL: out_size is smaller than in the first published version.
/// -ECHILD: the context belongs to a parent process.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_get_info(
    ctx: *mut snapsend_t,
    out: *mut snapsend_info,
    out_size: size_t,
) -> c_int {
    call_on(ctx, |context| {
        let info = context.info()?;
        let info = snapsend_info {
            version: snapsend_version(),
            engine: if info.is_uring { SNAPSEND_ENGINE_URING } else { SNAPSEND_ENGINE_PORTABLE },
            engine_errno: info.engine_error.map_or(0, Errno::negative),
            max_ops: info.max_ops,
            pool_bytes: info.pool_bytes,
            exact_max: info.exact_max,
            kernel_features: info.kernel_features.bits(),
        };
        // SAFETY: C passes null or out_size writable bytes.
        unsafe { copy_out(&info, out, out_size) }
    })
}

/// Fills in *out with the counters of the context.  Pointers and errors as for snapsend_get_info().
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_get_stats(
    ctx: *mut snapsend_t,
    out: *mut snapsend_stats,
    out_size: size_t,
) -> c_int {
    call_on(ctx, |context| {
        let stats = context.stats()?;
        let stats = snapsend_stats {
            submitted: stats.submitted,
            done_ok: stats.done_ok,
            done_error: stats.done_error,
            cancelled: stats.cancelled,
            file_bytes: stats.file_bytes,
            wire_bytes: stats.wire_bytes,
            bytes_copied: stats.bytes_copied,
            bytes_zerocopy: stats.bytes_zerocopy,
            bytes_inline: stats.bytes_inline,
            zerocopy_notified: stats.zerocopy_notified,
            zerocopy_copied_anyway: stats.zerocopy_copied_anyway,
            kernel_enters: stats.kernel_enters,
            wakeups: stats.wakeups,
            in_flight: stats.in_flight,
            pool_in_use: stats.pool_in_use,
            pool_resident: stats.pool_resident,
            rings_kept: stats.rings_kept,
            bytes_page_cache: stats.bytes_page_cache,
            bytes_frozen: stats.bytes_frozen,
            snapshots_cloned: stats.snapshots_cloned,
            connections_reset: stats.connections_reset,
            window_bytes: stats.window_bytes,
            copy_mapped_ns_per_mib: stats.copy_mapped_ns_per_mib,
            copy_64k_ns_per_mib: stats.copy_64k_ns_per_mib,
            copy_256k_ns_per_mib: stats.copy_256k_ns_per_mib,
            copy_1m_ns_per_mib: stats.copy_1m_ns_per_mib,
        };
        // SAFETY: C passes null or out_size writable bytes.
        unsafe { copy_out(&stats, out, out_size) }
    })
}

const fn number(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let mut value = 0;
    let mut index = 0;
    while index < bytes.len() {
        value = value * 10 + (bytes[index] - b'0') as u32;
        index += 1;
    }
    value
}

/// Returns the version of the loaded library: major << 16 | minor << 8 | patch.
#[unsafe(no_mangle)]
pub extern "C" fn snapsend_version() -> u32 {
    number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | number(env!("CARGO_PKG_VERSION_PATCH"))
}

/// Returns the same as text, which stays valid indefinitely.
#[unsafe(no_mangle)]
pub extern "C" fn snapsend_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
