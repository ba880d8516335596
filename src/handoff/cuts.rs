// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that were cut off part-way, and which operations must not follow them.
//!
//! When an operation fails after a part of it has gone out, nothing that was submitted before its
//! caller could know of that may be sent: it would look like the missing part.  The caller knows
//! once a thread of it has taken the DONE.  Ids tell what came before: they are given in order, and
//! a cut remembers the next one at the moment when its DONE is taken.
//!
//! | event | transition |
//! |---|---|
//! | a calling thread submits | [`Cuts::take_ids`] |
//! | it cannot hand submissions over | [`Cuts::not_handed_over`] |
//! | the ring thread takes a submission | [`Cuts::arrived`] |
//! | an operation is about to begin | [`Cuts::is_behind`], [`Cuts::is_unreported`] |
//! | an operation has ended part-way | [`Cuts::record`] |
//! | its DONE is taken | [`Cuts::done_taken`] |
//! | an operation ends on the calling thread | [`Cuts::take_id_here`], [`Cuts::record_taken`] |
//! | the ring thread has read all messages | [`Cuts::forget`] |
#![forbid(unsafe_code)]

use crate::collections::NumberMap;
use crate::handoff::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering};
use crate::types::errno::Result;

#[derive(Clone, Copy, Debug)]
struct Cut {
    /// The next id when the DONE was taken: operations with a smaller one were submitted before.
    taken_at: u64,
}

// Of a cut whose DONE has not been taken.
const NOT_YET: u64 = u64::MAX;

/// The ids of a context, the submissions on their way, and the cuts that these may be behind.
#[derive(Debug)]
pub(crate) struct Cuts {
    next_id: AtomicU64,
    /// Submissions that have an id and have not reached the ring thread.
    in_transit: AtomicU32,
    by_cookie: Mutex<NumberMap<Cut>>,
    /// Whether there are any: as a rule there are none, and nobody takes the lock.
    any: AtomicBool,
}

impl Default for Cuts {
    fn default() -> Cuts {
        Cuts {
            next_id: AtomicU64::new(1),
            in_transit: AtomicU32::new(0),
            by_cookie: Mutex::default(),
            any: AtomicBool::new(false),
        }
    }
}

impl Cuts {
    fn lock(&self) -> MutexGuard<'_, NumberMap<Cut>> {
        self.by_cookie.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Gives an id to an operation that ends on the calling thread and is never in transit.
    pub fn take_id_here(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::SeqCst)
    }

    /// Gives ids to submissions, which are in transit from here on.  Returns the first.
    pub fn take_ids(&self, count: u32) -> u64 {
        // Counted before: forget() relies on finding whatever has a smaller id than a cut.
        self.in_transit.fetch_add(count, Ordering::SeqCst);
        self.next_id.fetch_add(count.into(), Ordering::SeqCst)
    }

    /// Submissions that have ids could not be handed over.
    pub fn not_handed_over(&self, count: u32) {
        self.in_transit.fetch_sub(count, Ordering::SeqCst);
    }

    /// The ring thread has taken a submission: it is among the socket's operations, or refused.
    pub fn arrived(&self) {
        self.in_transit.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether submissions are in transit.
    pub fn is_any_in_transit(&self) -> bool {
        self.in_transit.load(Ordering::SeqCst) > 0
    }

    /// Whether some operation has or had this id.
    pub fn has_given(&self, id: u64) -> bool {
        id != 0 && id < self.next_id.load(Ordering::SeqCst)
    }

    /// The stream of this socket has been cut off.  ENOMEM: what is behind it
    /// cannot be known.
    pub fn record(&self, cookie: u64) -> Result<()> {
        self.put(cookie, Cut { taken_at: NOT_YET })
    }

    /// The same by an operation that has ended on the calling thread, which has its DONE at once.
    pub fn record_taken(&self, cookie: u64) -> Result<()> {
        self.put(cookie, Cut { taken_at: self.next_id.load(Ordering::SeqCst) })
    }

    fn put(&self, cookie: u64, cut: Cut) -> Result<()> {
        let mut cuts = self.lock();
        *cuts.entry(cookie, cut)? = cut;
        self.any.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// The DONE of an operation that cut the stream of this socket off has been taken.
    pub fn done_taken(&self, cookie: u64) {
        if let Some(cut) = self.lock().get_mut(cookie) {
            cut.taken_at = self.next_id.load(Ordering::SeqCst);
        }
    }

    /// Whether an operation was submitted before its caller could know of a cut.
    pub fn is_behind(&self, cookie: u64, id: u64) -> bool {
        self.any.load(Ordering::SeqCst)
            && self.lock().get(cookie).is_some_and(|cut| id < cut.taken_at)
    }

    /// Whether an operation submitted now would be: the DONE of a cut has not been taken.
    pub fn is_unreported(&self, cookie: u64) -> bool {
        self.is_behind(cookie, self.next_id.load(Ordering::SeqCst))
    }

    /// Forgets cuts whose DONE was taken and that no operation can be behind: none is in transit,
    /// and none waits on the socket, as `has_operations` says.
    pub fn forget(&self, has_operations: impl Fn(u64) -> bool) {
        if !self.any.load(Ordering::SeqCst) {
            return;
        }
        let mut cuts = self.lock();
        // Read after the lock: whatever has a smaller id than taken_at is counted in it.
        if !self.is_any_in_transit() {
            cuts.retain(|cookie, cut| cut.taken_at == NOT_YET || has_operations(cookie));
            self.any.store(!cuts.is_empty(), Ordering::SeqCst);
        }
    }

    /// All ids given so far are smaller.
    #[cfg(test)]
    pub fn next_id(&self) -> u64 {
        self.next_id.load(Ordering::SeqCst)
    }

    /// Whether nothing is remembered.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}
