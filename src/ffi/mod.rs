// SPDX-License-Identifier: MIT OR Apache-2.0
//! The C edge: pointers and sizes in, errno out.  No logic, and no panic leaves it.

#![allow(non_camel_case_types)]
// The conventions at the head of snapsend.h say once what all pointers must be.
#![allow(clippy::missing_safety_doc)]

mod allocator;
/// cbindgen:ignore
mod cancellation;
mod copy;

use crate::caller::sendfile;
use crate::collections::memory;
use crate::context::{Context, PollStep, TrySend};
use crate::sys::{self, CallerOffset, KeepErrno};
use crate::types::completion::{Completion, Event};
use crate::types::errno::{Errno, Result};
use crate::types::options::{EngineChoice, Options};
use crate::types::request::Request;
use cancellation::{Step, Wait};
use copy::{copy_in, copy_out};
use libc::{c_char, c_int, c_void, iovec, off_t, size_t, ssize_t};
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

// When the library is unloaded, or the process ends.
#[used]
#[unsafe(link_section = ".fini_array")]
static UNLOADED: extern "C" fn() = unloaded;

extern "C" fn unloaded() {
    sendfile::trim();
    crate::engine::kept::close_all();
}

/// A context: one ring thread and what is in flight there.
pub struct snapsend {
    context: Context,
}

/// The context's name in C.
pub type snapsend_t = snapsend;

/// io_uring where it works, else portable.  The environment variable SNAPSEND_ENGINE (auto,
/// uring, portable) overrides this choice only; another value there gives -EINVAL.
pub const SNAPSEND_ENGINE_AUTO: u32 = 0;
/// io_uring, or fail with the kernel's errno.
pub const SNAPSEND_ENGINE_URING: u32 = 1;
/// epoll and plain system calls.
pub const SNAPSEND_ENGINE_PORTABLE: u32 = 2;

/// How a context is made.  All zero: defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct snapsend_options {
    /// None defined yet: 0.
    pub flags: u32,
    /// SNAPSEND_ENGINE_*.
    pub engine: u32,
    /// Operations whose DONE has not been taken, at most 1048576; 0: 65536.  Past it submit gives
    /// -EAGAIN.
    pub max_ops: u32,
    /// 0.
    pub reserved0: u32,
    /// Most private memory for file data, headers and trailers, in bytes, at least 65536; 0: 32
    /// MiB.  An eighth is for headers and trailers, and of the rest three quarters for data that
    /// is kept (EAGER, EXACT, zero-copy).
    pub pool_bytes: u64,
    /// Most bytes moved by one kernel request, at least 4096; 0: chosen by the library.
    pub chunk_bytes: u64,
}

/// As length: up to the end of the file, taken when the operation starts; an offset past it is
/// an empty range, later shrinking ends it early with status 0.
pub const SNAPSEND_TO_EOF: u64 = u64::MAX;

/// Snapshot at the disk's pace, not the peer's, as far as pool_bytes allows.
pub const SNAPSEND_EAGER: u32 = 1 << 0;
/// No byte is sent before the whole range has been snapshotted; a short file sends nothing.
/// Waits for room in the pool; timeout_ms runs meanwhile.  As with EAGER, the file is read as soon
/// as there is room, also while operations ahead of it on the same socket are not done: a file that
/// is too short may be told before they are.
pub const SNAPSEND_EXACT: u32 = 1 << 1;
/// Also report SNAPSEND_EVENT_SNAPSHOT; ignored where DONE is handed to the caller directly.
pub const SNAPSEND_NOTIFY_SNAPSHOT: u32 = 1 << 2;
/// A short file is filled up with zeros; with EXACT or TO_EOF: -EINVAL.
pub const SNAPSEND_ZERO_PAD: u32 = 1 << 3;
/// More data follows on this socket (MSG_MORE).
pub const SNAPSEND_MORE: u32 = 1 << 4;

