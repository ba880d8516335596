// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files whose content cannot change: what shows that, and sends of their pages by reference.

use super::*;
use crate::types::errno::Result;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

/// Returns the seals of a file (F_GET_SEALS), without querying its file system; None: it is not in
/// memory.
pub fn seals(file: RawFd) -> Option<i32> {
    // SAFETY: F_GET_SEALS takes no further argument.
    check(unsafe { libc::fcntl(file, libc::F_GET_SEALS) }).ok()
}

/// Attributes of a file, from statx(2).
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// STATX_ATTR_VERITY.
    pub has_verity: bool,
    /// STATX_ATTR_DAX.
    pub is_dax: bool,
}

/// Returns a file's attributes; None: the kernel does not report them.
pub fn attributes(file: RawFd) -> Option<Attributes> {
    let mut stat = MaybeUninit::<libc::statx>::uninit();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the path is a valid empty string; statx fills the struct when it succeeds.
    let stat = unsafe {
        check(libc::statx(file, c"".as_ptr(), flags, libc::STATX_TYPE, stat.as_mut_ptr())).ok()?;
        stat.assume_init()
    };
    let has = |attribute: i32| stat.stx_attributes & attribute as u64 != 0;
    let has_verity = has(libc::STATX_ATTR_VERITY);
    Some(Attributes { has_verity, is_dax: has(libc::STATX_ATTR_DAX) })
}

/// Returns whether sendfile(2) to this socket returns when it is full, and leaves no record of TLS
/// open.  There is no such call for a blocking socket: SPLICE_F_NONBLOCK concerns the pipe only (seen
/// on 6.18).
pub fn takes_references(socket: RawFd) -> bool {
    status_flags(socket).is_ok_and(|flags| flags & libc::O_NONBLOCK != 0) && !has_tls(socket)
}

/// Sends a range of a file to a non-blocking socket by sendfile(2).  EPIPE: it has also raised
/// SIGPIPE, see [`without_sigpipe`]; threads of the library block all signals.
pub fn send_file(socket: RawFd, file: RawFd, offset: u64, length: usize) -> Result<usize> {
    let mut at = offset as libc::off_t;
    CallerOffset::with(Some(&mut at), |at| kernel_sendfile(socket, file, at, length))
}

/// Runs `body` on a caller's thread, and takes away the SIGPIPE that it has raised if it returns true.
pub fn without_sigpipe(body: impl FnOnce() -> bool) {
    let held = HeldSigpipe::new();
    let has_risen = body();
    held.release(has_risen);
}

/// SIGPIPE is blocked in this thread.
struct HeldSigpipe {
    /// The previous mask.
    mask: SignalMask,
    was_pending: bool,
}

const SIGPIPE: u64 = 1 << (libc::SIGPIPE - 1);

impl HeldSigpipe {
    fn new() -> HeldSigpipe {
        let (mask, mut pending) = (block_signals(SIGPIPE), 0u64);
        // A signal that is not blocked is never pending.
        if mask.0 & SIGPIPE != 0 {
            // SAFETY: the call writes a mask of the kernel's size, eight bytes.
            unsafe {
                libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, size_of::<u64>());
            }
        }
        HeldSigpipe { mask, was_pending: pending & SIGPIPE != 0 }
    }

    // `has_risen`: it has been raised since.
    fn release(self, has_risen: bool) {
        if has_risen && !self.was_pending {
            let (only, now) = (SIGPIPE, libc::timespec { tv_sec: 0, tv_nsec: 0 });
            let (none, size) = (ptr::null_mut::<libc::siginfo_t>(), size_of::<u64>());
            // SAFETY: the call reads the mask and the time, and writes nothing.
            unsafe {
                let only = &raw const only;
                libc::syscall(libc::SYS_rt_sigtimedwait, only, none, &raw const now, size);
            }
        }
        if self.mask.0 & SIGPIPE == 0 {
            release_signals(self.mask);
        }
    }
}
