// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sleep of the ring thread, and its wake-up by other threads, which costs a system call only
//! if it sleeps.
#![forbid(unsafe_code)]

use crate::handoff::sync::{AtomicU32, Ordering};
use crate::sys;
use crate::types::errno::Errno;
use std::time::Duration;

/// A word of memory to sleep on.  Unlike a descriptor, the host cannot close it.
#[derive(Debug, Default)]
pub(crate) struct Doorbell {
    /// 1: the ring thread sleeps and must be woken.
    sleeping: AtomicU32,
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
    /// Wakes the ring thread; called after work has been published.  True: it slept.
    pub fn ring(&self) -> bool {
        let slept = self.sleeping.swap(0, Ordering::SeqCst) == 1;
        if slept {
            sys::futex_wake(&self.sleeping, 1);
        }
        slept
    }

    /// Puts the ring thread to sleep.  The order matters: first the word shows that it sleeps, then
    /// it checks for work once more; other threads publish work first and then read the word.  A
    /// swap costs as much as such a store, and puts all changes of the word in one order, for loom
    /// as well.
    pub fn sleep(&self, limit: Option<Duration>, has_work: impl FnOnce() -> bool) -> Slept {
        self.sleeping.swap(1, Ordering::SeqCst);
        if has_work() {
            self.sleeping.swap(0, Ordering::SeqCst);
            return Slept::NotAtAll;
        }
        let result = sys::futex_wait(&self.sleeping, 1, limit);
        if self.sleeping.load(Ordering::SeqCst) == 0 {
            return Slept::UntilRung;
        }
        Slept::Otherwise { timed_out: result == Err(Errno(libc::ETIMEDOUT)) }
    }
}
