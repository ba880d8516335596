// SPDX-License-Identifier: MIT OR Apache-2.0
//! One read and one send without waiting.  For a short range in the page cache this costs less than
//! any other way.  The ring thread and the calling thread (`caller`) both use it.
#![forbid(unsafe_code)]

use super::kernel::Kernel;
use super::known_files::KnownFiles;
use crate::decide::operation::{Operation, Portion};
use crate::sys::{PARTS_MAX, Span};
use crate::types::errno::Result;
use crate::types::file::FileFacts;
use std::os::fd::RawFd;

/// The longest range, in bytes, that is read and sent without the choice of a way.  Longer data may
/// have left the second-level cache by the time it is sent; [`costs`](crate::decide::costs) then
/// decides.
pub const INLINE_MAX: u64 = 256 << 10;

/// The shortest range, in bytes, whose reads take so long that the file may well be truncated
/// meanwhile; see [`was_cut`].
pub const LONG_MIN: u64 = 128 << 10;

/// The outcome of a send.
pub(crate) struct Passed {
    /// Bytes that were to be sent.
    pub asked: u64,
    /// Bytes that the socket took.
    pub sent: Result<usize>,
}

impl Passed {
    /// Returns how many bytes the socket took.
    pub fn count(&self) -> u64 {
        self.sent.map_or(0, |count| count as u64)
    }
}

/// Reads the rest of the range into `scratch`, which has room for it, and sends it.  `parts`
/// returns where header, data, padding and trailer of a portion are.  The caller reports the
/// outcome to the operation.  None: not all of the range can be read without waiting, or there is
/// nothing to send.
pub(crate) fn pass(
    kernel: &impl Kernel,
    socket: RawFd,
    file: Option<(RawFd, FileFacts)>,
    operation: &mut Operation,
    known: &KnownFiles,
    scratch: &mut [u8],
    parts: impl FnOnce(&Portion, Span) -> [Span; PARTS_MAX],
) -> Option<Passed> {
    let filled = fill(kernel, file, operation, known, scratch);
    let passed = filled.and_then(|filled| {
        let data = Span::of(&scratch[..filled]);
        send(kernel, socket, operation, data, parts)
    });
    operation.forget_held();
    passed
}

fn fill(
    kernel: &impl Kernel,
    file: Option<(RawFd, FileFacts)>,
    operation: &mut Operation,
    known: &KnownFiles,
    scratch: &mut [u8],
) -> Option<usize> {
    let at = operation.range_sent();
    let wanted = operation.file_length().saturating_sub(at) as usize;
    if wanted == 0 {
        return Some(0);
    }
    let into = &mut scratch[..wanted];
    let offset = operation.task().offset + at;
    let (fd, FileFacts { mount, inode, .. }) = file?;
    let count = known.timed(mount, inode, || kernel.read_warm(fd, offset, into)).ok()?;
    if count as u64 >= LONG_MIN && was_cut(kernel, fd, offset + count as u64) {
        return None;
    }
    operation.read_started();
    operation.read_done(at, count as u64);
    (count == wanted).then_some(count)
}

/// Returns whether a file, of which the bytes up to `end` have just been read, has become shorter.
/// A read that meets a truncation can show zeros up to the end of a page, as a mapping does.
pub(crate) fn was_cut(kernel: &impl Kernel, fd: RawFd, end: u64) -> bool {
    kernel.read_warm(fd, end - 1, &mut [0]) == Ok(0)
}

/// Sends the rest of the operation; `data` is the rest of its range.  None: there is nothing to
/// send.
pub(crate) fn send(
    kernel: &impl Kernel,
    socket: RawFd,
    operation: &mut Operation,
    data: Span,
    parts: impl FnOnce(&Portion, Span) -> [Span; PARTS_MAX],
) -> Option<Passed> {
    let portion = operation.want_send(data.len() as u64, data.len() as u64)?;
    let parts = parts(&portion, data);
    let flags = kernel.more_flag(socket, portion.more);
    operation.send_started(portion.more);
    Some(Passed { asked: portion.len(), sent: kernel.send(socket, &parts, flags) })
}
