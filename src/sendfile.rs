// SPDX-License-Identifier: MIT OR Apache-2.0
//! sendfile(2), and splice(2) from a file into a pipe, with one promise more: what they say is
//! sent has been copied, so no later change to the file can change it.
#![forbid(unsafe_code)]

use crate::sys::{
    self, Buffers, CallerOffset, Errno, FileKind, FileState, FileWindow, PAGE, Result, Span,
};
use once_cell::race::OnceBool;
use std::os::fd::RawFd;

/// What a call did.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// What the caller is told.
    pub result: Result<usize>,
    /// Who did it.
    pub way: Way,
}

/// Who did a call's work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
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

/// sendfile(2).  From a regular file or block device to a stream socket or a pipe the data is
/// copied; everything else, mistakes included, is the kernel's to answer.
pub fn sendfile(out: RawFd, file: RawFd, offset: CallerOffset, count: usize) -> Moved {
    if let Some(result) = at_once(out, file, offset, count) {
        return Moved { result, way: Way::Socket };
    }
    match way(out, file, count) {
        Ok(way @ Way::PassedOn) => {
            Moved { result: sys::kernel_sendfile(out, file, offset, count), way }
        }
        Ok(way) => Moved { result: copy(way, out, file, offset, count), way },
        Err(error) => Moved { result: Err(error), way: Way::PassedOn },
    }
}

// What servers mostly ask for, with the fewest system calls: one short or warm piece, all there.
// None, with nothing done: it is something else.
fn at_once(out: RawFd, file: RawFd, offset: CallerOffset, count: usize) -> Option<Result<usize>> {
    if count == 0 || count > PIECE || !offset.is_valid() {
        return None;
    }
    let start = match offset.load() {
        Some(start) => u64::try_from(start).ok()?,
        None => sys::seek_by(file, 0).ok()?,
    };
    let is_one_message = start % PAGE + count as u64 <= message_pages() * PAGE;
    if !is_one_message && sys::socket_type(out) != Ok(libc::SOCK_STREAM) {
        return None;
    }
    // Reading anything else might take something away.
    if kind(file) != Ok(FileKind::Regular) {
        return None;
    }
    // Of so little nothing can be sent while the rest is read, so it may wait for the disk here.
    let read = if is_one_message { sys::read_at } else { sys::read_warm };
    let body = |buffer: &mut [u8]| {
        let piece = &mut buffer[..count];
        if read(file, start, piece) != Ok(count) {
            return None;
        }
        Some(sys::send_span(out, Span::of(piece), 0))
    };
    let sent = match BUFFERS.with(body).ok()?? {
        Ok(sent) => sent,
        Err(Errno(libc::ENOTSOCK)) => return None,
        Err(error) => return Some(Err(error)),
    };
    Some(advance(file, offset, start, sent as u64).map(|()| sent))
}

// How many pages the kernel hands a socket of any type as one message, as one send does: 16 since
// Linux 6.5, which cachestat(2) came with, too; one before.
fn message_pages() -> u64 {
    static IS_SINCE_6_5: OnceBool = OnceBool::new();
    if IS_SINCE_6_5.get_or_init(sys::has_cachestat) { 16 } else { 1 }
}

// An error: what they are cannot be found out, so the kernel might send what changes later.
fn way(out: RawFd, file: RawFd, count: usize) -> Result<Way> {
    // Also what is no ssize_t is the kernel's to refuse.
    if count == 0 || count > isize::MAX as usize {
        return Ok(Way::PassedOn);
    }
    let way = match sys::socket_type(out) {
        Ok(libc::SOCK_STREAM) => Way::Socket,
        Err(Errno(libc::ENOTSOCK)) if kind(out)? == FileKind::Pipe => Way::Pipe,
        Ok(_) | Err(Errno(libc::ENOTSOCK | libc::EBADF)) => return Ok(Way::PassedOn),
        Err(error) => return Err(error),
    };
    match kind(file)? {
        FileKind::Regular | FileKind::Block => Ok(way),
        _ => Ok(Way::PassedOn),
    }
}

// Other: also what is closed, which is the kernel's to refuse.
fn kind(fd: RawFd) -> Result<FileKind> {
    match sys::file_state(fd) {
        Ok(state) => Ok(state.kind),
        Err(Errno(libc::EBADF)) => Ok(FileKind::Other),
        Err(error) => Err(error),
    }
}

fn copy(way: Way, out: RawFd, file: RawFd, offset: CallerOffset, count: usize) -> Result<usize> {
    // With a count of 0 the kernel makes all its checks, of the pointer too, waits for room in a
    // pipe, and moves nothing.
    let checked = sys::kernel_sendfile(out, file, offset, 0);
    // At the very end of what offsets can say it gives this; with a count it would not.
    if checked != Err(Errno(libc::EOVERFLOW)) {
        checked?;
    }
    let start = match offset.load() {
        Some(start) => start as u64,
        None => sys::seek_by(file, 0)?,
    };
    check_range(start, count as u64)?;
    checked?;
    let count = (count as u64).min(COUNT_MAX);
    let sent = if way == Way::Pipe {
        to_pipe(out, file, start, count, sys::status_flags(out)? & libc::O_NONBLOCK != 0)?
    } else {
        to_socket(out, file, start, count)?
    };
    // Where this file system's offsets end there is EOVERFLOW, not the end of the file.
    if sent == 0 && start > FAR {
        sys::kernel_accepts_offset(out, file, start + 1)?;
    }
    advance(file, offset, start, sent)?;
    Ok(sent as usize)
}

