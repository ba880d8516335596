// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends on the calling thread: a short range that is in the page cache and fits into the socket
//! now needs no other thread and no wake-up.  It never waits; the rest goes to the ring thread.
#![forbid(unsafe_code)]

use crate::decide::operation::{Operation, Portion};
use crate::engine::at_once::{self, INLINE_MAX, Passed};
use crate::engine::kernel::Kernel;
use crate::engine::known_files::KnownFiles;
use crate::handoff::staging::Staged;
use crate::handoff::submissions::Submission;
use crate::types::completion::CompletionFlags;
use crate::types::errno::Errno;
use crate::types::file::{FileFacts, Size};
use crate::types::request::{Request, RequestFlags, TO_EOF};

use std::os::fd::RawFd;

/// Returns whether an attempt is worthwhile; `chunk`: the most bytes that one kernel request may
/// move.
pub(crate) fn is_suitable(
    kernel: &impl Kernel,
    request: &Request<'_>,
    submission: &Submission,
    known: &KnownFiles,
    chunk: u64,
) -> bool {
    let Some(file) = submission.file else { return true };
    let Some(size) = file.known_size() else { return false };
    // A call on another file system may wait for a server, and its size may be out of date.
    if !known.look_up(file.kind, file.mount).is_local() || known.is_slow(file.mount) {
        return false;
    }
    // An EXACT range must not be read again for the part that did not fit into the socket.
    let range = request.length.min(size.saturating_sub(request.offset));
    !request.flags.contains(RequestFlags::EXACT)
        && range <= chunk
        && (range <= INLINE_MAX || may_be_mapped(kernel, request))
}

// Returns whether a long range may be sent from a mapping: the end of a mapping is not exact, and
// to other machines the ring thread may send with zero-copy.
fn may_be_mapped(kernel: &impl Kernel, request: &Request<'_>) -> bool {
    request.length != TO_EOF && !kernel.leaves_the_machine(request.socket)
}

/// Does as much as one read, or mapping, and one send can do without waiting; the operation's state
/// shows whether that was all.  Only one of each, because each looks the caller's descriptor up
/// anew.
pub(crate) fn run(
    kernel: &impl Kernel,
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
    let parts = |portion: &Portion, data| staged.parts(portion, data);
    let passed = match (mapped, file) {
        (Some(_), Some((fd, facts))) if !known.may_map(&facts, fd) => return,
        (Some(fd), _) => pass_mapped(kernel, request.socket, fd, staged, operation),
        _ => at_once::pass(kernel, request.socket, file, operation, known, scratch, parts),
    };
    let Some(Passed { sent, .. }) = passed else {
        return;
    };
    match sent {
        Ok(count) => {
            let mapped = file.filter(|_| mapped.is_some());
            let available = mapped.map_or(u64::MAX, |file| available(kernel, file, operation));
            operation.sent(count as u64, CompletionFlags::WAS_COPIED, available);
        }
        Err(Errno(libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM)) => {
            operation.send_refused();
        }
        // A page is missing; the ring thread finds out why.
        Err(Errno(libc::EFAULT)) if mapped.is_some() => operation.send_refused(),
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
