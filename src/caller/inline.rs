// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends on the calling thread: a short range that is in the page cache and fits into the socket
//! now needs no other thread and no wake-up.  It never waits; the rest goes to the ring thread.
#![forbid(unsafe_code)]

use crate::decide::costs::{COPY_MIN, Choice};
use crate::decide::operation::{Operation, Portion, Task};
use crate::engine::at_once::{self, INLINE_MAX, LONG_MIN, Passed};
use crate::engine::kernel::Kernel;
use crate::engine::known_files::KnownFiles;
use crate::engine::streams::STREAM_MIN;
use crate::handoff::staging::Staged;
use crate::handoff::submissions::{Handles, Submission};
use crate::sys::Span;
use crate::types::completion::CompletionFlags;
use crate::types::copying::{Copying, READ_MAX};
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
    let task = submission.operation.task();
    // It follows a read from the disk: a helper is to read it.
    if known.streams.has(file.inode, task.offset) {
        return false;
    }
    // An EXACT range must not be read again for the part that did not fit into the socket.
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
    is_quick() && range <= chunk && is_for_this_thread(kernel, numbers.socket, task, range)
}

// Returns whether the range may be copied here.  To other machines the ring thread may send a long
// one with zero-copy.  What is longer than one read is mapped, and the end of a mapping is not exact.
fn is_for_this_thread(kernel: &impl Kernel, socket: RawFd, task: &Task, range: u64) -> bool {
    range <= INLINE_MAX
        || (range <= READ_MAX || task.length != TO_EOF) && !kernel.leaves_the_machine(socket)
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
    let is_for_this_thread = || is_for_this_thread(kernel, socket, operation.task(), range);
    was_checked || range <= chunk && is_for_this_thread()
}

// What is not worth a choice is read.
const SHORT: Choice = Choice { way: Copying::Read256K, is_measured: false };

// Chooses the way of copying `length` bytes.  `may_read`: which reads come into question.  None: no
// way is possible.
fn choose(
    known: &KnownFiles,
    (fd, facts): (RawFd, FileFacts),
    task: &Task,
    length: u64,
    may_read: impl Fn(u64) -> bool,
) -> Option<Choice> {
    if length < COPY_MIN {
        return Some(SHORT);
    }
    let may_map = task.length != TO_EOF && known.may_map(&facts, fd);
    let possible = |way: Copying| way.piece().map_or(may_map, &may_read);
    known.costs.choose(length, possible)
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
    let &Task { offset, length, .. } = submission.operation.task();
    let file = numbers.file.zip(submission.file);
    let mut run = || {
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
    };
    match (file, offset.checked_add(length)) {
        // The time of a long range tells whether what follows it is for a helper.
        (Some((fd, facts)), Some(end)) if length >= STREAM_MIN => {
            known.streams.watch(kernel, (fd, &facts), end, run)
        }
        _ => run(),
    }
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
    let length = operation.file_length();
    if is_unknown && length > INLINE_MAX {
        return;
    }
    // One read has all of it, and the shortest buffer is the one that stays in the cache.
    let is_whole = |piece| (length..4 * length).contains(&piece);
    let choice = match file {
        Some(file) => choose(known, file, operation.task(), length, is_whole),
        None => Some(SHORT),
    };
    let Some(choice) = choice else { return };
    let mapped = file.filter(|_| choice.way == Copying::Mapped);
    let begun = known.costs.begin(kernel, choice, length);
    let passed = match mapped {
        Some((fd, _)) => pass_mapped(kernel, socket, fd, staged, operation, length),
        None => {
            let parts = |portion: &Portion, data| staged.parts(portion, data);
            at_once::pass(kernel, socket, file, operation, known, scratch, parts)
        }
    };
    if let Some(begun) = begun {
        known.costs.learn(kernel, begun, passed.as_ref().map_or(0, Passed::count));
    }
    if let Some(Passed { sent, .. }) = passed {
        record_copy(kernel, operation, sent, mapped);
    }
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

// Copies piece by piece.
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
    let length = operation.file_length().min(chunk);
    // The size of a file whose end is asked for is not known, and it may be short.
    let is_long = operation.task().length != TO_EOF && length >= COPY_MIN;
    let choice = file
        .filter(|_| is_long)
        .and_then(|file| choose(known, file, operation.task(), length, |piece| piece < 4 * length));
    let choice = choice.unwrap_or(SHORT);
    let mapped = file.filter(|_| choice.way == Copying::Mapped);
    let most = choice.way.piece().unwrap_or(READ_MAX).min(chunk);
    let piece = &mut scratch[..most as usize];
    let begun = known.costs.begin(kernel, choice, length);
    if let Some(file) = mapped {
        find_end(kernel, file, operation);
    }
    while operation.ended().is_none() && operation.range_sent() < chunk {
        let passed = match mapped {
            Some((fd, _)) => pass_mapped(kernel, socket, fd, staged, operation, chunk),
            None => pass_piece(kernel, socket, file, staged, operation, known, piece),
        };
        let Some(Passed { asked, sent }) = passed else { break };
        record_copy(kernel, operation, sent, mapped);
        if sent != Ok(asked as usize) {
            break;
        }
    }
    if let Some(begun) = begun {
        known.costs.learn(kernel, begun, operation.range_sent());
    }
}

