// SPDX-License-Identifier: MIT OR Apache-2.0
//! sendfile(2), and splice(2) from a file into a pipe, with one promise more: what they say is
//! sent has been copied, so no later change to the file can change it.
//!
//! A call is carried out in steps that never wait for the peer.  Between them it waits with a
//! single system call, as the kernel's own sendfile does, and holds nothing meanwhile: no buffer,
//! no mapping, and what has been sent is already in the caller's offset or file position.  So a
//! handler may leave by longjmp(3), and a cancelled thread may end there.
#![forbid(unsafe_code)]

mod pipe;
mod socket;

use crate::sys::{self, Buffers, CallerOffset, PAGE, SignalMask, Span};
use crate::types::errno::{Errno, Result};
use crate::types::file::FileKind;
use once_cell::race::OnceBool;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What a call did.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// What the caller is told.
    pub result: Result<usize>,
    /// Who did it.
    pub route: Route,
}

/// Who did a call's work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// Copied into a stream socket, here.
    Socket,
    /// Copied into a pipe, here.
    Pipe,
    /// The kernel: the promise does not hold, or nothing was to be moved.
    PassedOn,
}

/// The most that one sendfile(2) moves (MAX_RW_COUNT).
const COUNT_MAX: u64 = 0x7fff_f000;

/// A pread into this and a send from it: larger costs more memory and falls out of the second
/// level cache, smaller costs system calls.
const PIECE: usize = 256 << 10;

static BUFFERS: Buffers<32> = Buffers::new(PIECE);

/// Gives back the memory that is kept between calls.
pub fn trim() {
    BUFFERS.trim();
}

/// sendfile(2), with one promise more: when it returns n, no later change to the file can change
/// those n bytes.
///
/// `offset` is where the range starts, and is moved behind what was sent; None: the file position
/// is used and moved.  The promise holds from a regular file or block device to a stream socket or
/// a pipe.  Other pairs of descriptors are passed on to sendfile(2).
///
/// Errors are those of sendfile(2).  As that, it may send fewer bytes than asked for, and raises
/// SIGPIPE, which Rust programs ignore.
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

/// sendfile(2) with the caller's own pointer.  From a regular file or block device to a stream
/// socket or a pipe the data is copied; everything else, errors included, is the kernel's to
/// answer.  As sendfile(2), it is no cancellation point.  `then` is given what it did, where
/// neither a cancellation nor a panic can leave it half done.
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

/// splice(2).  From a regular file or block device into a pipe the data is copied; everything
/// else, errors included, is the kernel's to answer.  As splice(2) of libc, it is a cancellation
/// point.  `then` as for [`sendfile_then`].
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

// A cancelled thread is unwound from within this function, through the functions that called it.
// So the panic fence is inside, and there is nothing to clean up here.
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
    /// The next step is told what came of it.
    Wait(Wait),
}

/// System calls that may wait.
#[derive(Clone, Copy)]
enum Wait {
    /// The call itself, passed on.
    Kernel,
    /// With a count of 0 the kernel makes all its checks of sendfile, of the pointer too, waits for
    /// room in a pipe, and moves nothing.
    Checks,
    /// For room in a pipe.
    Pipe,
    /// For room in a socket, while nothing has been sent: handlers restart it or do not.
    Socket,
    /// The same when something has been sent: any handler ends it.
    Rest(Option<Duration>, SignalMask),
    /// No wait of the socket's would wait: for the time alone.
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

/// A call on its way.
struct Call {
    arguments: Arguments,
    /// What the next step is to make of the answer that it gets.
    waited: Option<Wait>,
    route: Route,
    /// In the file.
    start: u64,
    /// No more than this is moved.
    limit: u64,
    sent: u64,
    /// How much of that the caller's offset, or the file position, has been moved by.
    told: u64,
    dont_wait: bool,
    /// The caller's signal mask, while signals are held back.
    mask: Option<SignalMask>,
    /// How often it has waited since something was last sent, and from when on.
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

    fn done(&mut self, result: Result<usize>) -> Step {
        if let Some(mask) = self.mask.take() {
            sys::release_signals(mask);
        }
        Step::Done(Moved { result, route: self.route })
    }

    // An error is told only where nothing was sent.
    fn finish(&mut self, error: Option<Errno>) -> Step {
        let result = match error {
            Some(error) if self.sent == 0 => Err(error),
            _ => self.tell().map(|()| self.sent as usize),
        };
        self.done(result)
    }

    // Moves the caller's offset, or the file position, to behind what has been sent.
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
        if let Some(step) = self.at_once() {
            return step;
        }
        match self.find_route() {
            Ok(Route::PassedOn) => self.pass_on(),
            // Of several mistakes the kernel names one.
            Ok(_) if self.find_start().is_none() => self.pass_on(),
            Ok(route) => {
                self.route = route;
                self.wait(Wait::Checks)
            }
            Err(error) => self.done(Err(error)),
        }
    }

    // What servers mostly ask for, with the fewest system calls: one short or warm piece, all
    // there.  None, with nothing done: it is something else.
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
        // Reading anything else might take something away.
        if kind(file) != Ok(FileKind::Regular) {
            return None;
        }
        // Of so little nothing can be sent while the rest is read, so it may wait for the disk here.
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
        // Blocking and full.  A signal from between the send and here is taken for one that came
        // before the call; longer calls hold signals back from their beginning.
        self.socket_is_full()
    }

    fn out_is_nonblocking(&self) -> bool {
        sys::status_flags(self.arguments.out).is_ok_and(|flags| flags & libc::O_NONBLOCK != 0)
    }

    // An error: what they are cannot be found out, so the kernel might send what changes later.
    fn find_route(&self) -> Result<Route> {
        let Arguments { out, file, count, .. } = self.arguments;
        // Also what is no ssize_t is the kernel's to refuse.
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

    // None: the kernel refuses it whatever else it is.
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
            // At the very end of what offsets can say it gives this; with a count it would not.
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

    // At the end of the file.
    fn ended(&mut self) -> Step {
        // Where this file system's offsets end there is EOVERFLOW, not the end of the file.
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

// How many bytes from where in a file the kernel hands to a socket of any type as one message, as
// one send does: 16 pages since Linux 6.5, one before.
fn is_one_message(start: u64, count: u64) -> bool {
    static IS_SINCE_6_5: OnceBool = OnceBool::new();
    let is_since = || sys::probes_allowed() && sys::kernel_is_since(6, 5);
    let end = start % PAGE + count;
    end <= PAGE || end <= 16 * PAGE && IS_SINCE_6_5.get_or_init(is_since)
}

// Other: also what is closed, which is the kernel's to refuse.
fn kind(fd: RawFd) -> Result<FileKind> {
    match sys::file_state(fd) {
        Ok(state) => Ok(state.kind),
        Err(Errno(libc::EBADF)) => Ok(FileKind::Other),
        Err(error) => Err(error),
    }
}
