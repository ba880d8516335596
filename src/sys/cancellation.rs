// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cancellation and signals of a caller's thread.

use super::*;
use crate::types::errno::Result;
use std::ptr;

/// A thread's cancellation state and type.
#[derive(Clone, Copy, Debug)]
pub struct Cancellation {
    state: libc::c_int,
    kind: libc::c_int,
}

pub(super) const CANCEL_DISABLE: libc::c_int = 1;

pub(super) const CANCEL_DEFERRED: libc::c_int = 0;

pub(super) const CANCEL_ASYNCHRONOUS: libc::c_int = 1;

// A cancelled thread is unwound from within them.
unsafe extern "C-unwind" {
    fn pthread_setcancelstate(state: libc::c_int, old: *mut libc::c_int) -> libc::c_int;
    fn pthread_setcanceltype(kind: libc::c_int, old: *mut libc::c_int) -> libc::c_int;
}

/// From here on pthread_cancel(3) does nothing to the calling thread, until that is undone.  Without
/// a system call.  The type is set, too: glibc's handler of a cancellation that is on its way looks
/// at nothing else.  So does it in libc's cancellation points, which make the type asynchronous, and
/// are not to be called meanwhile; raw system calls are none.
pub fn disable_cancellation() -> Cancellation {
    let mut old = Cancellation { state: 0, kind: 0 };
    // SAFETY: these write one number each.
    unsafe {
        pthread_setcancelstate(CANCEL_DISABLE, &mut old.state);
        pthread_setcanceltype(CANCEL_DEFERRED, &mut old.kind);
    }
    old
}

/// Undoes [`disable_cancellation`]; a thread that has been cancelled asynchronously ends here.
pub fn restore_cancellation(caller: Cancellation) {
    let mut ignored = 0;
    // SAFETY: as above.  In this order: glibc looks for a cancellation where the type is set.
    unsafe {
        pthread_setcancelstate(caller.state, &mut ignored);
        pthread_setcanceltype(caller.kind, &mut ignored);
    }
}

/// Runs a system call with the caller's cancellation, and as a cancellation point where
/// `is_point`.  The thread may end in it, so that nothing may be held meanwhile, neither by the
/// callers nor by `call`, and it is unwound from any instruction: out of line, and without anything
/// to clean up, since Rust would take an instruction that is no call for one that never unwinds.
#[inline(never)]
pub fn with_cancellation(
    caller: Cancellation,
    is_point: bool,
    call: impl Fn() -> isize,
) -> Result<usize> {
    // As libc's own cancellation points do it; also ends a thread that is cancelled already.
    let kind = if is_point { CANCEL_ASYNCHRONOUS } else { caller.kind };
    restore_cancellation(Cancellation { kind, ..caller });
    let result = call();
    disable_cancellation();
    check_size(result)
}

/// A thread's signal mask.
#[derive(Clone, Copy, Debug)]
pub struct SignalMask(pub(super) u64);

/// Blocks the signals whose handlers could come between two system calls unnoticed, and returns
/// what the mask was.  Those of a fault or a system call of the thread itself stay as they are, or
/// they would end the process; so do those of libc's own (32 and 33), for which another thread may
/// be waiting.
pub fn hold_signals() -> SignalMask {
    let of_the_thread = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGSYS,
        32,
        33,
    ];
    let bits = of_the_thread.iter().fold(0u64, |bits, signal| bits | 1 << (signal - 1));
    let (blocked, mut old) = (!bits, 0u64);
    // SAFETY: reads and writes masks of the kernel's size, eight bytes.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            &raw const blocked,
            &raw mut old,
            size_of::<u64>(),
        )
    };
    SignalMask(old)
}

/// Undoes [`hold_signals`]; handlers of what has come meanwhile run here.
pub fn release_signals(mask: SignalMask) {
    // SAFETY: as above.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask.0,
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
}