/// One operation: header, then a range of a file, then a trailer, to a socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct snapsend_request {
    /// Stream socket, blocking or not; the mode is never changed.
    pub socket_fd: i32,
    /// Regular file or block device, open for reading; -1: no file, then length must be 0.
    pub file_fd: i32,
    /// Of the range, in the file, in bytes; the file position is not used.
    pub offset: u64,
    /// Bytes of the range, or SNAPSEND_TO_EOF.
    pub length: u64,
    /// Copied before submit returns: at most IOV_MAX (1024) entries each and 1 MiB of both
    /// together, past it -EMSGSIZE.
    pub header: *const iovec,
    /// As the header.
    pub trailer: *const iovec,
    /// Entries of the header.
    pub header_count: u32,
    /// Entries of the trailer.
    pub trailer_count: u32,
    /// SNAPSEND_EAGER ...; an unknown bit gives -EINVAL.
    pub flags: u32,
    /// For the whole operation, from submit on, in milliseconds; 0: none.
    pub timeout_ms: u32,
    /// Handed back with each completion.
    pub user_data: u64,
}

/// The last word on an operation: exactly one each.
pub const SNAPSEND_EVENT_DONE: u32 = 0;
/// The file may change from here on; DONE still follows.
pub const SNAPSEND_EVENT_SNAPSHOT: u32 = 1;

/// Some file data was copied into socket buffers.
pub const SNAPSEND_WAS_COPIED: u32 = 1 << 0;
/// Some was sent from memory without a copy.
pub const SNAPSEND_WAS_ZEROCOPY: u32 = 1 << 1;
/// Zeros stand in for a missing end of the file.
pub const SNAPSEND_WAS_PADDED: u32 = 1 << 2;
/// Done on the calling thread.
pub const SNAPSEND_WAS_INLINE: u32 = 1 << 3;

/// What is said of an operation: 64 bytes, in every version.
///
/// status: 0: header, whole range and trailer are in the socket.  -ENODATA: the file ended before
/// the range did.  -ECANCELED: cancelled, by the caller, by destroy, or because an operation
/// ahead of it on the same socket was cut off part-way (this holds for every operation submitted
/// before the DONE that tells of the cut has been taken by poll).  -ETIMEDOUT: timeout_ms ran
/// out, or the kernel gave up the connection (TCP_USER_TIMEOUT, keepalive).  -ECONNABORTED: the
/// socket was destroyed from outside (ss -K).  -EBADF: the host closed the library's own descriptor.  -EMFILE: the ring thread's
/// descriptor table was full.  -EMSGSIZE: a file has grown past what EXACT takes since submit.
/// -EPIPE, -ECONNRESET, -EIO, ...: from the kernel.
///
/// wire_bytes == 0 tells that the stream is untouched and the caller may answer otherwise; after
/// a failure with wire_bytes > 0 the stream is cut off part-way and must be closed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct snapsend_completion {
    /// As submit gave it.
    pub id: u64,
    /// As the request had it.
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
/// Notifications say whether data was copied (Linux 6.2).
pub const SNAPSEND_KERNEL_ZC_REPORT_USAGE: u64 = 1 << 2;
/// Never set by this version: IORING_SETUP_DEFER_TASKRUN is not used any more.
pub const SNAPSEND_KERNEL_DEFER_TASKRUN: u64 = 1 << 3;
/// The pool's memory can be registered with the ring (Linux 5.19).
pub const SNAPSEND_KERNEL_REGISTERED_BUFFERS: u64 = 1 << 4;
/// cachestat(2) (Linux 6.5), by the kernel's version.
pub const SNAPSEND_KERNEL_CACHESTAT: u64 = 1 << 5;

/// What a context is made of.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct snapsend_info {
    /// SNAPSEND_VERSION of the library loaded.
    pub version: u32,
    /// The engine in use, SNAPSEND_ENGINE_URING or SNAPSEND_ENGINE_PORTABLE.
    pub engine: u32,
    /// Why io_uring is not in use (-errno); 0 when it is, or was not asked for.
    pub engine_errno: i32,
    /// As made.
    pub max_ops: u32,
    /// As made.
    pub pool_bytes: u64,
    /// Longest range that SNAPSEND_EXACT takes, in bytes; past it submit gives -EMSGSIZE.
    pub exact_max: u64,
    /// Bit set, SNAPSEND_KERNEL_*.
    pub kernel_features: u64,
}

