// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is warm, not long and fits into the socket now is sent at once: by the calling thread,
//! without waking anybody, or by the ring thread, with one system call for each.
#![forbid(unsafe_code)]

use crate::decide::operation::Operation;
use crate::engine::known_files::KnownFiles;
use crate::handoff::staging::{Staged, ZEROS};
use crate::handoff::submissions::Submission;
use crate::sys::{self, FileWindow, Span};
use crate::types::completion::WAS_COPIED;
use crate::types::errno::{Errno, Result};
use crate::types::file::{FileFacts, Size};
use crate::types::request::{EXACT, Request, TO_EOF};
use std::os::fd::RawFd;

/// The longest range that is read and then sent: beyond it the data has left the second level
/// cache by the time it is sent, and one copy from a mapping costs less.
pub const INLINE_MAX: u64 = 256 << 10;

/// Whether it is worth trying; `chunk`: the most that one request to the kernel may move.
pub(crate) fn is_suitable(
    request: &Request<'_>,
    submission: &Submission,
    known: &KnownFiles,
    chunk: u64,
) -> bool {
    let Some(file) = submission.file else { return true };
    let Some(size) = file.known_size() else { return false };
    // A call on another file system may wait for a server, and its size may be an old one.
    if !known.look_up(file.kind, file.mount).is_local() || known.is_slow(file.mount) {
        return false;
    }
    // An EXACT range must not be read again for the part that did not fit into the socket.
    let range = request.length.min(size.saturating_sub(request.offset));
    request.flags & EXACT == 0 && range <= chunk && (range <= INLINE_MAX || may_be_mapped(request))
}

// The end of what is mapped is not exact, and to other machines the ring thread may send without
// a copy.
fn may_be_mapped(request: &Request<'_>) -> bool {
    request.length != TO_EOF && !sys::leaves_the_machine(request.socket)
}

/// Does what one read, or mapping, and one send can do without waiting; whether that was all, the
/// operation tells.  One of each, because each looks the caller's descriptor up anew.
pub(crate) fn run(
    request: &Request<'_>,
    submission: &mut Submission,
    known: &KnownFiles,
    scratch: &mut [u8],
) {
    let Submission { operation, staged, file: facts, .. } = submission;
    operation.start(facts.map_or(Size::NoFile, |facts| Size::Known(facts.size)));
    if operation.ended().is_some() {
        return;
    }
    let file = request.file.zip(*facts);
    let mapped = request.file.filter(|_| operation.file_length() > INLINE_MAX);
    let passed = match (mapped, file) {
        (Some(_), Some((fd, facts))) if !known.may_map(&facts, fd) => return,
        (Some(fd), _) => pass_mapped(request.socket, fd, staged, operation),
        _ => pass(request.socket, file, staged, operation, known, scratch),
    };
    let Some(Passed { sent, .. }) = passed else {
        return;
    };
    match sent {
        Ok(count) => {
            let available = mapped.map_or(u64::MAX, |file| available(file, operation));
            operation.sent(count as u64, WAS_COPIED, available);
        }
        Err(Errno(libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM)) => {
            operation.send_refused();
        }
        // A page is not there any more; the ring thread finds out why.
        Err(Errno(libc::EFAULT)) if mapped.is_some() => operation.send_refused(),
        Err(error) => operation.send_failed(error.negative()),
    }
}

// How much of the range the file has now: from a mapping zeros may have gone out beyond the end of
// a file that has been cut.  Where that cannot be found out, the operation has failed.
fn available(file: RawFd, operation: &mut Operation) -> u64 {
    match sys::file_state_without_sync(file) {
        Ok(state) => state.size.saturating_sub(operation.task().offset),
        Err(error) => {
            operation.fail(error.negative());
            0
        }
    }
}

/// What came of sending at once.
pub(crate) struct Passed {
    /// Bytes that were to go.
    pub asked: u64,
    /// How many did.
    pub sent: Result<usize>,
}

/// Reads what is left of the range into `scratch`, which has room for it, and sends that with
/// what belongs around it, neither waiting.  The operation is to be told what came of the send.
/// None: not all of it is there to be read now, or there is nothing to send.
pub(crate) fn pass(
    socket: RawFd,
    file: Option<(RawFd, FileFacts)>,
    staged: &Staged,
    operation: &mut Operation,
    known: &KnownFiles,
    scratch: &mut [u8],
) -> Option<Passed> {
    let filled = fill(file, operation, known, scratch);
    let passed =
        filled.and_then(|filled| send(socket, staged, operation, Span::of(&scratch[..filled])));
    operation.forget_held();
    passed
}

// The same from a mapping of the range.
fn pass_mapped(
    socket: RawFd,
    file: RawFd,
    staged: &Staged,
    operation: &mut Operation,
) -> Option<Passed> {
    let (offset, length) = (operation.task().offset, operation.file_length());
    if !sys::is_resident(file, offset, length) {
        return None;
    }
    let window = FileWindow::new(file, offset, length as usize).ok()?;
    send(socket, staged, operation, window.span())
}

fn fill(
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
    let count = known.timed(mount, inode, || sys::read_warm(fd, offset, into)).ok()?;
    operation.read_started();
    operation.read_done(at, count as u64);
    (count == wanted).then_some(count)
}

fn send(socket: RawFd, staged: &Staged, operation: &mut Operation, data: Span) -> Option<Passed> {
    let portion = operation.want_send(data.len() as u64, data.len() as u64)?;
    let parts = [
        staged.header(portion.header),
        data,
        Span::of(&ZEROS[..portion.zeros as usize]),
        staged.trailer(portion.trailer),
    ];
    let flags = sys::more_flag(socket, portion.more);
    operation.send_started(portion.more);
    Some(Passed { asked: portion.len(), sent: sys::send_parts(socket, &parts, flags) })
}
