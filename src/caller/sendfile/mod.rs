// SPDX-License-Identifier: MIT OR Apache-2.0
//! sendfile(2), and splice(2) from a file into a pipe, with one further promise: bytes that they
//! report as sent have been copied, so no later change to the file can change them.
//!
//! A call is carried out in steps that never wait for the peer.  Between steps it waits in a single
//! system call, as the kernel's sendfile does, and holds nothing during the wait: no buffer, no
//! mapping, and the caller's offset or file position already accounts for the bytes sent.  So a
//! handler may leave by longjmp(3), and a cancelled thread may end there.
#![forbid(unsafe_code)]

mod pipe;
mod socket;

pub use socket::copy_costs;

use crate::decide::frozen::FROZEN_MIN;
use crate::engine::kernel::{Kernel, System};
use crate::sys::{self, Buffers, CallerOffset, SignalMask, Span};
use crate::types::errno::{Errno, Result};
use crate::types::file::FileKind;
use once_cell::race::OnceBool;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// The outcome of a call.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// The result for the caller.
    pub result: Result<usize>,
    /// Where the data went.
    pub route: Route,
}

/// How a call's data was moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// Copied into a stream socket by this library.
    Socket,
    /// Copied into a pipe by this library.
    Pipe,
    /// Sent by the kernel, by reference: the file's content cannot change, so that the promise holds.
    Frozen,
    /// Passed on to the kernel: the promise does not hold, or there was nothing to move.
    PassedOn,
}

/// The most bytes that one sendfile(2) moves (MAX_RW_COUNT).
const COUNT_MAX: u64 = 0x7fff_f000;

/// The bytes of one pread and the send after it.  A larger piece costs more memory and does not fit
/// the second-level cache, a smaller one costs system calls.
const PIECE: usize = 256 << 10;

static BUFFERS: Buffers<32> = Buffers::new(PIECE);

/// Releases the buffers that are kept between calls.
pub fn trim() {
    BUFFERS.trim();
}

/// Sends as sendfile(2) does, with one further promise: when it returns n, no later change to the
/// file can change those n bytes.
///
/// `offset` is the start of the range, and is advanced by the bytes sent; None: the file position
/// is used and advanced.  The promise holds from a regular file or block device to a stream socket
/// or a pipe.  Other pairs of descriptors are passed on to sendfile(2).
///
/// Errors are those of sendfile(2).  Like sendfile(2), it may send fewer bytes than requested, and
/// raises SIGPIPE, which Rust programs ignore.
pub fn sendfile(
    out: impl AsFd,
    file: impl AsFd,
    offset: Option<&mut u64>,
    count: usize,
) -> Result<usize> {
    let (out, file) = (out.as_fd().as_raw_fd(), file.as_fd().as_raw_fd());
    let start = offset.as_deref().map(|&start| libc::off_t::try_from(start)).transpose();
    let mut at = start.map_err(|_| Errno(libc::EINVAL))?;
    let call = |address| sendfile_then(out, file, address, count, |_| ());
    let moved = CallerOffset::with(at.as_mut(), call);
    if let (Some(offset), Some(at)) = (offset, at) {
        *offset = at as u64;
    }
    moved.result
}

/// Sends as sendfile(2) with the caller's own pointer.  From a regular file or block device to a
/// stream socket or a pipe the data is copied; everything else, errors included, is passed on to
/// the kernel.  Like sendfile(2), it is not a cancellation point.  `then` receives the outcome,
/// where neither a cancellation nor a panic can interrupt it halfway.
pub fn sendfile_then(
    out: RawFd,
    file: RawFd,
    offset: CallerOffset,
    count: usize,
    then: impl Fn(&Moved),
) -> Moved {
    let splice = None;
    run(Call::new(Arguments { out, file, offset, count, splice }), then)
}

/// Moves data as splice(2).  From a regular file or block device into a pipe the data is copied;
/// everything else, errors included, is passed on to the kernel.  Like splice(2) of libc, it is a
/// cancellation point.  `then` as for [`sendfile_then`].
pub fn splice_then(
    file: RawFd,
    offset: CallerOffset,
    out: RawFd,
    out_offset: CallerOffset,
    count: usize,
    flags: u32,
    then: impl Fn(&Moved),
) -> Moved {
    let splice = Some(Splice { out_offset, flags });
    run(Call::new(Arguments { out, file, offset, count, splice }), then)
}