/// Counters since create, but for the gauges at the end; each DONE counts in exactly one of
/// done_ok, done_error, cancelled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct snapsend_stats {
    /// Operations accepted.
    pub submitted: u64,
    /// DONE with status 0.
    pub done_ok: u64,
    /// DONE with another status.
    pub done_error: u64,
    /// DONE with -ECANCELED.
    pub cancelled: u64,
    /// Bytes of ranges put into sockets.
    pub file_bytes: u64,
    /// All bytes put into sockets.
    pub wire_bytes: u64,
    /// File data copied into socket buffers, in bytes.
    pub bytes_copied: u64,
    /// File data sent from memory without a copy, in bytes.
    pub bytes_zerocopy: u64,
    /// File data sent by the calling thread, in bytes.
    pub bytes_inline: u64,
    /// Notifications of zero-copy sends.
    pub zerocopy_notified: u64,
    /// Those of them that said that the kernel copied all the same.
    pub zerocopy_copied_anyway: u64,
    /// How often the ring thread entered the kernel with or for requests.
    pub kernel_enters: u64,
    /// How often the ring thread was woken from its sleep.
    pub wakeups: u64,
    /// Gauge: operations accepted and not yet done.
    pub in_flight: u64,
    /// Gauge: bytes of private memory in use.
    pub pool_in_use: u64,
    /// Gauge: bytes of private memory held from the system.
    pub pool_resident: u64,
    /// Gauge, of the whole process: io_urings of destroyed contexts that are kept until peers have
    /// acknowledged what was sent without a copy, at most 16.
    pub rings_kept: u64,
}

// Runs a call's body: errors become -errno, errno itself stays as it was, panics end here.
fn fenced(body: impl FnOnce() -> Result<c_int>) -> c_int {
    let _errno = KeepErrno::new();
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => error.negative(),
        Err(_) => -libc::EIO,
    }
}

// The same for calls on a context, which a panic puts beyond use.
fn fenced_on(ctx: *mut snapsend_t, body: impl FnOnce(&Context) -> Result<c_int>) -> c_int {
    fenced(|| {
        // SAFETY: C passes null or what snapsend_create() gave and snapsend_destroy() has not
        // taken back.
        let context = unsafe { ctx.as_ref() }.map(|ctx| &ctx.context).ok_or(FAULT)?;
        let done = catch_unwind(AssertUnwindSafe(|| body(context)));
        done.unwrap_or_else(|_| {
            context.poison();
            Err(Errno(libc::EIO))
        })
    })
}

// A whole call: that, and it is no cancellation point.
#[inline(always)]
fn call(body: impl FnOnce() -> Result<c_int>) -> c_int {
    cancellation::without(|| fenced(body))
}

#[inline(always)]
fn call_on(ctx: *mut snapsend_t, body: impl FnOnce(&Context) -> Result<c_int>) -> c_int {
    cancellation::without(|| fenced_on(ctx, body))
}

const FAULT: Errno = Errno(libc::EFAULT);

/// Makes a context and starts its ring thread.
///
/// options may be NULL for defaults.  On success *out is the context, to be given back with
/// snapsend_destroy(); otherwise it is not written.
///
/// -EFAULT: out is NULL.  -E2BIG, -EINVAL: options_size, see the conventions; or an option is out
/// of range.  -ENOMEM, -EMFILE, -EAGAIN: no memory, descriptor (one stays open) or thread can be
/// had.  -EPERM, -ENOSYS and others: io_uring was asked for and is refused, or the kernel gives
/// the thread no descriptor table of its own (close_range(2), Linux 5.9, or unshare(2)).
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
            options_from(unsafe { copy_in(options, options_size) }?)?
        };
        let context = Context::new(&options)?;
        // SAFETY: not null, so valid for a write.
        unsafe { out.write(Box::into_raw(Box::new(snapsend { context }))) };
        Ok(0)
    })
}

