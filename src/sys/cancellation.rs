// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cancellation and signals of a caller's thread.  A call of this library must not be ended halfway
//! by pthread_cancel(3), so cancellation is disabled around it, except in system calls that hold
//! nothing.  Signals are held only between two calls that must be one to a handler.

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

// A cancelled thread is unwound from within these functions.
unsafe extern "C-unwind" {
    fn pthread_setcancelstate(state: libc::c_int, old: *mut libc::c_int) -> libc::c_int;
    fn pthread_setcanceltype(kind: libc::c_int, old: *mut libc::c_int) -> libc::c_int;
}

/// Disables pthread_cancel(3) for the calling thread until [`restore_cancellation`], without a
/// system call.  The type is set as well, because glibc's handler of a pending cancellation checks
/// nothing else.  libc's cancellation points make the type asynchronous and must not be called in
/// between; raw system calls are not cancellation points.
pub fn disable_cancellation() -> Cancellation {
    let mut old = Cancellation { state: 0, kind: 0 };
    // SAFETY: each of these writes one number.
    unsafe {
        pthread_setcancelstate(CANCEL_DISABLE, &mut old.state);
        pthread_setcanceltype(CANCEL_DEFERRED, &mut old.kind);
    }
    old
}

/// Undoes [`disable_cancellation`]; a thread that has been cancelled asynchronously ends here.
pub fn restore_cancellation(caller: Cancellation) {
    let mut ignored = 0;
    // SAFETY: as above.  The type comes last: glibc checks for a cancellation where it is set.
    unsafe {
        pthread_setcancelstate(caller.state, &mut ignored);
        pthread_setcanceltype(caller.kind, &mut ignored);
    }
}

/// Runs a system call with the caller's cancellation state, and as a cancellation point if
/// `is_point`.  The thread may end in it and is then unwound from any instruction.  So neither the
/// callers nor `call` may hold anything, and the function is out of line and has nothing to clean
/// up: Rust assumes that only calls unwind.
#[inline(never)]
pub fn with_cancellation(
    caller: Cancellation,
    is_point: bool,
    call: impl Fn() -> isize,
) -> Result<usize> {
    // As in libc's own cancellation points; also ends a thread that is cancelled already.
    let kind = if is_point { CANCEL_ASYNCHRONOUS } else { caller.kind };
    restore_cancellation(Cancellation { kind, ..caller });
    let result = call();
    disable_cancellation();
    check_size(result)
}

/// A thread's signal mask.
#[derive(Clone, Copy, Debug)]
pub struct SignalMask(pub(super) u64);

/// Blocks the signals whose handlers could run unnoticed between two system calls; returns the
/// previous mask.  Signals of a fault or a system call of the thread itself stay as they are,
/// because blocked they would end the process.  So do libc's own (32 and 33), for which another
/// thread may be waiting.
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
    block_signals(!bits)
}

/// Blocks a set of signals; returns the previous mask, for [`release_signals`].
pub(super) fn block_signals(blocked: u64) -> SignalMask {
    let mut old = 0u64;
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

/// Restores a mask; handlers of signals that have arrived since run here.
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
