// SPDX-License-Identifier: MIT OR Apache-2.0
//! sendfile(2) with one promise more: what it says is sent has been copied, so no later change
//! to the file can change it.
#![forbid(unsafe_code)]

use crate::inline::ScratchPool;
use crate::sys::{self, Errno, FileKind, Result};
use std::os::fd::RawFd;

/// The most that one sendfile(2) moves (MAX_RW_COUNT).
const COUNT_MAX: u64 = 0x7fff_f000;

static SCRATCH: ScratchPool = ScratchPool::new();

/// Whether this pair is ours: from a regular file or block device to a stream socket or a pipe.
/// Everything else, mistakes included, is the kernel's to answer.
pub fn is_ours(out: RawFd, file: RawFd) -> bool {
    let kind = |fd| sys::file_state(fd).map(|state| state.kind);
    let to_us = match kind(out) {
        Ok(FileKind::Socket) => sys::socket_type(out) == Ok(libc::SOCK_STREAM),
        Ok(FileKind::Pipe) => true,
        _ => false,
    };
    to_us && matches!(kind(file), Ok(FileKind::Regular | FileKind::Block))
}

/// Sends up to `count` bytes from `offset` on, as the mode of `out` has it: blocking (with
/// SO_SNDTIMEO and EINTR) or what fits.  Returns how many; an error only when none was.
pub fn copy(out: RawFd, file: RawFd, offset: u64, count: u64) -> Result<u64> {
    let count = count.min(COUNT_MAX);
    let is_socket = sys::file_state(out)?.kind == FileKind::Socket;
    let size = match sys::file_state(file)? {
        state if state.kind == FileKind::Block => sys::device_size(file)?,
        state => state.size,
    };
    SCRATCH.with(|scratch| {
        let mut sent = 0;
        while sent < count {
            let wanted = (count - sent).min(scratch.len() as u64) as usize;
            let piece = match sys::read_at(file, offset + sent, &mut scratch[..wanted]) {
                Ok(0) => break,
                Ok(length) => &scratch[..length],
                Err(error) => return partial(sent, error),
            };
            let after = sent + piece.len() as u64;
            let more = after < count && offset + after < size;
            let pushed = if is_socket {
                // Without MSG_NOSIGNAL: SIGPIPE comes as from sendfile itself.
                sys::send_bytes(out, piece, if more { libc::MSG_MORE } else { 0 })
            } else {
                sys::write_bytes(out, piece)
            };
            match pushed {
                Ok(length) => sent += length as u64,
                Err(error) => return partial(sent, error),
            }
            if sent < after {
                break; // full, interrupted, or out of time
            }
        }
        Ok(sent)
    })
}

fn partial(sent: u64, error: Errno) -> Result<u64> {
    if sent > 0 { Ok(sent) } else { Err(error) }
}
