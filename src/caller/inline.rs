// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends on the calling thread: a short range that is in the page cache and fits into the socket
//! now needs no other thread and no wake-up.  It never waits; the rest goes to the ring thread.
#![forbid(unsafe_code)]

use crate::decide::operation::{Operation, Portion, Task};
use crate::engine::at_once::{self, INLINE_MAX, Passed};
use crate::engine::kernel::Kernel;
use crate::engine::known_files::KnownFiles;
use crate::handoff::staging::Staged;
use crate::handoff::submissions::{Handles, Submission};
use crate::sys::Span;
use crate::types::completion::CompletionFlags;
use crate::types::errno::{Errno, Result};
use crate::types::file::{FileFacts, FileKind, Size};
use crate::types::request::{RequestFlags, TO_EOF};

use std::os::fd::RawFd;

/// The numbers of an operation's descriptors in the caller's table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub socket: RawFd,
    pub file: Option<RawFd>,
}

/// Returns whether an attempt is worthwhile; `chunk`: the most bytes that one kernel request may
/// move.
pub(crate) fn is_suitable(
    kernel: &impl Kernel,
    numbers: Numbers,
    submission: &Submission,
    known: &KnownFiles,
    chunk: u64,
) -> bool {
    let Some(file) = submission.file else { return true };
    // An EXACT range must not be read again for the part that did not fit into the socket.
    let task = submission.operation.task();
    if task.flags.contains(RequestFlags::EXACT) {
        return false;
    }
    // A call on another file system may wait for a server, and its size may be out of date.
    let is_quick = || known.look_up(file.kind, file.mount).is_local() && !known.is_slow(file.mount);
    if submission.registered.file.is_some() {
        return file.kind == FileKind::Regular && !file.direct && is_quick();
    }
    let Some(size) = file.known_size() else { return false };
    let range = task.length.min(size.saturating_sub(task.offset));
    is_quick()
        && range <= chunk
        && (range <= INLINE_MAX || may_be_mapped(kernel, numbers.socket, task))
}

// Returns whether a long range may be sent from a mapping: the end of a mapping is not exact, and
// to other machines the ring thread may send with zero-copy.
fn may_be_mapped(kernel: &impl Kernel, socket: RawFd, task: &Task) -> bool {
    task.length != TO_EOF && !kernel.leaves_the_machine(socket)
}

// Returns whether the range, which has begun, may be passed with one send.  The size of a registered
// file was not known before.
fn is_for_one_send(
    kernel: &impl Kernel,
    socket: RawFd,
    file: &FileFacts,
    operation: &Operation,
    chunk: u64,
) -> bool {
    let was_checked = file.known_size().is_some();
    let range = operation.file_length();
    let may_be_mapped = || may_be_mapped(kernel, socket, operation.task());
    was_checked || range <= chunk && (range <= INLINE_MAX || may_be_mapped())
}

/// Does as much as can be done without waiting; the operation's state shows whether that was all.
/// `chunk`: about the most bytes.  Returns how many bytes of the file went by reference.
///
/// There is only one read, or mapping, and one send, because each looks the caller's descriptor up
/// anew.  Registered ones stay what they are, and need no other system calls.
pub(crate) fn run(
    kernel: &impl Kernel,
    numbers: Numbers,
    submission: &mut Submission,
    known: &KnownFiles,
    chunk: u64,
    scratch: &mut [u8],
) -> u64 {
    if let Some(count) = super::frozen::run(kernel, numbers, submission, known, chunk) {
        return count;
    }
    let Handles { socket, file } = submission.registered;
    if socket.is_some() && (file.is_some() || submission.file.is_none()) {
        run_registered(kernel, numbers, submission, known, chunk, scratch);
    } else {
        run_once(kernel, numbers, submission, known, chunk, scratch);
    }
    0
}

fn run_once(
    kernel: &impl Kernel,
    Numbers { socket, file: number }: Numbers,
    submission: &mut Submission,
    known: &KnownFiles,
    chunk: u64,
    scratch: &mut [u8],
) {
    let Submission { operation, staged, file: facts, .. } = submission;
    let size = match *facts {
        Some(facts) => kernel_size(kernel, number, &facts),
        None => Ok(Size::NoFile),
    };
    let is_unknown = matches!(size, Ok(Size::Unknown));
    match size {
        Ok(size) => operation.start(size),
        Err(error) => operation.fail(error.negative()),
    }
    if operation.ended().is_some() {
        return;
    }
    let file = number.zip(*facts);
    if file.is_some_and(|(_, facts)| !is_for_one_send(kernel, socket, &facts, operation, chunk)) {
        return;
    }
    let mapped = number.filter(|_| operation.file_length() > INLINE_MAX);
    let parts = |portion: &Portion, data| staged.parts(portion, data);
    let passed = match (mapped, file) {
        (Some(_), Some((fd, facts))) if is_unknown || !known.may_map(&facts, fd) => return,
        (Some(fd), _) => pass_mapped(kernel, socket, fd, staged, operation),
        _ => at_once::pass(kernel, socket, file, operation, known, scratch, parts),
    };
    let Some(Passed { sent, .. }) = passed else {
        return;
    };
    if mapped.is_some() && sent == Err(Errno(libc::EFAULT)) {
        // A page is missing; the ring thread finds out why.
        return operation.send_refused();
    }
    let mapped = file.filter(|_| mapped.is_some());
    record(operation, sent, CompletionFlags::WAS_COPIED, |operation| {
        mapped.map_or(u64::MAX, |file| available(kernel, file, operation))
    });
}

