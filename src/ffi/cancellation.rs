// SPDX-License-Identifier: MIT OR Apache-2.0
//! pthread_cancel(3) of a thread that is inside the library.
//!
//! Cancellation unwinds the stack, which must cross neither the panic fence nor a frame of Rust
//! with something to drop.  So the library runs with cancellation disabled, and a cancellation acts
//! only in the functions of this module.  They are inlined into the exported functions, which have
//! nothing to drop: the compiler gives such a frame no personality routine, and unwinding passes it
//! at any instruction.
//!
//! A thread whose cancellation is enabled and asynchronous may call only pthread_cancel(3),
//! pthread_setcancelstate(3) and pthread_setcanceltype(3) (pthreads(7)).  If it calls the library
//! anyway, it is cancelled on its way in or out, as far as glibc permits: before 2.41, a
//! cancellation that is in progress when cancellation is disabled acts regardless.

use crate::sys;
use libc::{c_int, c_long, c_void};
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

const PTHREAD_CANCEL_DISABLE: c_int = 1;
const PTHREAD_CANCEL_DEFERRED: c_int = 0;
const PTHREAD_CANCEL_ASYNCHRONOUS: c_int = 1;

// struct _pthread_cleanup_buffer of glibc's pthread.h; musl's is shorter.
#[repr(C)]
struct CleanupBuffer {
    routine: usize,
    argument: usize,
    cancel_type: c_int,
    previous: usize,
}

type Cleanup = unsafe extern "C" fn(*mut c_void);

// Each of them may act on a cancellation, that is, unwind.
unsafe extern "C-unwind" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
    fn pthread_setcanceltype(kind: c_int, old: *mut c_int) -> c_int;
    fn pthread_testcancel();
    fn _pthread_cleanup_push(buffer: *mut CleanupBuffer, routine: Cleanup, argument: *mut c_void);
    fn _pthread_cleanup_pop(buffer: *mut CleanupBuffer, execute: c_int);
    fn poll(entries: *mut libc::pollfd, count: libc::nfds_t, timeout_ms: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
}

/// Runs `body` with cancellation disabled.  A cancellation requested in between stays pending; if
/// the caller's type is asynchronous, it acts when `body` is done.
#[inline(always)]
pub fn without<T>(body: impl FnOnce() -> T) -> T {
    let before = disable();
    let result = opaque(body);
    set_state(before);
    result
}

// Neither inlined nor unwound through, so that its caller needs no personality routine.
#[inline(never)]
#[allow(improper_ctypes_definitions)] // called from here only
extern "C" fn opaque<T>(body: impl FnOnce() -> T) -> T {
    body()
}

// Disables cancellation; returns the previous state.
#[inline(always)]
fn disable() -> c_int {
    set_state(PTHREAD_CANCEL_DISABLE)
}

// Sets the state; returns the previous one.  If it enables cancellation and the type is
// asynchronous, a pending cancellation acts here.
#[inline(always)]
fn set_state(state: c_int) -> c_int {
    let mut old = 0;
    // SAFETY: writes the old state into a local variable.  It may unwind, and nothing here needs a
    // drop.
    unsafe { pthread_setcancelstate(state, &mut old) };
    old
}

/// A wait that may be cancelled.
#[derive(Clone, Copy)]
pub struct Wait {
    /// The thread sleeps while this word ...
    pub word: *const AtomicU32,
    /// ... has this value.
    pub expected: u32,
    /// None: no limit.
    pub until: Option<Instant>,
    /// Called, with the argument, if the thread ends in the wait.
    pub abandoned: Cleanup,
    /// The argument of `abandoned`.
    pub argument: *mut c_void,
}

/// The result of a step of [`with_waits`].
#[derive(Clone, Copy)]
pub enum Step {
    /// The call is over with this result.
    Done(c_int),
    /// The step must run again after this wait.
    Wait(Wait),
}

/// Runs `step` with cancellation disabled until it is done.  Between two steps it waits as the step
/// requested; the next step receives 0 or the errno of the wait.  The whole is a cancellation
/// point: a cancellation acts before the first step, or in a wait.
///
/// # Safety
/// The word and the argument of each wait are valid until the step after it, and `abandoned` may be
/// called with the argument.
#[inline(always)]
pub unsafe fn with_waits(mut step: impl FnMut(c_int) -> Step) -> c_int {
    // SAFETY: may unwind; nothing here needs a drop.
    unsafe { pthread_testcancel() };
    let before = disable();
    let mut woken = 0;
    let result = loop {
        match opaque(|| step(woken)) {
            Step::Done(result) => break result,
            // SAFETY: as promised by the caller.
            Step::Wait(wait) => woken = unsafe { cancellable_wait(&wait, before) },
        }
    };
    set_state(before);
    result
}

// Waits as each cancellation point of glibc before 2.41 does: with asynchronous cancellation around
// the system call.  A thread that is cancelled just after it was woken has consumed a wake-up,
// which `abandoned` passes on.  The signal of a cancellation may still be pending then, and glibc's
// handler does not check whether cancellation is disabled by now: poll(2), itself a cancellation
// point, waits for it.
#[inline(always)]
unsafe fn cancellable_wait(wait: &Wait, state: c_int) -> c_int {
    let time = opaque(|| sys::futex_time(wait.until.map(left_until)));
    let errno = opaque(sys::errno);
    let mut buffer = CleanupBuffer { routine: 0, argument: 0, cancel_type: 0, previous: 0 };
    let (mut kind, mut asynchronous) = (0, 0);
    // SAFETY: the buffer is in this frame, and is taken out again before the frame ends.  The word
    // and the time are live during the whole system call.  If it unwinds, nothing here needs a
    // drop.
    let woken = unsafe {
        _pthread_cleanup_push(&mut buffer, wait.abandoned, wait.argument);
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &mut kind);
        set_state(state);
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        let done = syscall(libc::SYS_futex, wait.word, operation, wait.expected, &raw const time);
        pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &mut asynchronous);
        let woken = if done < 0 { opaque(sys::errno) } else { 0 };
        poll(ptr::null_mut(), 0, 0);
        disable();
        pthread_setcanceltype(kind, &mut kind);
        _pthread_cleanup_pop(&mut buffer, 0);
        woken
    };
    opaque(|| sys::set_errno(errno));
    woken
}

fn left_until(at: Instant) -> Duration {
    at.saturating_duration_since(Instant::now())
}