/// No file system's offsets end before it.
const FAR: u64 = 1 << 40;

fn check_range(start: u64, count: u64) -> Result<()> {
    match start.saturating_add(count) > libc::off_t::MAX as u64 {
        true => Err(Errno(libc::EINVAL)),
        false => Ok(()),
    }
}

fn advance(file: RawFd, offset: CallerOffset, start: u64, sent: u64) -> Result<()> {
    if !offset.store((start + sent) as libc::off_t) && sent > 0 {
        sys::seek_by(file, sent as i64)?;
    }
    Ok(())
}

fn size_of(file: RawFd) -> Result<u64> {
    match sys::file_state(file)? {
        FileState { kind: FileKind::Block, .. } => sys::device_size(file),
        state => Ok(state.size),
    }
}

// As the mode of `out` has it: blocking (with SO_SNDTIMEO and EINTR) or what fits.  How many
// went; an error only when none did.
fn to_socket(out: RawFd, file: RawFd, start: u64, count: u64) -> Result<u64> {
    let size = size_of(file)?;
    BUFFERS.with(|buffer| {
        let mut source = Source { file, buffer, window: None, mappable: true, ahead: None };
        let (mut sent, mut held_back) = (0, false);
        while sent < count {
            let at = start + sent;
            let piece = match source.piece(at, count - sent, size.saturating_sub(at)) {
                Ok(piece) if piece.len() == 0 => {
                    if held_back {
                        sys::push_tcp(out); // the file has been cut, and no more follows after all
                    }
                    break;
                }
                Ok(piece) => piece,
                Err(error) => return partial(sent, error),
            };
            let after = sent + piece.len() as u64;
            // As the kernel does it: full packets up to the end of what was asked for.
            held_back = after < count && start + after < size;
            if held_back {
                source.prepare(start + after, count - after);
            }
            // Without MSG_NOSIGNAL: SIGPIPE comes as from sendfile itself.
            match sys::send_span(out, piece, if held_back { libc::MSG_MORE } else { 0 }) {
                Ok(length) => sent += length as u64,
                // The page is not there: the file has been cut, or reading it failed; a read tells.
                Err(Errno(libc::EFAULT)) if source.window.is_some() => {
                    source.mappable = false;
                    continue;
                }
                Err(error) => return partial(sent, error),
            }
            if sent < after && !source.was_cut(start + sent) {
                break; // full, interrupted, or out of time
            }
        }
        Ok(sent)
    })?
}

fn partial(sent: u64, error: Errno) -> Result<u64> {
    if sent > 0 { Ok(sent) } else { Err(error) }
}

/// From here on a piece is sent from a mapping, one copy instead of two; for less, making it costs
/// more than the second copy.  A socket that is not blocking takes what fits, and what was read in
/// vain would be read again.
const MAPPED_MIN: u64 = 512 << 10;

const WINDOW: u64 = 1 << 20;

/// A file from front to back; where it is cold, the disk works while what has been read is sent.
struct Source<'a> {
    file: RawFd,
    buffer: &'a mut [u8],
    /// What the last piece is in, unless that is the buffer.
    window: Option<FileWindow>,
    mappable: bool,
    /// Cold: up to where the kernel has been asked to read ahead.
    ahead: Option<u64>,
}

impl Source<'_> {
    const AHEAD: u64 = 2 << 20;

    // The next piece, up to `wanted` bytes, of which the file had `there` when it was looked at;
    // empty at the file's end.  Valid until the next call.
    fn piece(&mut self, at: u64, wanted: u64, there: u64) -> Result<Span> {
        self.window = None;
        let length = wanted.min(there).min(WINDOW);
        let mapped = length >= MAPPED_MIN
            && self.mappable
            && self.ahead.is_none()
            && sys::is_resident(self.file, at, length);
        if let Some(piece) = mapped.then(|| self.map(at, length as usize)).flatten() {
            return Ok(piece);
        }
        let wanted = wanted.min(self.buffer.len() as u64) as usize;
        let length = self.read(at, wanted)?;
        Ok(Span::of(&self.buffer[..length]))
    }

    fn map(&mut self, at: u64, length: usize) -> Option<Span> {
        let window = FileWindow::new(self.file, at, length);
        self.mappable = window.is_ok();
        Some(self.window.insert(window.ok()?).span())
    }

    // Whether the file has been cut under the window: then a read goes on, and tells.
    fn was_cut(&mut self, at: u64) -> bool {
        let is_cut = self.window.is_some() && size_of(self.file).is_ok_and(|size| size <= at);
        self.mappable &= !is_cut;
        is_cut
    }

    fn read(&mut self, at: u64, wanted: usize) -> Result<usize> {
        let into = &mut self.buffer[..wanted];
        match sys::read_at_without_waiting(self.file, at, into) {
            // Short: what follows is not in memory, or the end.
            Ok(length) if length > 0 => {
                if length < wanted {
                    self.ahead.get_or_insert(at + length as u64);
                }
                return Ok(length);
            }
            Err(Errno(libc::EAGAIN)) => {
                self.ahead.get_or_insert(at);
                self.prepare(at, wanted as u64);
            }
            _ => {} // not on this file system; or the end, which a read that may wait tells
        }
        sys::read_at(self.file, at, &mut self.buffer[..wanted])
    }

    // Called before what was read is sent: starts reading what comes next.
    fn prepare(&mut self, at: u64, length: u64) {
        let Some(ahead) = self.ahead else { return };
        let from = ahead.max(at);
        let until = at + length.min(Self::AHEAD);
        let mut next = from;
        while next < until {
            // The kernel takes no more at once than its own readahead is long.
            let step = (until - next).min(128 << 10);
            sys::read_ahead(self.file, next, step);
            next += step;
        }
        self.ahead = Some(next.max(ahead));
    }
}