/// Returns the size that submit has read, or that of a registered file now.
pub(super) fn kernel_size(
    kernel: &impl Kernel,
    number: Option<RawFd>,
    facts: &FileFacts,
) -> Result<Size> {
    match (facts.known_size(), number) {
        (Some(size), _) => Ok(Size::Known(size)),
        (None, Some(number)) => kernel.size(number, facts),
        (None, None) => Ok(Size::Known(facts.size)),
    }
}

// Reads and sends piece by piece.
fn run_registered(
    kernel: &impl Kernel,
    Numbers { socket, file: number }: Numbers,
    submission: &mut Submission,
    known: &KnownFiles,
    chunk: u64,
    scratch: &mut [u8],
) {
    let Submission { operation, staged, file: facts, .. } = submission;
    let file = number.zip(*facts);
    operation.start(if file.is_some() { Size::Unknown } else { Size::NoFile });
    while operation.ended().is_none() && operation.range_sent() < chunk {
        let Some(count) = read_piece(kernel, file, operation, known, scratch) else { break };
        let data = Span::of(&scratch[..count]);
        let parts = |portion: &Portion, data| staged.parts(portion, data);
        let passed = at_once::send(kernel, socket, operation, data, parts);
        operation.forget_held();
        let Some(Passed { asked, sent }) = passed else { break };
        record(operation, sent, CompletionFlags::WAS_COPIED, |_| u64::MAX);
        if sent != Ok(asked as usize) {
            break;
        }
    }
}

// Reads the next piece of the range from the page cache, and finds the end of the file.  None: it is
// not all there.
fn read_piece(
    kernel: &impl Kernel,
    file: Option<(RawFd, FileFacts)>,
    operation: &mut Operation,
    known: &KnownFiles,
    scratch: &mut [u8],
) -> Option<usize> {
    let at = operation.range_sent();
    let left = operation.file_length().saturating_sub(at);
    let wanted = left.min(scratch.len() as u64) as usize;
    if wanted == 0 {
        return Some(0);
    }
    let (fd, FileFacts { mount, inode, .. }) = file?;
    let offset = operation.task().offset + at;
    let read = |offset, into: &mut [u8]| {
        known.timed(mount, inode, || kernel.read_warm(fd, offset, into)).ok()
    };
    let count = read(offset, &mut scratch[..wanted])?;
    if count < wanted {
        // Either the file ends here, or the rest is not in the page cache.
        if count > 0 && read(offset + count as u64, &mut [0])? > 0 {
            return None;
        }
        operation.short(at + count as u64);
    }
    if count > 0 {
        operation.read_started();
        operation.read_done(at, count as u64);
    }
    Some(count)
}

/// Records the outcome of a send, which had bytes of the file go this way.
pub(super) fn record(
    operation: &mut Operation,
    sent: Result<usize>,
    was: CompletionFlags,
    available: impl FnOnce(&mut Operation) -> u64,
) {
    match sent {
        Ok(count) => {
            let available = available(operation);
            operation.sent(count as u64, was, available);
        }
        Err(Errno(libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM)) => {
            operation.send_refused();
        }
        Err(error) => operation.send_failed(error.negative()),
    }
}

// Returns how many bytes of the range the file has now: from a mapping of a truncated file, zeros
// beyond its end may have been sent.  If the size cannot be found out, the operation fails.
fn available(
    kernel: &impl Kernel,
    (file, facts): (RawFd, FileFacts),
    operation: &mut Operation,
) -> u64 {
    match kernel.size(file, &facts) {
        Ok(Size::Known(size)) => size.saturating_sub(operation.task().offset),
        Ok(_) => 0,
        Err(error) => {
            operation.fail(error.negative());
            0
        }
    }
}

// Sends from a mapping of the range.
fn pass_mapped(
    kernel: &impl Kernel,
    socket: RawFd,
    file: RawFd,
    staged: &Staged,
    operation: &mut Operation,
) -> Option<Passed> {
    let (offset, length) = (operation.task().offset, operation.file_length());
    if !kernel.is_resident(file, offset, length) {
        return None;
    }
    let window = kernel.map(file, offset, length as usize).ok()?;
    let parts = |portion: &Portion, data| staged.parts(portion, data);
    at_once::send(kernel, socket, operation, window.span(), parts)
}