// Reads the next piece of the range, up to the length of the buffer, and sends it.
fn pass_piece(
    kernel: &impl Kernel,
    socket: RawFd,
    file: Option<(RawFd, FileFacts)>,
    staged: &Staged,
    operation: &mut Operation,
    known: &KnownFiles,
    buffer: &mut [u8],
) -> Option<Passed> {
    let count = read_piece(kernel, file, operation, known, buffer)?;
    let data = Span::of(&buffer[..count]);
    let parts = |portion: &Portion, data| staged.parts(portion, data);
    let passed = at_once::send(kernel, socket, operation, data, parts);
    operation.forget_held();
    passed
}

// Queries the size of the file, which may be shorter than the range.
fn find_end(kernel: &impl Kernel, (fd, facts): (RawFd, FileFacts), operation: &mut Operation) {
    match kernel.size(fd, &facts) {
        Ok(size) => operation.resume(size),
        Err(error) => operation.fail(error.negative()),
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
    } else if is_long(operation, count) && at_once::was_cut(kernel, fd, offset + count as u64) {
        return None;
    }
    if count > 0 {
        operation.read_started();
        operation.read_done(at, count as u64);
    }
    Some(count)
}

// Returns whether a piece takes so long to read that the file may have been truncated meanwhile.
fn is_long(operation: &Operation, count: usize) -> bool {
    const PIECE_MIN: usize = 64 << 10;
    count >= PIECE_MIN && operation.file_length() >= LONG_MIN
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
        // EFAULT: a page of a mapping is missing; the ring thread finds out why.
        Err(Errno(libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM | libc::EFAULT)) => {
            operation.send_refused()
        }
        Err(error) => operation.send_failed(error.negative()),
    }
}

// Records the outcome of a send of copies: from a mapping of `mapped`, or of what was read.
fn record_copy(
    kernel: &impl Kernel,
    operation: &mut Operation,
    sent: Result<usize>,
    mapped: Option<(RawFd, FileFacts)>,
) {
    record(operation, sent, CompletionFlags::WAS_COPIED, |operation| {
        mapped.map_or(u64::MAX, |file| available(kernel, file, operation))
    });
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

// Sends up to `most` bytes of the rest of the range from a mapping.
fn pass_mapped(
    kernel: &impl Kernel,
    socket: RawFd,
    file: RawFd,
    staged: &Staged,
    operation: &mut Operation,
    most: u64,
) -> Option<Passed> {
    let at = operation.range_sent();
    let (offset, length) =
        (operation.task().offset + at, operation.file_length().saturating_sub(at));
    let length = length.min(most);
    let parts = |portion: &Portion, data| staged.parts(portion, data);
    if length == 0 {
        return at_once::send(kernel, socket, operation, Span::of(&[]), parts);
    }
    if !kernel.is_resident(file, offset, length) {
        return None;
    }
    let window = kernel.map(file, offset, length as usize).ok()?;
    at_once::send(kernel, socket, operation, window.span(), parts)
}
