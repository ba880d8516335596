// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a file into a pipe: writes what fits now, as the kernel does, because the caller may be the
//! pipe's reader as well.

use super::{Arguments, BUFFERS, Call, Route, Step, Wait, kind};
use crate::sys;
use crate::types::errno::{Errno, Result};
use crate::types::file::FileKind;

/// What is known of the room in a pipe.
enum Room {
    Some,
    None,
    /// The kernel checks it itself, with its wait and its SIGPIPE.
    Kernels,
}

enum Pause {
    Ended,
    Failed(Errno),
    /// This pipe cannot be written to without the risk of waiting.
    Untouched,
}

impl Call {
    pub(super) fn begin_splice(&mut self) -> Step {
        match self.is_ours() {
            Ok(true) if self.is_frozen() => return self.pass_frozen(),
            Ok(true) => {}
            Ok(false) => return self.pass_on(),
            Err(error) => return self.done(Err(error)),
        }
        self.route = Route::Pipe;
        match self.accept_splice() {
            Some(Room::Kernels) => self.wait(Wait::Pipe),
            Some(Room::Some) => self.write_pieces(),
            Some(Room::None) => self.done(Err(Errno(libc::EAGAIN))),
            // Of several errors in one call, the kernel chooses which one it returns.
            None => self.pass_on(),
        }
    }

    fn is_ours(&self) -> Result<bool> {
        const KNOWN: u32 = libc::SPLICE_F_MOVE
            | libc::SPLICE_F_NONBLOCK
            | libc::SPLICE_F_MORE
            | libc::SPLICE_F_GIFT;
        let Arguments { out, file, count, splice, .. } = self.arguments;
        let Some(splice) = splice else { return Ok(false) };
        let may_be = splice.out_offset.is_none()
            && splice.flags & !KNOWN == 0
            && count > 0
            && count <= isize::MAX as usize;
        Ok(may_be
            && kind(out)? == FileKind::Pipe
            && matches!(kind(file)?, FileKind::Regular | FileKind::Block)
            && self.pipe_route()? == Route::Pipe)
    }

    // Returns the kernel's route where a write differs from the kernel's own transfer.  Each write
    // to a pipe in packet mode is a packet, of which a reader may lose a part.  A file opened with
    // O_DIRECT is read by the kernel at once, into pages that nothing else uses.
    pub(super) fn pipe_route(&self) -> Result<Route> {
        let is_direct = |fd| sys::status_flags(fd).map(|flags| flags & libc::O_DIRECT != 0);
        let Arguments { out, file, .. } = self.arguments;
        Ok(if is_direct(out)? || is_direct(file)? { Route::PassedOn } else { Route::Pipe })
    }

    // Checks the arguments.  None: the kernel refuses the call.
    fn accept_splice(&mut self) -> Option<Room> {
        let Arguments { out, file, count, splice, .. } = self.arguments;
        self.find_start()?;
        let (file_flags, out_flags) = (sys::status_flags(file).ok()?, sys::status_flags(out).ok()?);
        let is_mistaken = file_flags & libc::O_ACCMODE == libc::O_WRONLY
            || out_flags & libc::O_ACCMODE == libc::O_RDONLY
            || (file_flags | out_flags) & libc::O_PATH != 0;
        if is_mistaken {
            return None;
        }
        self.limit = count as u64;
        self.dont_wait = out_flags & libc::O_NONBLOCK != 0
            || splice.is_some_and(|splice| splice.flags & libc::SPLICE_F_NONBLOCK != 0);
        // A pipe without readers is writable as well.
        Some(match sys::is_ready(out, libc::POLLOUT | libc::POLLERR) {
            false if self.dont_wait => Room::None,
            true if self.dont_wait && !sys::is_ready(out, libc::POLLERR) => Room::Some,
            _ => Room::Kernels,
        })
    }

    pub(super) fn write_pieces(&mut self) -> Step {
        // The kernel puts each page of the file into a page of the pipe.
        let room = sys::pipe_capacity(self.arguments.out) - sys::offset_in_page(self.start);
        self.limit = self.limit.min(room);
        match BUFFERS.with_any(|buffer| self.fill_pipe(buffer)) {
            Pause::Ended => self.ended(),
            // Another writer has filled it.
            Pause::Failed(Errno(libc::EAGAIN)) if self.sent == 0 && !self.dont_wait => {
                self.wait(Wait::Pipe)
            }
            Pause::Failed(error) => self.finish(Some(error)),
            Pause::Untouched if self.sent == 0 => self.pass_on(),
            Pause::Untouched => self.finish(None),
        }
    }

    fn fill_pipe(&mut self, buffer: &mut [u8]) -> Pause {
        let Arguments { out, file, splice, .. } = self.arguments;
        let never_waits = splice.is_some() && self.dont_wait;
        while self.sent < self.limit {
            let wanted = (self.limit - self.sent).min(buffer.len() as u64) as usize;
            let piece = match sys::read_at(file, self.start + self.sent, &mut buffer[..wanted]) {
                Ok(0) => break,
                Ok(length) => &buffer[..length],
                Err(error) => return Pause::Failed(error),
            };
            match sys::write_what_fits(out, piece, never_waits) {
                Ok(length) if length < piece.len() => {
                    self.sent += length as u64;
                    break;
                }
                Ok(length) => self.sent += length as u64,
                Err(Errno(libc::EOPNOTSUPP)) => return Pause::Untouched,
                Err(error) => return Pause::Failed(error),
            }
        }
        Pause::Ended
    }
}
