// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must be free before an operation is accepted, so that nothing fails later for want of it:
//! one of `max_ops`, room in the completion queue, and descriptors of the ring thread.
//!
//! | event | transition |
//! |---|---|
//! | a calling thread prepares an operation | [`Permits::take`], [`Descriptors::take`] |
//! | it is not accepted, or its DONE goes to the caller alone | [`Permits::give_back`] |
//! | poll takes an event | [`Permits::event_taken`] |
//! | an operation ends without its SNAPSHOT | [`Permits::snapshot_missed`] |
//! | the ring thread has been idle for a while | [`Permits::shrink`] |
//! | the ring thread has closed descriptors, or will not get them | [`Descriptors::give_back`] |
#![forbid(unsafe_code)]

use crate::handoff::completions::Completions;
use crate::handoff::sync::{AtomicU32, Ordering};
use crate::sys;
use crate::types::completion::Event;
use crate::types::errno::{Errno, Result};
use std::time::Duration;

/// The operations of a context, and the events that there must be room for.
#[derive(Debug)]
pub(crate) struct Permits {
    max_ops: u32,
    /// Operations whose DONE has not been taken.
    taken: AtomicU32,
    /// SNAPSHOTs to come or in the queue.
    snapshots: AtomicU32,
}

impl Permits {
    /// For so many operations.
    pub fn new(max_ops: u32) -> Permits {
        Permits { max_ops, taken: AtomicU32::new(0), snapshots: AtomicU32::new(0) }
    }

    /// Whether no event is to come or waits.
    #[cfg(test)]
    pub fn is_none_taken(&self) -> bool {
        self.events() == 0
    }

    /// As if so many had been taken.
    #[cfg(test)]
    pub fn with_taken(max_ops: u32, taken: u32) -> Permits {
        Permits { taken: AtomicU32::new(taken), ..Permits::new(max_ops) }
    }

    /// Takes one of `max_ops`, and room in the queue for all events of the operation.  EAGAIN: all
    /// are taken; ENOMEM.
    pub fn take(&self, with_snapshot: bool, queue: &Completions) -> Result<()> {
        let take = |taken: u32| (taken < self.max_ops).then_some(taken + 1);
        if self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err() {
            return Err(Errno(libc::EAGAIN));
        }
        if with_snapshot {
            self.snapshots.fetch_add(1, Ordering::SeqCst);
        }
        // Both are read after both were raised: whichever thread comes last finds all there is.
        queue.secure(self.events()).inspect_err(|_| self.give_back(with_snapshot))
    }

    // How many events are to come or wait.
    fn events(&self) -> u32 {
        self.taken.load(Ordering::SeqCst) + self.snapshots.load(Ordering::SeqCst)
    }

    /// Gives back what [`Permits::take`] took; `with_snapshot`: and no SNAPSHOT was queued.
    pub fn give_back(&self, with_snapshot: bool) {
        if with_snapshot {
            self.snapshot_missed();
        }
        self.taken.fetch_sub(1, Ordering::SeqCst);
    }

    /// An event has been taken from the queue.
    pub fn event_taken(&self, event: Event) {
        match event {
            Event::Done => self.taken.fetch_sub(1, Ordering::SeqCst),
            Event::Snapshot => self.snapshots.fetch_sub(1, Ordering::SeqCst),
        };
    }

    /// A SNAPSHOT does not come.
    pub fn snapshot_missed(&self) {
        self.snapshots.fetch_sub(1, Ordering::SeqCst);
    }

    /// Gives memory of the queue back, if nothing is to come.
    pub fn shrink(&self, queue: &Completions) {
        // Adding nothing instead of reading: a take() that this does not see comes after it, and
        // so finds that the queue has no room.
        queue.shrink(|| {
            self.taken.fetch_add(0, Ordering::SeqCst) + self.snapshots.load(Ordering::SeqCst) > 0
        });
    }
}

/// Descriptors that the ring thread has or will get.  Its table has the same limit as the
/// caller's and drops what does not fit, so that an operation is refused before.
#[derive(Debug)]
pub(crate) struct Descriptors {
    used: AtomicU32,
    limit: AtomicU32,
}

impl Default for Descriptors {
    fn default() -> Descriptors {
        let limit = AtomicU32::new(sys::descriptor_limit());
        Descriptors { used: AtomicU32::new(0), limit }
    }
}

impl Descriptors {
    // A few numbers are the ring thread's own.
    const OWN: u32 = 32;

    /// Takes room for so many.  Those in transit, as `are_in_transit` says, count in full; on
    /// arrival many turn out to be there already.  EMFILE.
    pub fn take(&self, count: u32, are_in_transit: impl Fn() -> bool) -> Result<()> {
        let used = self.used.fetch_add(count, Ordering::Relaxed) + count + Self::OWN;
        if used <= self.limit.load(Ordering::Relaxed) {
            return Ok(());
        }
        let limit = sys::descriptor_limit();
        self.limit.store(limit, Ordering::Relaxed);
        for _ in 0..10_000 {
            if self.used() + Self::OWN <= limit {
                return Ok(());
            }
            if !are_in_transit() {
                break;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        self.give_back(count);
        Err(Errno(libc::EMFILE))
    }

    /// The ring thread has one more than was taken for it.
    pub fn add_one(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    /// It has closed so many, or will not get them.
    pub fn give_back(&self, count: u32) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }
}