fn options_from(options: snapsend_options) -> Result<Options> {
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
    })
}

/// Refuses new work, cancels what is in flight, waits until the kernel holds no memory or
/// descriptor of the context, frees it.  Unread completions are lost.  For a call on a file that
/// does not come back (a dead disk or file server) it waits 0.2 seconds: then the helper thread
/// with that call, the memory it reads into, its copy of the file and the library's code stay until
/// it comes back.
///
/// In a forked child it closes and frees what the child has of the context.  -EFAULT: ctx is NULL.
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
    Ok(Request {
        socket: request.socket_fd,
        file: (request.file_fd != -1).then_some(request.file_fd),
        offset: request.offset,
        length: request.length,
        header,
        trailer,
        flags: request.flags,
        timeout_ms: request.timeout_ms,
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
    // SAFETY: C passes count valid entries; IoSlice has the layout of iovec, and is not read
    // but by sys::gather(), which allows for empty entries with any address.
    Ok(unsafe { std::slice::from_raw_parts(iovecs.cast(), count as usize) })
}

/// Queues an operation and returns at once.  The caller keeps the descriptors open until its
/// DONE completion.  Within one context, operations on one socket go out whole and in the order
/// submitted; two descriptors of the same socket count as one.
///
/// id may be NULL; otherwise *id is written before anybody can see a completion with it.
///
/// -EFAULT: ctx, request, or an iovec array with entries is NULL.  -E2BIG, -EINVAL: request_size,
/// see the conventions.  -EINVAL: unknown or contradicting flags, an offset beyond what files
/// have, a length without a file, a file that is neither regular nor a block device.  -EISDIR: it
/// is a directory.  -EOVERFLOW: offset and length together.  -EMSGSIZE: header and trailer, or
/// an EXACT range, are too long.  -EBADF: a descriptor is closed, or the file is not open for
/// reading, or the host has closed the context's own descriptor.  -ENOTSOCK, -ESOCKTNOSUPPORT,
/// -ENOTCONN: no socket, no stream socket, a listening one.  -EAGAIN: max_ops operations are in
/// flight, or headers and trailers fill their part of the pool: take completions and try again.
/// -EMFILE: the ring thread holds as many descriptors as RLIMIT_NOFILE allows.  -ENOMEM: the system
/// gives no memory.  -ECHILD: after fork, in the child.
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

/// The same for an array of count requests, each request_size bytes long; returns how many of
/// them, from the first on, were queued, or -errno when none was (count 0: 0).  ids may be NULL
/// or has room for count ids.
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
                false => context.submit_many(&group, &mut told),
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
            },
            flags: completion.flags,
            reserved: [0; 5],
        }
    }
}

/// Takes up to max completions; waits for the first one up to timeout_ms (0: not at all, -1: for
/// ever).  Returns how many, 0 when the time ran out, or -errno.
///
/// -EFAULT: ctx or out is NULL.  -EINVAL: max is 0, or timeout_ms is below -1.  -EINTR: a signal
/// handler ran.  -EBADF, -EIO, ...: the context is beyond use (see submit), and all its completions have
/// been taken.  -ECHILD: after fork, in the child.
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

// A call of snapsend_poll().
struct Poll {
    ctx: *mut snapsend_t,
    out: *mut snapsend_completion,
    max: u32,
    timeout_ms: c_int,
    deadline: Option<Instant>,
    /// It has been announced as waiting.
    waits: bool,
}

