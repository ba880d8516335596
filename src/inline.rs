// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calling thread's way: what is small, warm and fits into the socket now is read and sent
//! at once, without waking anybody.
#![forbid(unsafe_code)]

use crate::operation::{Operation, Size, WAS_COPIED};
use crate::request::{EXACT, Request};
use crate::staging::{Staged, ZEROS};
use crate::submission::Submission;
use crate::sys::{self, Errno, FileKind, Span};
use std::sync::Mutex;

/// The longest range done like this: beyond it the copy takes the caller too long.
pub const INLINE_MAX: u64 = 128 << 10;
const SCRATCH: usize = INLINE_MAX as usize;
const SCRATCH_KEPT: usize = 2;

/// Buffers for the callers' threads.  Not thread-local: a destructor in the host's threads
/// would keep the library from being unloaded.
#[derive(Debug, Default)]
pub struct ScratchPool(Mutex<Vec<Box<[u8]>>>);

impl ScratchPool {
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

/// Does what one read and one send can do without waiting; whether that was all, the operation
/// tells.  One of each, because each looks the caller's descriptor up anew.
pub(crate) fn run(request: &Request<'_>, submission: &mut Submission, scratch: &mut [u8]) {
    let Submission { operation, staged, .. } = submission;
    operation.start(match submission.file {
        None => Size::NoFile,
        Some(file) => Size::Known(file.size),
    });
    if operation.ended().is_none() {
        if let Some(filled) = fill(request, operation, scratch) {
            send(request, staged, operation, &scratch[..filled]);
        }
        operation.forget_held();
    }
}

// Reads the whole range.  None: not in one go, or not without waiting.
fn fill(request: &Request<'_>, operation: &mut Operation, scratch: &mut [u8]) -> Option<usize> {
    let wanted = operation.file_length() as usize;
    if wanted == 0 {
        return Some(0);
    }
    let into = &mut scratch[..wanted];
    let count = sys::read_at_without_waiting(request.file?, request.offset, into).ok()?;
    operation.read_started();
    operation.read_done(0, count as u64);
    (count == wanted).then_some(count)
}

fn send(request: &Request<'_>, staged: &Staged, operation: &mut Operation, data: &[u8]) {
    let Some(portion) = operation.want_send(data.len() as u64, data.len() as u64) else { return };
    let parts = [
        staged.header(portion.header),
        Span::of(data),
        Span::of(&ZEROS[..portion.zeros as usize]),
        staged.trailer(portion.trailer),
    ];
    let flags = if portion.more { libc::MSG_MORE } else { 0 };
    operation.send_started();
    match sys::send_parts(request.socket, &parts, flags) {
        Ok(count) => operation.sent(count as u64, WAS_COPIED, u64::MAX),
        Err(Errno(libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM)) => {
            operation.send_refused();
        }
        Err(error) => operation.send_failed(error.negative()),
    }
}
