// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a file to a stream socket, in the socket's mode: blocking (with SO_SNDTIMEO and EINTR), or
//! what fits.

use super::{BUFFERS, Call, Step, Wait};
use crate::engine::kernel::System;
use crate::engine::known_costs::{Begun, KnownCosts};
use crate::engine::known_files;
use crate::sys::{self, FileWindow, Span};
use crate::types::copying::Copying;
use crate::types::errno::{Errno, Result};
use crate::types::file::{FileKind, FileState};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Why no more is sent now.
enum Pause {
    /// All requested bytes, or all that exist, are sent.
    Ended,
    Full,
    Failed(Errno),
}

impl Call {
    // Holds signals from before the first send if the call may wait later, so that none can arrive
    // between a send and the wait after it; the wait releases them.
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
        let file = self.arguments.file;
        let mut source = PieceReader { file, buffer, window: None, begun: None, at: &mut progress };
        let pause = loop {
            if self.sent == self.limit {
                break Pause::Ended;
            }
            let at = self.start + self.sent;
            let sent_before = self.sent;
            let piece = match source.piece(at, self.limit - self.sent) {
                Ok(piece) => piece,
                Err(error) => break Pause::Failed(error),
            };
            if piece.len() == 0 {
                if source.at.held_back {
                    sys::push_tcp(out); // the file was truncated, and no more follows after all
                }
                break Pause::Ended;
            }
            let after = self.sent + piece.len() as u64;
            // As the kernel does: full packets up to the end of the requested range.
            let is_last = after == self.limit || source.ends_at(self.start + after);
            if !is_last {
                source.prepare(self.start + after, self.limit - after);
            }
            let more = sys::more_flag(out, !is_last);
            // Without MSG_NOSIGNAL: SIGPIPE is raised as by sendfile(2).
            match sys::send_span(out, piece, libc::MSG_DONTWAIT | more) {
                Ok(length) => {
                    self.sent += length as u64;
                    source.at.held_back = !is_last;
                }
                // The page is missing: the file was truncated, or reading it failed.  A read finds
                // out which.
                Err(Errno(libc::EFAULT)) if source.window.is_some() => {
                    source.at.mappable = Some(false);
                    continue;
                }
                Err(Errno(libc::EAGAIN)) => break Pause::Full,
                Err(error) => break Pause::Failed(error),
            }
            let is_cut = self.sent < after && source.was_cut(self.start + self.sent);
            source.learn(self.sent - sent_before);
            if self.sent < after && !is_cut {
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

    // Waits for room, on a blocking socket.
    pub(super) fn socket_is_full(&mut self) -> Step {
        // Sockets that check the address before they wait are waited for as below as well.
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
        // The socket reported room and had none: it has another event (a filled error queue), or
        // there is no memory.  The pauses grow, or the loop would use all of a core.
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
            // ENOMEM: this check is not possible.
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

/// From this length on, in bytes, a piece may be sent from a mapping, with one copy instead of two,
/// if that costs less than reading; for less, the mapping costs more than the second copy.  A
/// non-blocking socket takes only what fits, and data read in vain would be read again.
const WINDOW_MIN: u64 = 512 << 10;

const WINDOW: u64 = 1 << 20;

/// What the ways of copying have cost in this process.
static COSTS: KnownCosts = KnownCosts::new();

/// Returns what copies of long pieces have cost in this process, in nanoseconds of processor time
/// for each MiB: from a mapping, and through a buffer.  0: none was measured.
pub fn copy_costs() -> [u64; 2] {
    [Copying::Mapped, Copying::Read256K].map(|way| COSTS.ns_per_mib(way))
}

/// What is known of the file, kept while the call waits.
#[derive(Clone, Copy, Default)]
pub(super) struct Progress {
    /// The offset at which the call began.
    pub(super) start: u64,
    /// The size in bytes when the call first queried it.
    size: Option<u64>,
    /// Whether mappings may be used; None until that is known.
    mappable: Option<bool>,
    /// The file is not all in the page cache: up to here the kernel was requested to read ahead.
    ahead: Option<u64>,
    /// The last send had MSG_MORE.
    held_back: bool,
    /// The end of the file, found by a read.
    end: Option<u64>,
}

/// Reads a file from front to back.  Outside the page cache, the disk reads ahead while data is
/// sent.
struct PieceReader<'a> {
    file: RawFd,
    buffer: &'a mut [u8],
    /// The mapping of the last piece, unless that is in the buffer.
    window: Option<FileWindow>,
    /// The cost of the last piece is being measured.
    begun: Option<Begun>,
    at: &'a mut Progress,
}

impl PieceReader<'_> {
    const AHEAD: u64 = 2 << 20;

    // Returns the next piece, up to `wanted` bytes; empty at the end of the file.  Valid until the
    // next call.
    fn piece(&mut self, at: u64, wanted: u64) -> Result<Span> {
        (self.window, self.begun) = (None, None);
        let size = match self.at.size {
            Some(size) => size,
            None => *self.at.size.insert(size_of(self.file)?),
        };
        let length = wanted.min(size.saturating_sub(at)).min(WINDOW);
        let mapped = length >= WINDOW_MIN && self.can_be_mapped(at, length) && self.begin(length);
        if let Some(piece) = mapped.then(|| self.map(at, length as usize)).flatten() {
            return Ok(piece);
        }
        let wanted = wanted.min(self.buffer.len() as u64) as usize;
        let (skip, length) = self.read(at, wanted)?;
        let length = if skip == 0 { self.read_on(at, length, wanted, size) } else { length };
        Ok(Span::of(&self.buffer[skip..length]))
    }

    // Chooses between a mapping and a read of data that is in the page cache; returns whether it is
    // the mapping.  The cost of the piece may be measured.
    fn begin(&mut self, length: u64) -> bool {
        let possible = |way| matches!(way, Copying::Mapped | Copying::Read256K);
        let Some(choice) = COSTS.choose(length, possible) else { return false };
        self.begun = COSTS.begin(&System, choice, length);
        choice.way == Copying::Mapped
    }

    // Learns from the send of the last piece, if its cost is being measured.
    fn learn(&mut self, sent: u64) {
        if let Some(begun) = self.begun.take() {
            self.window = None;
            COSTS.learn(&System, begun, sent);
        }
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

    // Returns whether the file was truncated under the window: then a read follows and finds the
    // end.
    fn was_cut(&mut self, at: u64) -> bool {
        let is_cut = self.window.is_some() && size_of(self.file).is_ok_and(|size| size <= at);
        if is_cut {
            self.at.mappable = Some(false);
        }
        is_cut
    }

    // Reads a piece; returns where in the buffer it begins and ends.
    fn read(&mut self, at: u64, wanted: usize) -> Result<(usize, usize)> {
        if sys::probes_allowed() {
            match sys::read_at_without_waiting(self.file, at, &mut self.buffer[..wanted]) {
                // Short: the next bytes are not in the page cache, or it is the end.
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
                _ => {} // not supported here; or the end, which a read that may wait finds
            }
        }
        match sys::read_at(self.file, at, &mut self.buffer[..wanted]) {
            Ok(length) => Ok((0, length)),
            Err(Errno(libc::EINVAL)) => self.read_direct(at, wanted),
            Err(error) => Err(error),
        }
    }

    // Reads a file that was opened with O_DIRECT, which accepts whole blocks only.  The kernel's
    // sendfile reads it in pieces of 64 KiB, and a piece that the peer has taken in part is in the
    // kernel already.
    fn read_direct(&mut self, at: u64, wanted: usize) -> Result<(usize, usize)> {
        const KERNEL_PIECE: usize = 64 << 10;
        let skip = (at - self.at.start) as usize % KERNEL_PIECE.min(self.buffer.len());
        let most = (skip + wanted).min(KERNEL_PIECE).min(self.buffer.len());
        let length = sys::read_at(self.file, at - skip as u64, &mut self.buffer[..most])?;
        Ok((skip.min(length), length))
    }

    // Completes a piece beyond the size that was known.  The end must be found before the last
    // piece is sent: a last piece sent with MSG_MORE would stay in the socket, and so would bytes
    // sent after a piece that was taken for the last one.
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

    // Returns whether the file ends here; reads it only where it might.
    fn ends_at(&mut self, at: u64) -> bool {
        if self.at.end != Some(at) && self.at.size.is_some_and(|size| at >= size) {
            let is_end = sys::read_at(self.file, at, &mut [0]) == Ok(0);
            self.at.end = is_end.then_some(at);
        }
        self.at.end == Some(at)
    }

    // Starts reading the following bytes, before those at hand are sent.
    fn prepare(&mut self, at: u64, length: u64) {
        let Some(ahead) = self.at.ahead else { return };
        let from = ahead.max(at);
        let until = at + length.min(Self::AHEAD);
        let mut next = from;
        while next < until {
            // The kernel accepts no more at once than its own readahead size.
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