// What fits into the pipe now, as the kernel does it: a caller may be the pipe's reader too.
fn to_pipe(out: RawFd, file: RawFd, start: u64, count: u64, dont_wait: bool) -> Result<u64> {
    let count = count.min(sys::pipe_capacity(out));
    BUFFERS.with(|buffer| {
        let mut sent = 0;
        while sent < count {
            let wanted = (count - sent).min(buffer.len() as u64) as usize;
            let piece = match sys::read_at(file, start + sent, &mut buffer[..wanted]) {
                Ok(0) => break,
                Ok(length) => &buffer[..length],
                Err(error) => return partial(sent, error),
            };
            match sys::write_what_fits(out, piece) {
                Ok(length) => sent += length as u64,
                // Somebody else has filled it: this waits for room, and moves nothing.
                Err(Errno(libc::EAGAIN)) if sent == 0 && !dont_wait => {
                    sys::kernel_sendfile(out, file, CallerOffset::NONE, 0)?;
                }
                Err(error) => return partial(sent, error),
            }
        }
        Ok(sent)
    })?
}

/// splice(2).  From a regular file or block device into a pipe the data is copied; everything
/// else, mistakes included, is the kernel's to answer.
pub fn splice(
    file: RawFd,
    offset: CallerOffset,
    out: RawFd,
    out_offset: CallerOffset,
    count: usize,
    flags: u32,
) -> Moved {
    const KNOWN: u32 =
        libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MORE | libc::SPLICE_F_GIFT;
    let may_be_ours =
        out_offset.is_none() && flags & !KNOWN == 0 && count > 0 && count <= isize::MAX as usize;
    let is_ours = if may_be_ours { is_file_to_pipe(file, out) } else { Ok(false) };
    match is_ours {
        Ok(true) => {}
        Ok(false) => {
            let result = sys::kernel_splice(file, offset, out, out_offset, count, flags);
            return Moved { result, way: Way::PassedOn };
        }
        Err(error) => return Moved { result: Err(error), way: Way::PassedOn },
    }
    let dont_wait = flags & libc::SPLICE_F_NONBLOCK != 0;
    Moved { result: splice_copy(file, offset, out, count as u64, dont_wait), way: Way::Pipe }
}

fn is_file_to_pipe(file: RawFd, out: RawFd) -> Result<bool> {
    Ok(kind(out)? == FileKind::Pipe && matches!(kind(file)?, FileKind::Regular | FileKind::Block))
}

fn splice_copy(
    file: RawFd,
    offset: CallerOffset,
    out: RawFd,
    count: u64,
    dont_wait: bool,
) -> Result<usize> {
    if !offset.is_valid() {
        return Err(Errno(libc::EFAULT));
    }
    let has_mode =
        |fd, other| sys::status_flags(fd).is_ok_and(|flags| flags & libc::O_ACCMODE != other);
    if !has_mode(file, libc::O_WRONLY) || !has_mode(out, libc::O_RDONLY) {
        return Err(Errno(libc::EBADF));
    }
    let start = match offset.load() {
        Some(start) if start < 0 => return Err(Errno(libc::EINVAL)),
        Some(start) => start as u64,
        None => sys::seek_by(file, 0)?,
    };
    check_range(start, count)?;
    let dont_wait = dont_wait || sys::status_flags(out)? & libc::O_NONBLOCK != 0;
    // A pipe without readers is writable too: there, and where it may wait, the kernel's own
    // check follows, with its SIGPIPE.
    if dont_wait && !sys::is_ready(out, libc::POLLOUT | libc::POLLERR) {
        return Err(Errno(libc::EAGAIN));
    }
    if !dont_wait || sys::is_ready(out, libc::POLLERR) {
        sys::kernel_sendfile(out, file, CallerOffset::NONE, 0)?;
    }
    let sent = to_pipe(out, file, start, count, dont_wait)?;
    advance(file, offset, start, sent)?;
    Ok(sent as usize)
}
