// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a file to a stream socket, as its mode has it: blocking (with SO_SNDTIMEO and EINTR) or
//! what fits.

use super::{BUFFERS, Call, Step, Wait};
use crate::engine::known_files;
use crate::sys::{self, FileWindow, Span};
use crate::types::errno::{Errno, Result};
use crate::types::file::{FileKind, FileState};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Why no more goes now.
enum Pause {
    /// All that was asked for has gone, or all that there is.
    Ended,
    Full,
    Failed(Errno),
}

impl Call {
    // Signals wait from before the first send on where it may wait later, so that none can come
    // between a send and the wait after it; the wait lets them through.
    pub(super) fn hold_signals(&mut self) {
        if !self.dont_wait && self.mask.is_none() {
            self.mask = Some(sys::hold_signals());
        }
    }

    pub(super) fn send_pieces(&mut self) -> Step {
        match BUFFERS.with_any(|buffer| self.pieces(buffer)) {
            Pause::Ended => self.ended(),
            Pause::Failed(error) => self.finish(Some(error)),
            Pause::Full if self.dont_wait => self.finish(Some(Errno(libc::EAGAIN))),
            Pause::Full => self.socket_is_full(),
        }
    }

    fn pieces(&mut self, buffer: &mut [u8]) -> Pause {
        let (out, before) = (self.arguments.out, self.sent);
        let mut progress = Progress { start: self.start, ..self.source };
        let mut source =
            PieceReader { file: self.arguments.file, buffer, window: None, at: &mut progress };
        let pause = loop {
            if self.sent == self.limit {
                break Pause::Ended;
            }
            let at = self.start + self.sent;
            let piece = match source.piece(at, self.limit - self.sent) {
                Ok(piece) => piece,
                Err(error) => break Pause::Failed(error),
            };
            if piece.len() == 0 {
                if source.at.held_back {
                    sys::push_tcp(out); // the file has been cut, and no more follows after all
                }
                break Pause::Ended;
            }
            let after = self.sent + piece.len() as u64;
            // As the kernel does it: full packets up to the end of what was asked for.
            let is_last = after == self.limit || source.ends_at(self.start + after);
            if !is_last {
                source.prepare(self.start + after, self.limit - after);
            }
            let more = sys::more_flag(out, !is_last);
            // Without MSG_NOSIGNAL: SIGPIPE comes as from sendfile itself.
            match sys::send_span(out, piece, libc::MSG_DONTWAIT | more) {
                Ok(length) => {
                    self.sent += length as u64;
                    source.at.held_back = !is_last;
                }
                // The page is not there: the file has been cut, or reading it failed; a read tells.
                Err(Errno(libc::EFAULT)) if source.window.is_some() => {
                    source.at.mappable = Some(false);
                    continue;
                }
                Err(Errno(libc::EAGAIN)) => break Pause::Full,
                Err(error) => break Pause::Failed(error),
            }
            if self.sent < after && !source.was_cut(self.start + self.sent) {
                break Pause::Full;
            }
            if is_last && self.sent == after {
                break Pause::Ended;
            }
        };
        drop(source);
        self.source = progress;
        if self.sent > before {
            (self.waits, self.waiting_since) = (0, None);
        }
        pause
    }

    // Blocking.
    pub(super) fn socket_is_full(&mut self) -> Step {
        // Sockets that look at the address before they wait are waited for as below, too.
        if self.sent == 0 && self.waits < 2 {
            self.waits += 1;
            if let Some(mask) = self.mask.take() {
                sys::release_signals(mask);
            }
            return self.wait(Wait::Socket);
        }
        if let Err(error) = self.tell() {
            return self.done(Err(error));
        }
        self.hold_signals();
        let Some(mask) = self.mask else { return self.finish(Some(Errno(libc::EAGAIN))) };
        let limit = sys::send_timeout(self.arguments.out);
        let waited = self.waiting_since.get_or_insert_with(Instant::now).elapsed();
        let left = limit.map(|limit| limit.saturating_sub(waited));
        if left == Some(Duration::ZERO) {
            return self.finish(Some(Errno(libc::EAGAIN)));
        }
        // It was said to have room, and had none: something else is told (an error queue that is
        // not empty), or there is no memory.  The pauses grow, or it would take all of a core.
        let pauses = self.waits.saturating_sub(if self.sent == 0 { 3 } else { 1 });
        self.waits += 1;
        if pauses > 0 {
            let pause = Duration::from_millis(1 << pauses.min(6));
            return self.wait(Wait::Pause(left.map_or(pause, |left| left.min(pause)), mask));
        }
        self.wait(Wait::Rest(left, mask))
    }

