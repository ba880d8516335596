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
    mask: u64,
    was_pending: bool,
}

const SIGPIPE: u64 = 1 << (libc::SIGPIPE - 1);

impl HeldSigpipe {
    fn new() -> HeldSigpipe {
        let (mut mask, mut pending) = (0u64, 0u64);
        // SAFETY: the calls read and write masks of the kernel's size, eight bytes.
        unsafe {
            let (block, size) = (&raw const SIGPIPE_ONLY, size_of::<u64>());
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, block, &raw mut mask, size);
            // A signal that is not blocked is never pending.
            if mask & SIGPIPE != 0 {
                libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, size);
            }
        }
        HeldSigpipe { mask, was_pending: pending & SIGPIPE != 0 }
    }

    // `has_risen`: it has been raised since.
    fn release(self, has_risen: bool) {
        let size = size_of::<u64>();
        if has_risen && !self.was_pending {
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let (only, none) = (&raw const SIGPIPE_ONLY, ptr::null_mut::<libc::siginfo_t>());
            // SAFETY: the call reads the mask and the time, and writes nothing.
            unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, only, none, &raw const now, size) };
        }
        if self.mask & SIGPIPE == 0 {
            let (mask, none) = (&raw const SIGPIPE_ONLY, ptr::null_mut::<u64>());
            // SAFETY: the call reads a mask of the kernel's size.
            unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_UNBLOCK, mask, none, size) };
        }
    }
}

static SIGPIPE_ONLY: u64 = SIGPIPE;
