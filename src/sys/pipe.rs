// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pipes as destinations of sendfile's callers: their capacity, and writes that do not wait.

use super::*;
use crate::types::errno::{Errno, Result};
use std::os::fd::RawFd;

/// Returns how many bytes fit into an empty pipe (F_GETPIPE_SZ).
pub fn pipe_capacity(pipe: RawFd) -> u64 {
    // SAFETY: takes no further argument.
    check(unsafe { libc::fcntl(pipe, libc::F_GETPIPE_SZ) })
        .map_or_else(|_| page_size(), |size| size as u64)
}

/// Writes as much as the pipe has room for, without waiting for more; EAGAIN if it is full.
/// EOPNOTSUPP: `never_waits` is set, and the kernel cannot guarantee that.
pub fn write_what_fits(pipe: RawFd, bytes: &[u8], never_waits: bool) -> Result<usize> {
    if probes_allowed() {
        let iovec = Span::of(bytes).iovec();
        // SAFETY: the iovec is that of a live slice.
        let done = unsafe {
            libc::syscall(
                libc::SYS_pwritev2,
                pipe,
                &raw const iovec,
                1usize,
                -1i64,
                -1i64,
                libc::RWF_NOWAIT,
            )
        };
        match check_size(done as isize) {
            // Linux before 6.5, FIFOs, and sandboxes.
            Err(Errno(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM)) => {}
            done => return done,
        }
    }
    if status_flags(pipe)? & libc::O_NONBLOCK != 0 {
        return write_bytes(pipe, bytes);
    }
    // Another writer could fill the pipe between poll and write.
    if never_waits {
        return Err(Errno(libc::EOPNOTSUPP));
    }
    let mut written = 0;
    for page in bytes.chunks(libc::PIPE_BUF) {
        // POLLOUT means that a page fits, and PIPE_BUF bytes are written as a whole.
        if !is_ready(pipe, libc::POLLOUT | libc::POLLERR) {
            break;
        }
        match write_bytes(pipe, page) {
            Ok(length) => written += length,
            Err(_) if written > 0 => break,
            Err(error) => return Err(error),
        }
    }
    if written > 0 { Ok(written) } else { Err(Errno(libc::EAGAIN)) }
}