impl Poll {
    // Takes what there is; `woken`: the errno that the wait before gave.
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
            // SAFETY: C passes room for max completions, and no more than that come.
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
/// `ctx` is a context with a poll that waits.
unsafe extern "C" fn poll_abandoned(ctx: *mut c_void) {
    let abandon = || {
        // SAFETY: as promised by the caller.
        let ctx = unsafe { &*ctx.cast::<snapsend_t>() };
        ctx.context.completions().abandon_wait();
        Ok(0)
    };
    fenced(abandon);
}

/// A descriptor for poll, epoll, select, tevent, libevent and libuv: readable while completions
/// wait (and, rarely, once in vain; snapsend_poll() clears it).  It belongs to the context: never
/// read, write or close it.
///
/// -EFAULT: ctx is NULL.  -EBADF: the host has closed it.  -ECHILD: after fork, in the child.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_event_fd(ctx: *mut snapsend_t) -> c_int {
    call_on(ctx, Context::event_fd)
}

/// Asks for an end.  0: the operation will end with -ECANCELED, or with what it reached first.
/// -ENOENT: it has ended already or never was.  One DONE comes in any case where 0 is returned.
///
/// -EFAULT: ctx is NULL.  -ENOMEM: the system gives no memory.  -ECHILD: after fork, in the child.
/// -EBADF, -EIO, ...: the context is beyond use.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_cancel(ctx: *mut snapsend_t, id: u64) -> c_int {
    call_on(ctx, |context| context.cancel(id).map(|()| 0))
}

/// The same for all operations on the socket that this descriptor refers to now; returns how many
/// there were.
///
/// -EBADF, -ENOTSOCK: the descriptor is closed or no socket.  Others as snapsend_cancel().
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn snapsend_cancel_socket(
    ctx: *mut snapsend_t,
    socket_fd: c_int,
) -> c_int {
    call_on(ctx, |context| context.cancel_socket(socket_fd).map(|count| count as c_int))
}

/// Does the whole operation on the calling thread if it can be done without waiting.  As with
/// send(2), the descriptors must stay what they are while the call runs; what it queues has copies
/// of its own.
///
/// 1: done, *completion is its DONE and none comes through poll.  0: queued as by submit,
/// completion->id says under which id (what already went out counts).  -errno: as submit;
/// *completion is not written.  completion may not be NULL (-EFAULT).
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
        match context.try_send(&request, &mut queued)? {
            TrySend::Queued => Ok(0),
            TrySend::Done(done) => {
                // SAFETY: as above.
                unsafe { completion.write(done.into()) };
                Ok(1)
            }
        }
    })
}

/// Submits and waits, through any signals; the completion goes to the caller alone.  Returns 0
/// when *completion is filled (look at its status), -errno as submit when the operation was not
/// accepted.  Another thread can end it with snapsend_cancel_socket().  Descriptors as for
/// snapsend_try_send().
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

/// sendfile(2), to the letter, with one promise more where out_fd is a stream socket or a pipe:
/// when it returns n, no later change to the file can change those n bytes.  Other pairs of
/// descriptors are passed on to sendfile(2).  As that, it is no cancellation point.
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
    // Where it succeeds errno stays, although a probe on the way may have failed.
    let errno = sys::errno();
    // SAFETY: C passes what it would pass to sendfile(2).
    let offset = unsafe { CallerOffset::new(offset) };
    match sendfile::sendfile(out_fd, in_fd, offset, count).result {
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

/// What the context is made of.  At most out_size bytes are written, a longer tail is zeroed.
///
/// -EFAULT: ctx or out is NULL.  -EINVAL: out_size is less than in the first version.  -ECHILD:
/// after fork, in the child.
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
            engine_errno: info.engine_errno,
            max_ops: info.max_ops,
            pool_bytes: info.pool_bytes,
            exact_max: info.exact_max,
            kernel_features: info.kernel_features,
        };
        // SAFETY: C passes null or out_size writable bytes.
        unsafe { copy_out(&info, out, out_size) }
    })
}

/// What it has done so far.  Pointers and errors as for snapsend_get_info().
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

/// The version of the library loaded: major << 16 | minor << 8 | patch.
#[unsafe(no_mangle)]
pub extern "C" fn snapsend_version() -> u32 {
    number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | number(env!("CARGO_PKG_VERSION_PATCH"))
}

/// The same as text, for ever valid.
#[unsafe(no_mangle)]
pub extern "C" fn snapsend_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