#[inline(never)]
fn fenced<T>(body: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(body)).ok()
}

// Runs a call's steps and waits.  A cancelled thread is unwound from within this function, through
// the functions that called it.  So the panic fence is inside, and there is nothing to clean up
// here.
fn run(mut call: Call, then: impl Fn(&Moved)) -> Moved {
    let is_point = call.arguments.splice.is_some();
    let caller = sys::disable_cancellation();
    if is_point {
        let _ = sys::with_cancellation(caller, is_point, || 0);
    }
    let mut answer = Ok(0);
    loop {
        let step = fenced(|| {
            let step = call.step(answer);
            if let Step::Done(moved) = &step {
                then(moved);
            }
            step
        });
        match step.unwrap_or_else(|| call.done(Err(Errno(libc::EIO)))) {
            Step::Wait(wait) => {
                let arguments = &call.arguments;
                answer = sys::with_cancellation(caller, is_point, || wait.run(arguments));
            }
            Step::Done(moved) => {
                sys::restore_cancellation(caller);
                return moved;
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Arguments {
    out: RawFd,
    file: RawFd,
    offset: CallerOffset,
    count: usize,
    /// None: sendfile.
    splice: Option<Splice>,
}

#[derive(Clone, Copy)]
struct Splice {
    out_offset: CallerOffset,
    flags: u32,
}

enum Step {
    Done(Moved),
    /// A wait, whose result the next step receives.
    Wait(Wait),
}

/// The system calls that may wait.
#[derive(Clone, Copy)]
enum Wait {
    /// The call itself, passed on.
    Kernel,
    /// With a count of 0 the kernel makes all its checks of sendfile, including the pointer, waits
    /// for room in a pipe, and moves nothing.
    Checks,
    /// A wait for room in a pipe.
    Pipe,
    /// A wait for room in a socket before anything was sent: after a handler it goes on or ends, as
    /// SA_RESTART says.
    Socket,
    /// A wait for room after something was sent: any handler ends it.
    Rest(Option<Duration>, SignalMask),
    /// A wait for the time alone, because a wait for room would return at once.
    Pause(Duration, SignalMask),
}

impl Wait {
    fn run(self, call: &Arguments) -> isize {
        match (self, call.splice) {
            (Wait::Kernel, None) => sys::raw_sendfile(call.out, call.file, call.offset, call.count),
            (Wait::Kernel, Some(Splice { out_offset, flags })) => {
                sys::raw_splice(call.file, call.offset, call.out, out_offset, call.count, flags)
            }
            (Wait::Checks, _) => sys::raw_sendfile(call.out, call.file, call.offset, 0),
            (Wait::Pipe, _) => sys::wait_for_pipe(call.out, call.file),
            (Wait::Socket, _) => sys::wait_for_room(call.out),
            (Wait::Rest(timeout, mask), _) => sys::poll_writable(call.out, timeout, mask),
            (Wait::Pause(time, mask), _) => sys::poll_writable(-1, Some(time), mask),
        }
    }
}

/// The state of a call.
struct Call {
    arguments: Arguments,
    /// The wait whose result the next step receives.
    waited: Option<Wait>,
    route: Route,
    /// The start of the range in the file.
    start: u64,
    /// The most bytes to move.
    limit: u64,
    /// Bytes sent so far.
    sent: u64,
    /// Bytes by which the caller's offset, or the file position, has been advanced.
    told: u64,
    /// The call must not wait: O_NONBLOCK or SPLICE_F_NONBLOCK.
    dont_wait: bool,
    /// The caller's signal mask, while signals are held.
    mask: Option<SignalMask>,
    /// How often it has waited since bytes were last sent, and since when.
    waits: u32,
    waiting_since: Option<Instant>,
    source: socket::Progress,
}

impl Call {
    fn new(arguments: Arguments) -> Call {
        Call {
            arguments,
            waited: None,
            route: Route::PassedOn,
            start: 0,
            limit: 0,
            sent: 0,
            told: 0,
            dont_wait: false,
            mask: None,
            waits: 0,
            waiting_since: None,
            source: socket::Progress::default(),
        }
    }

    fn step(&mut self, answer: Result<usize>) -> Step {
        match self.waited.take() {
            None if self.arguments.splice.is_some() => self.begin_splice(),
            None => self.begin_sendfile(),
            Some(Wait::Kernel) => self.done(answer),
            Some(Wait::Checks) => self.checked(answer),
            Some(Wait::Pipe) => match answer {
                Ok(_) => self.write_pieces(),
                Err(error) => self.finish(Some(error)),
            },
            Some(Wait::Socket) => self.socket_has_room(answer),
            Some(Wait::Rest(timeout, _)) => self.rest_has_room(answer, timeout.is_some()),
            Some(Wait::Pause(..)) => self.rest_has_room(answer, false),
        }
    }

    fn wait(&mut self, wait: Wait) -> Step {
        self.waited = Some(wait);
        Step::Wait(wait)
    }

    fn pass_on(&mut self) -> Step {
        self.route = Route::PassedOn;
        self.wait(Wait::Kernel)
    }

    // Returns whether the content of the file cannot change, where that pays.  A short call queries
    // no file system, so that only seals show it.
    fn is_frozen(&self) -> bool {
        let Arguments { file, count, .. } = self.arguments;
        count as u64 >= FROZEN_MIN && System.is_frozen(file, count > PIECE)
    }

    fn pass_frozen(&mut self) -> Step {
        self.route = Route::Frozen;
        self.wait(Wait::Kernel)
    }

    fn done(&mut self, result: Result<usize>) -> Step {
        if let Some(mask) = self.mask.take() {
            sys::release_signals(mask);
        }
        Step::Done(Moved { result, route: self.route })
    }

    // Ends the call.  An error is returned only if nothing was sent.
    fn finish(&mut self, error: Option<Errno>) -> Step {
        let result = match error {
            Some(error) if self.sent == 0 => Err(error),
            _ => self.tell().map(|()| self.sent as usize),
        };
        self.done(result)
    }

    // Advances the caller's offset, or the file position, past the bytes sent.
    fn tell(&mut self) -> Result<()> {
        let fresh = self.sent - self.told;
        self.told = self.sent;
        let at = (self.start + self.sent) as libc::off_t;
        if !self.arguments.offset.store(at) && fresh > 0 {
            sys::seek_by(self.arguments.file, fresh as i64)?;
        }
        Ok(())
    }

    // ---- sendfile --------------------------------------------------------------------

    fn begin_sendfile(&mut self) -> Step {
        if self.is_frozen() {
            return self.pass_frozen();
        }
        if let Some(step) = self.at_once() {
            return step;
        }
        match self.find_route() {
            Ok(Route::PassedOn) => self.pass_on(),
            // Of several errors in one call, the kernel chooses which one it returns.
            Ok(_) if self.find_start().is_none() => self.pass_on(),
            Ok(route) => {
                self.route = route;
                self.wait(Wait::Checks)
            }
            Err(error) => self.done(Err(error)),
        }
    }

    // Sends with the fewest system calls what servers request most often: one short piece, or one
    // in the page cache.  None: it is another case, and nothing was done.
    fn at_once(&mut self) -> Option<Step> {
        let Arguments { out, file, offset, count, .. } = self.arguments;
        if count == 0 || count > PIECE || !offset.is_valid() {
            return None;
        }
        let start = match offset.load() {
            Some(start) => u64::try_from(start).ok()?,
            None => sys::seek_by(file, 0).ok()?,
        };
        let is_one_message = is_one_message(start, count as u64);
        if !is_one_message && sys::socket_type(out) != Ok(libc::SOCK_STREAM) {
            return None;
        }
        // Reading anything else might consume data.
        if kind(file) != Ok(FileKind::Regular) {
            return None;
        }
        // A range this short cannot be sent in part while the rest is read, so it may wait for the
        // disk.
        let may_wait = is_one_message || !sys::probes_allowed();
        let read = if may_wait { sys::read_at } else { sys::read_warm };
        let sent = BUFFERS.with_any(|buffer| {
            let piece = buffer.get_mut(..count)?;
            let is_all = read(file, start, piece) == Ok(count);
            is_all.then(|| sys::send_span(out, Span::of(piece), libc::MSG_DONTWAIT))
        })?;
        let step = match sent {
            Ok(sent) => self.sent_at_once(start, sent as u64),
            Err(Errno(libc::ENOTSOCK)) => return None,
            Err(Errno(libc::EAGAIN)) if !self.out_is_nonblocking() => return None,
            Err(error) => self.done(Err(error)),
        };
        Some(step)
    }

    fn sent_at_once(&mut self, start: u64, sent: u64) -> Step {
        (self.route, self.start, self.sent) = (Route::Socket, start, sent);
        self.limit = self.arguments.count as u64;
        if sent == self.limit || self.out_is_nonblocking() {
            return self.finish(None);
        }
        // Blocking and full.  A signal between the send and here counts as one before the call;
        // longer calls hold signals from their beginning.
        self.socket_is_full()
    }

    fn out_is_nonblocking(&self) -> bool {
        sys::status_flags(self.arguments.out).is_ok_and(|flags| flags & libc::O_NONBLOCK != 0)
    }

    // Chooses the route.  An error: the descriptors' kinds cannot be found out, so the kernel might
    // send data that changes later.
    fn find_route(&self) -> Result<Route> {
        let Arguments { out, file, count, .. } = self.arguments;
        // The kernel also refuses a count that does not fit ssize_t.
        if count == 0 || count > isize::MAX as usize {
            return Ok(Route::PassedOn);
        }
        let route = match sys::socket_type(out) {
            Ok(libc::SOCK_STREAM) => Route::Socket,
            Err(Errno(libc::ENOTSOCK)) if kind(out)? == FileKind::Pipe => Route::Pipe,
            Ok(_) | Err(Errno(libc::ENOTSOCK | libc::EBADF)) => return Ok(Route::PassedOn),
            Err(error) => return Err(error),
        };
        match kind(file)? {
            FileKind::Regular | FileKind::Block if route == Route::Socket => Ok(route),
            FileKind::Regular | FileKind::Block => self.pipe_route(),
            _ => Ok(Route::PassedOn),
        }
    }

    // Determines the start of the range.  None: the kernel refuses the call in any case.
    fn find_start(&mut self) -> Option<()> {
        let Arguments { file, offset, count, .. } = self.arguments;
        if !offset.is_valid() {
            return None;
        }
        let start = match offset.load() {
            Some(start) => u64::try_from(start).ok()?,
            None => sys::seek_by(file, 0).ok()?,
        };
        self.start = start;
        (start.checked_add(count as u64)? <= libc::off_t::MAX as u64).then_some(())
    }

    fn checked(&mut self, checked: Result<usize>) -> Step {
        match checked {
            // At the last possible offset the check gives this; the call with its count would not.
            Ok(_) | Err(Errno(libc::EOVERFLOW)) => {}
            Err(Errno(libc::EBADF)) => return self.pass_on(),
            Err(error) => return self.done(Err(error)),
        }
        self.limit = (self.arguments.count as u64).min(COUNT_MAX);
        self.dont_wait = self.out_is_nonblocking();
        if self.route == Route::Pipe {
            return self.write_pieces();
        }
        self.hold_signals();
        self.send_pieces()
    }

    // Ends the call at the end of the file.
    fn ended(&mut self) -> Step {
        // At the largest offset of a file system the error is EOVERFLOW, not the end of the file.
        const FAR: u64 = 1 << 31;
        if self.sent == 0 && self.start >= FAR - 1 && self.arguments.splice.is_none() {
            let Arguments { out, file, .. } = self.arguments;
            if let Err(error) = sys::kernel_accepts_offset(out, file, self.start + 1) {
                return self.done(Err(error));
            }
        }
        self.finish(None)
    }
}

// Returns whether the kernel hands `count` bytes at `start` to a socket of any type as one message,
// as one send does: up to 16 pages since Linux 6.5, one page before.
fn is_one_message(start: u64, count: u64) -> bool {
    static IS_SINCE_6_5: OnceBool = OnceBool::new();
    let is_since = || sys::probes_allowed() && sys::kernel_is_since(6, 5);
    let (end, page) = (sys::offset_in_page(start) + count, sys::page_size());
    end <= page || end <= 16 * page && IS_SINCE_6_5.get_or_init(is_since)
}

// Returns the kind.  Closed descriptors are Other: the kernel refuses them.
fn kind(fd: RawFd) -> Result<FileKind> {
    match sys::file_state(fd) {
        Ok(state) => Ok(state.kind),
        Err(Errno(libc::EBADF)) => Ok(FileKind::Other),
        Err(error) => Err(error),
    }
}