    pub(super) fn socket_has_room(&mut self, answer: Result<usize>) -> Step {
        match answer {
            // ENOMEM: this cannot be asked.
            Err(Errno(libc::EFAULT | libc::ENOMEM)) => {
                self.hold_signals();
                self.send_pieces()
            }
            Err(error) => self.finish(Some(error)),
            Ok(_) => self.finish(Some(Errno(libc::EIO))),
        }
    }

    pub(super) fn rest_has_room(&mut self, answer: Result<usize>, has_limit: bool) -> Step {
        match answer {
            Ok(0) if has_limit => self.finish(Some(Errno(libc::EAGAIN))),
            Ok(_) => self.send_pieces(),
            Err(error) => self.finish(Some(error)),
        }
    }
}

/// From here on a piece is sent from a mapping, one copy instead of two; for less, making it costs
/// more than the second copy.  A socket that is not blocking takes what fits, and what was read in
/// vain would be read again.
const WINDOW_MIN: u64 = 512 << 10;

const WINDOW: u64 = 1 << 20;

/// What is known of the file, kept while the call waits.
#[derive(Clone, Copy, Default)]
pub(super) struct Progress {
    /// Where the call began.
    pub(super) start: u64,
    /// When it was last looked at.
    size: Option<u64>,
    /// Whether mappings may be used.
    mappable: Option<bool>,
    /// Cold: up to where the kernel has been asked to read ahead.
    ahead: Option<u64>,
    /// The last that was sent went with MSG_MORE.
    held_back: bool,
    /// Where a read has found the end.
    end: Option<u64>,
}

/// A file from front to back; where it is cold, the disk works while what has been read is sent.
struct PieceReader<'a> {
    file: RawFd,
    buffer: &'a mut [u8],
    /// What the last piece is in, unless that is the buffer.
    window: Option<FileWindow>,
    at: &'a mut Progress,
}

