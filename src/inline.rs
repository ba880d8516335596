// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calling thread's way: what is small, warm and fits into the socket now is read and sent
//! at once, without waking anybody.
#![forbid(unsafe_code)]

use crate::operation::{Operation, Size, WAS_COPIED};
use crate::request::{EXACT, Request};
use crate::staging::ZEROS;
use crate::submission::Submission;
use crate::sys::{self, Errno, FileKind, PARTS_MAX, Span};
use std::sync::Mutex;

/// The longest range done like this: beyond it the copy takes the caller too long.
pub const INLINE_MAX: u64 = 256 << 10;
const SCRATCH: usize = 64 << 10;
const SCRATCH_KEPT: usize = 4;

/// Buffers for the callers' threads.  Not thread-local: a destructor in the host's threads
/// would keep the library from being unloaded.
#[derive(Debug, Default)]
pub struct ScratchPool(Mutex<Vec<Box<[u8]>>>);

impl ScratchPool {
    /// None lent yet.
    pub const fn new() -> ScratchPool {
        ScratchPool(Mutex::new(Vec::new()))
    }

    /// Lends one.
    pub fn with<T>(&self, body: impl FnOnce(&mut [u8]) -> T) -> T {
        // Never waiting: a thread that forked may have left it locked in the child for ever.
        let kept = self.0.try_lock().ok().and_then(|mut kept| kept.pop());
        let mut scratch = kept.unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice());
        let result = body(&mut scratch);
        if let Ok(mut kept) = self.0.try_lock() {
            if kept.len() < SCRATCH_KEPT {
                kept.push(scratch);
            }
        }
        result
    }
}

/// Whether it is worth trying.
pub(crate) fn is_suitable(request: &Request<'_>, submission: &Submission) -> bool {
    let available = match submission.file {
        None => return true,
        // Size 0 may be a file of /proc.
        Some(file) if file.kind == FileKind::Regular && file.size > 0 => file.size,
        Some(_) => return false,
    };
    // An EXACT range must not be read again for the part that did not fit into the socket.
    let range = request.length.min(available.saturating_sub(request.offset));
    range <= INLINE_MAX && request.flags & EXACT == 0
}

/// Does what can be done without waiting; whether that was all, the operation tells.
pub(crate) fn run(request: &Request<'_>, submission: &Submission, scratch: &mut [u8]) -> Operation {
    let mut operation = Operation::new(submission.task, 0, 0);
    operation.start(match submission.file {
        None => Size::NoFile,
        Some(file) => Size::Known(file.size),
    });
    let mut filled = 0; // bytes of the scratch that hold the range from range_sent() on
    while operation.ended().is_none() {
        let sent = operation.range_sent();
        if filled == 0 && operation.needs_data() {
            match fill(request, &mut operation, scratch) {
                Some(count) => filled = count,
                None => break,
            }
            continue;
        }
        let Some(portion) = operation.want_send(filled as u64, scratch.len() as u64) else {
            break;
        };
        let parts = [
            submission.staged.header(portion.header),
            Span::of(&scratch[..portion.range.1 as usize]),
            Span::of(&ZEROS[..portion.zeros as usize]),
            submission.staged.trailer(portion.trailer),
        ];
        if !send(request, &mut operation, &parts, portion.len(), portion.more) {
            break;
        }
        filled -= (operation.range_sent() - sent).min(filled as u64) as usize;
        debug_assert!(filled == 0 || operation.ended().is_some());
    }
    operation
}

// Reads the next piece whole.  None: not without waiting.
fn fill(request: &Request<'_>, operation: &mut Operation, scratch: &mut [u8]) -> Option<usize> {
    let file = request.file?;
    let start = operation.range_sent();
    let mut filled = 0;
    while let Some((at, length)) = operation.want_read(u64::MAX, (scratch.len() - filled) as u64) {
        debug_assert_eq!(at, start + filled as u64);
        let into = &mut scratch[filled..filled + length as usize];
        let Ok(count) = sys::read_at_without_waiting(file, request.offset + at, into) else {
            operation.forget_held();
            return None;
        };
        operation.read_started();
        operation.read_done(at, count as u64);
        filled += count;
        if count == 0 || filled == scratch.len() {
            break;
        }
    }
    Some(filled)
}

// False: the socket has no room for the rest.
fn send(
    request: &Request<'_>,
    operation: &mut Operation,
    parts: &[Span; PARTS_MAX],
    length: u64,
    more: bool,
) -> bool {
    let flags = if more { libc::MSG_MORE } else { 0 };
    operation.send_started();
    match sys::send_parts(request.socket, parts, flags) {
        Ok(count) => {
            operation.sent(count as u64, WAS_COPIED, u64::MAX);
            count as u64 == length
        }
        Err(Errno(libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM)) => {
            operation.send_refused();
            false
        }
        Err(error) => {
            operation.send_failed(error.negative());
            true
        }
    }
}
