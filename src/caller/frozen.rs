// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends of files whose content cannot change, on the calling thread: by reference, with nothing to
//! copy and nothing to wait for.
#![forbid(unsafe_code)]

use super::inline::{Numbers, kernel_size, record};
use crate::decide::frozen::FROZEN_MIN;
use crate::decide::operation::{Operation, Task};
use crate::engine::at_once::Passed;
use crate::engine::frozen;
use crate::engine::kernel::Kernel;
use crate::engine::known_files::KnownFiles;
use crate::handoff::submissions::{Handles, Submission};
use crate::sys;
use crate::types::completion::CompletionFlags;
use crate::types::file::{Content, Size};
use crate::types::request::{RequestFlags, TO_EOF};
use std::os::fd::RawFd;

/// Sends as much as fits now, up to about `chunk` bytes; the operation's state shows whether that was
/// all.  Returns how many bytes of the file have been sent.  None: the file may change, or another
/// way is better, and nothing has been done.
pub(super) fn run(
    kernel: &impl Kernel,
    numbers: Numbers,
    submission: &mut Submission,
    known: &KnownFiles,
    chunk: u64,
) -> Option<u64> {
    let file = find(kernel, numbers, submission, known)?;
    let Submission { operation, staged, .. } = submission;
    let header = operation.task().header;
    if header > 0 {
        let flags = kernel.more_flag(numbers.socket, true);
        operation.send_started(true);
        let sent = kernel.send(numbers.socket, &[staged.header((0, header))], flags);
        record(operation, sent, CompletionFlags::empty(), |_| u64::MAX);
    }
    if operation.wire() == u64::from(header) {
        sys::without_sigpipe(|| {
            send_range(kernel, numbers.socket, file, operation, chunk);
            operation.ended() == Some(-libc::EPIPE)
        });
    }
    Some(operation.range_sent())
}

// Begins the operation if its range can be sent by reference without a wait; returns its file.
fn find(
    kernel: &impl Kernel,
    Numbers { socket, file }: Numbers,
    submission: &mut Submission,
    known: &KnownFiles,
) -> Option<RawFd> {
    let Submission { operation, file: facts, registered, .. } = submission;
    // The ring thread finds out for itself: the caller's number may have changed its meaning.
    let (file, mut facts) = (file?, (*facts)?);
    if !is_plain(operation.task(), *registered) || operation.task().length < FROZEN_MIN {
        return None;
    }
    // Once for all operations: at the registration, or by the ring thread.
    if registered.file.is_some() && facts.content == Content::Unknown {
        return None;
    }
    if !frozen::find_out(kernel, known, file, &mut facts) || !kernel.takes_references(socket) {
        return None;
    }
    let task = *operation.task();
    let Ok(Size::Known(size)) = kernel_size(kernel, Some(file), &facts) else { return None };
    let available = size.saturating_sub(task.offset);
    let length = if task.length == TO_EOF { available } else { task.length };
    if length < FROZEN_MIN || length > available {
        return None;
    }
    let is_resident = || kernel.is_resident(file, task.offset, length);
    known.timed(facts.mount, facts.inode, is_resident).then(|| {
        operation.start(Size::Known(size));
        file
    })
}

// Returns whether sendfile(2) alone sends it.  It cannot announce what follows.  Each call looks the
// caller's descriptors up anew, so a header needs registered ones.
fn is_plain(task: &Task, Handles { socket, file }: Handles) -> bool {
    let is_registered = socket.is_some() && file.is_some();
    task.trailer == 0
        && (task.header == 0 || is_registered)
        && !task.flags.contains(RequestFlags::MORE)
}

fn send_range(
    kernel: &impl Kernel,
    socket: RawFd,
    file: RawFd,
    operation: &mut Operation,
    chunk: u64,
) {
    while operation.ended().is_none() && operation.range_sent() < chunk {
        let most = chunk.min(operation.file_length() - operation.range_sent());
        let Some(Passed { asked, sent }) = frozen::send(kernel, socket, file, operation, most)
        else {
            return;
        };
        if frozen::is_for_another_way(sent) {
            return operation.send_refused();
        }
        record(operation, sent, CompletionFlags::WAS_ZEROCOPY, |_| u64::MAX);
        if sent != Ok(asked as usize) {
            return;
        }
    }
}
