// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sleep of the ring thread, and its wake-up by other threads, which costs a system call only
//! if it sleeps.
//!
//! | event | transition |
//! |---|---|
//! | the ring thread has nothing in flight | [`Doorbell::sleep`] |
//! | it waits for the kernel | [`Doorbell::begin_wait`], [`Doorbell::end_wait`] |
//! | another thread has sent a message | [`Doorbell::wake`] |
//! | another thread has published work without a message | [`Doorbell::ring`] |
#![forbid(unsafe_code)]

use crate::handoff::sync::{AtomicU32, Ordering};
use crate::sys;
use crate::types::errno::Errno;
use std::time::Duration;

/// A word of memory to sleep on.  Unlike a descriptor, the host cannot close it.
#[derive(Debug, Default)]
pub(crate) struct Doorbell {
    /// What the ring thread does: AWAKE, ASLEEP or IN_KERNEL.
    state: AtomicU32,
}

// Bits, so that one can be cleared alone.
const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const IN_KERNEL: u32 = 2;

/// What the ring thread did when [`Doorbell::ring`] was called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// It looks for work before it waits again.
    Awake,
    /// It slept, and has been woken.
    Asleep,
    /// It waits for the kernel, which only a message on its socket ends.
    InKernel,
}

/// The reason why [`Doorbell::sleep`] returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slept {
    /// There was work before it fell asleep.
    NotAtAll,
    /// Another thread has rung.
    UntilRung,
    /// The time limit has passed, or it woke up without a reason.
    Otherwise {
        /// Whether the time limit has passed.
        timed_out: bool,
    },
}

impl Doorbell {
    /// Wakes the ring thread if it sleeps, and returns whether it did; called after a message has
    /// been sent.  If the ring thread waits for the kernel, that stays announced: it may have read the
    /// message and wait again.
    pub fn wake(&self) -> bool {
        // Always a write: it orders as in [`Doorbell::sleep`].
        let was_asleep = self.state.fetch_and(!ASLEEP, Ordering::SeqCst) == ASLEEP;
        if was_asleep {
            sys::futex_wake(&self.state, 1);
        }
        was_asleep
    }

    /// Wakes the ring thread if it sleeps; called after work has been published without a message.
    /// If the ring thread is found in the kernel, the caller sends one.
    pub fn ring(&self) -> Found {
        match self.state.swap(AWAKE, Ordering::SeqCst) {
            ASLEEP => {
                sys::futex_wake(&self.state, 1);
                Found::Asleep
            }
            IN_KERNEL => Found::InKernel,
            _ => Found::Awake,
        }
    }

    /// Puts the ring thread to sleep.  The order matters: first the word shows that it sleeps, then
    /// it checks for work once more; other threads publish work first and then read the word.  A
    /// swap costs as much as such a store, and puts all changes of the word in one order, for loom
    /// as well.
    pub fn sleep(&self, limit: Option<Duration>, has_work: impl FnOnce() -> bool) -> Slept {
        self.state.swap(ASLEEP, Ordering::SeqCst);
        if has_work() {
            self.state.swap(AWAKE, Ordering::SeqCst);
            return Slept::NotAtAll;
        }
        let result = sys::futex_wait(&self.state, ASLEEP, limit);
        if self.state.load(Ordering::SeqCst) == AWAKE {
            return Slept::UntilRung;
        }
        Slept::Otherwise { timed_out: result == Err(Errno(libc::ETIMEDOUT)) }
    }

    /// Announces that the ring thread is about to wait for the kernel.  False: there is work, so it
    /// must not wait.  The order matters as in [`Doorbell::sleep`].
    pub fn begin_wait(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.state.swap(IN_KERNEL, Ordering::SeqCst);
        let may_wait = !has_work();
        if !may_wait {
            self.end_wait();
        }
        may_wait
    }

    /// Ends the announcement.
    pub fn end_wait(&self) {
        self.state.swap(AWAKE, Ordering::SeqCst);
    }
}