impl PieceReader<'_> {
    const AHEAD: u64 = 2 << 20;

    // The next piece, up to `wanted` bytes; empty at the file's end.  Valid until the next call.
    fn piece(&mut self, at: u64, wanted: u64) -> Result<Span> {
        self.window = None;
        let size = match self.at.size {
            Some(size) => size,
            None => *self.at.size.insert(size_of(self.file)?),
        };
        let length = wanted.min(size.saturating_sub(at)).min(WINDOW);
        let mapped = length >= WINDOW_MIN && self.can_be_mapped(at, length);
        if let Some(piece) = mapped.then(|| self.map(at, length as usize)).flatten() {
            return Ok(piece);
        }
        let wanted = wanted.min(self.buffer.len() as u64) as usize;
        let (skip, length) = self.read(at, wanted)?;
        let length = if skip == 0 { self.read_on(at, length, wanted, size) } else { length };
        Ok(Span::of(&self.buffer[skip..length]))
    }

    fn can_be_mapped(&mut self, at: u64, length: u64) -> bool {
        let file = self.file;
        let find_out = || sys::probes_allowed() && known_files::mapping_shows_what_read_gives(file);
        self.at.ahead.is_none()
            && *self.at.mappable.get_or_insert_with(find_out)
            && sys::is_resident(file, at, length)
    }

    fn map(&mut self, at: u64, length: usize) -> Option<Span> {
        match FileWindow::new(self.file, at, length) {
            Ok(window) => Some(self.window.insert(window).span()),
            Err(_) => {
                self.at.mappable = Some(false);
                None
            }
        }
    }

    // Whether the file has been cut under the window: then a read goes on, and tells.
    fn was_cut(&mut self, at: u64) -> bool {
        let is_cut = self.window.is_some() && size_of(self.file).is_ok_and(|size| size <= at);
        if is_cut {
            self.at.mappable = Some(false);
        }
        is_cut
    }

    // Where in the buffer the piece begins and ends.
    fn read(&mut self, at: u64, wanted: usize) -> Result<(usize, usize)> {
        if sys::probes_allowed() {
            match sys::read_at_without_waiting(self.file, at, &mut self.buffer[..wanted]) {
                // Short: what follows is not in memory, or the end.
                Ok(length) if length > 0 => {
                    if length < wanted {
                        self.at.ahead.get_or_insert(at + length as u64);
                    }
                    return Ok((0, length));
                }
                Err(Errno(libc::EAGAIN)) => {
                    self.at.ahead.get_or_insert(at);
                    self.prepare(at, wanted as u64);
                }
                _ => {} // not on this file system; or the end, which a read that may wait tells
            }
        }
        match sys::read_at(self.file, at, &mut self.buffer[..wanted]) {
            Ok(length) => Ok((0, length)),
            Err(Errno(libc::EINVAL)) => self.read_direct(at, wanted),
            Err(error) => Err(error),
        }
    }

    // A file opened with O_DIRECT refuses what is no multiple of a block.  The kernel's sendfile
    // reads it in pieces of 64 KiB, and what a peer took a part of is in the kernel then.
    fn read_direct(&mut self, at: u64, wanted: usize) -> Result<(usize, usize)> {
        const KERNEL_PIECE: usize = 64 << 10;
        let skip = (at - self.at.start) as usize % KERNEL_PIECE.min(self.buffer.len());
        let most = (skip + wanted).min(KERNEL_PIECE).min(self.buffer.len());
        let length = sys::read_at(self.file, at - skip as u64, &mut self.buffer[..most])?;
        Ok((skip.min(length), length))
    }

    // Where the caller asks for more than the file had when it was looked at, the end is found
    // before the last piece is sent: held back for a following one, it would stay in the socket,
    // and sent as the last before a following one, that would.
    fn read_on(&mut self, at: u64, mut length: usize, wanted: usize, size: u64) -> usize {
        while 0 < length && length < wanted && at + length as u64 >= size {
            match sys::read_at(self.file, at + length as u64, &mut self.buffer[length..wanted]) {
                Ok(0) => {
                    self.at.end = Some(at + length as u64);
                    break;
                }
                Ok(more) => length += more,
                Err(_) => break,
            }
        }
        length
    }

    // Whether the file ends here: with a look at it only where it might.
    fn ends_at(&mut self, at: u64) -> bool {
        if self.at.end != Some(at) && self.at.size.is_some_and(|size| at >= size) {
            let is_end = sys::read_at(self.file, at, &mut [0]) == Ok(0);
            self.at.end = is_end.then_some(at);
        }
        self.at.end == Some(at)
    }

    // Called before what was read is sent: starts reading what comes next.
    fn prepare(&mut self, at: u64, length: u64) {
        let Some(ahead) = self.at.ahead else { return };
        let from = ahead.max(at);
        let until = at + length.min(Self::AHEAD);
        let mut next = from;
        while next < until {
            // The kernel takes no more at once than its own readahead is long.
            let step = (until - next).min(128 << 10);
            sys::read_ahead(self.file, next, step);
            next += step;
        }
        self.at.ahead = Some(next.max(ahead));
    }
}

fn size_of(file: RawFd) -> Result<u64> {
    match sys::file_state(file)? {
        FileState { kind: FileKind::Block, .. } => sys::device_size(file),
        state => Ok(state.size),
    }
}
