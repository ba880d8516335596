// SPDX-License-Identifier: MIT OR Apache-2.0
//! The resources that must be free before an operation is accepted, so that it cannot fail later
//! for lack of them: one of `max_ops`, room in the completion queue, and descriptors of the ring
//! thread.
//!
//! | event | transition |
//! |---|---|
//! | a calling thread prepares an operation | [`Permits::take`], [`Descriptors::take`] |
//! | it is not accepted, or its DONE goes to the caller alone | [`Permits::give_back`] |
//! | poll takes an event | [`Permits::event_taken`] |
//! | an operation ends without SENT or SNAPSHOT | [`Permits::missed`] |
//! | the ring thread has been idle for a while | [`Permits::shrink`] |
//! | the ring thread has closed descriptors, or will not get them | [`Descriptors::give_back`] |
#![forbid(unsafe_code)]

use crate::handoff::completions::Completions;
use crate::handoff::sync::{AtomicU32, Ordering};
use crate::sys;
use crate::types::completion::Event;
use crate::types::errno::{Errno, Result};
use std::time::Duration;

/// The operations of a context, and the events that need room in the queue.
#[derive(Debug)]
pub(crate) struct Permits {
    max_ops: u32,
    /// Operations whose DONE has not been taken.
    taken: AtomicU32,
    /// Other events, SENT and SNAPSHOT, that are pending or in the queue.
    others: AtomicU32,
}

impl Permits {
    /// Creates permits for `max_ops` operations.
    pub fn new(max_ops: u32) -> Permits {
        Permits { max_ops, taken: AtomicU32::new(0), others: AtomicU32::new(0) }
    }

    /// Whether no event is to come or waits.
    #[cfg(test)]
    pub fn is_none_taken(&self) -> bool {
        self.events() == 0
    }

    /// Creates permits as after `taken` of them were taken.
    #[cfg(test)]
    pub fn with_taken(max_ops: u32, taken: u32) -> Permits {
        Permits { taken: AtomicU32::new(taken), ..Permits::new(max_ops) }
    }

    /// Takes one of `max_ops`, and room in the queue for DONE and `others` further events.  EAGAIN:
    /// all are taken; ENOMEM.
    pub fn take(&self, others: u32, queue: &Completions) -> Result<()> {
        let take = |taken: u32| (taken < self.max_ops).then_some(taken + 1);
        if self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err() {
            return Err(Errno(libc::EAGAIN));
        }
        if others > 0 {
            self.others.fetch_add(others, Ordering::SeqCst);
        }
        // Both are read after both were raised: the last thread to raise one counts all events.
        queue.secure(self.events()).inspect_err(|_| self.give_back(others))
    }

    // Returns the number of events that are pending or in the queue.
    fn events(&self) -> u32 {
        self.taken.load(Ordering::SeqCst) + self.others.load(Ordering::SeqCst)
    }

    /// Gives back what [`Permits::take`] took; `others`: as many further events were not queued.
    pub fn give_back(&self, others: u32) {
        self.missed(others);
        self.taken.fetch_sub(1, Ordering::SeqCst);
    }

    /// Records that an event was taken from the queue.
    pub fn event_taken(&self, event: Event) {
        match event {
            Event::Done => self.taken.fetch_sub(1, Ordering::SeqCst),
            Event::Snapshot | Event::Sent => self.others.fetch_sub(1, Ordering::SeqCst),
        };
    }

    /// Records that so many events other than DONE will not be reported.
    pub fn missed(&self, others: u32) {
        if others > 0 {
            self.others.fetch_sub(others, Ordering::SeqCst);
        }
    }

    /// Releases memory of the queue, if no event is pending.
    pub fn shrink(&self, queue: &Completions) {
        // Adds zero instead of reading: a take() that this does not see comes after it, and so
        // finds that the queue has no room.
        queue.shrink(|| {
            self.taken.fetch_add(0, Ordering::SeqCst) + self.others.load(Ordering::SeqCst) > 0
        });
    }
}

/// The number of descriptors that the ring thread has or will receive.  Its table has the same
/// limit as the caller's and the kernel drops what does not fit, so an operation is refused in
/// advance.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// Descriptors in use or in transit.
    used: AtomicU32,
    /// RLIMIT_NOFILE when it was last read.
    limit: AtomicU32,
}

impl Default for Descriptors {
    fn default() -> Descriptors {
        let limit = AtomicU32::new(sys::descriptor_limit());
        Descriptors { used: AtomicU32::new(0), limit }
    }
}

impl Descriptors {
    // Numbers that the ring thread uses itself.
    const OWN: u32 = 32;

    /// Takes room for `count` descriptors.  At the limit it waits, up to a second, for messages in
    /// transit: submissions count in full, and on arrival many descriptors turn out to be open
    /// already; what is unregistered is closed.  EMFILE.
    pub fn take(&self, count: u32, are_in_transit: impl Fn() -> bool) -> Result<()> {
        let used = self.used.fetch_add(count, Ordering::Relaxed) + count + Self::OWN;
        if used <= self.limit.load(Ordering::Relaxed) {
            return Ok(());
        }
        let limit = sys::descriptor_limit();
        self.limit.store(limit, Ordering::Relaxed);
        for _ in 0..10_000 {
            let may_change = are_in_transit(); // before: what has arrived has changed the count
            if self.used() + Self::OWN <= limit {
                return Ok(());
            }
            if !may_change {
                break;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        self.give_back(count);
        Err(Errno(libc::EMFILE))
    }

    /// Adds a descriptor that was not taken in advance.
    pub fn add_one(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives back descriptors that the ring thread has closed or will not receive.
    pub fn give_back(&self, count: u32) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }

    /// Returns their number.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }
}
