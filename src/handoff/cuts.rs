// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that were cut, and the operations that must not follow on them.
//!
//! When an operation fails after a part of it was sent, no operation that was submitted before its
//! caller could know of the failure may be sent: the peer would take it for the missing part.  The
//! caller knows once one of its threads has taken the DONE.  Ids give the order of submission, and
//! a cut records the next id at the moment when its DONE is taken.
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

// The value for a cut whose DONE has not been taken.
const NOT_YET: u64 = u64::MAX;

/// The ids of a context, the submissions in transit, and the cuts that these may be behind.
#[derive(Debug)]
pub(crate) struct Cuts {
    next_id: AtomicU64,
    /// Submissions that have an id and have not reached the ring thread.
    in_transit: AtomicU32,
    by_cookie: Mutex<NumberMap<Cut>>,
    /// Whether there are any cuts: usually there are none, and no thread takes the lock.
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
        // Counted before: forget() relies on finding every id below a cut's.
        self.in_transit.fetch_add(count, Ordering::SeqCst);
        self.next_id.fetch_add(count.into(), Ordering::SeqCst)
    }

    /// Counts submissions as no longer in transit, because they could not be handed over.
    pub fn not_handed_over(&self, count: u32) {
        self.in_transit.fetch_sub(count, Ordering::SeqCst);
    }

    /// Counts a submission as no longer in transit: the ring thread has entered or refused it.
    pub fn arrived(&self) {
        self.in_transit.fetch_sub(1, Ordering::SeqCst);
    }

    /// Returns whether submissions are in transit.
    pub fn is_any_in_transit(&self) -> bool {
        self.in_transit.load(Ordering::SeqCst) > 0
    }

    /// Returns whether the id was given to an operation.
    pub fn has_given(&self, id: u64) -> bool {
        id != 0 && id < self.next_id.load(Ordering::SeqCst)
    }

    /// Records that the stream of this socket was cut.  ENOMEM: operations behind the cut cannot be
    /// recognised.
    pub fn record(&self, cookie: u64) -> Result<()> {
        self.put(cookie, Cut { taken_at: NOT_YET })
    }

    /// Records a cut by an operation that ended on the calling thread and has its DONE at once.
    pub fn record_taken(&self, cookie: u64) -> Result<()> {
        self.put(cookie, Cut { taken_at: self.next_id.load(Ordering::SeqCst) })
    }

    fn put(&self, cookie: u64, cut: Cut) -> Result<()> {
        let mut cuts = self.lock();
        *cuts.entry(cookie, cut)? = cut;
        self.any.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Records that the DONE of the operation that cut the stream of this socket was taken.
    pub fn done_taken(&self, cookie: u64) {
        if let Some(cut) = self.lock().get_mut(cookie) {
            cut.taken_at = self.next_id.load(Ordering::SeqCst);
        }
    }

    /// Returns whether an operation was submitted before its caller could know of a cut.
    pub fn is_behind(&self, cookie: u64, id: u64) -> bool {
        self.any.load(Ordering::SeqCst)
            && self.lock().get(cookie).is_some_and(|cut| id < cut.taken_at)
    }

    /// Returns whether an operation submitted now would be: the DONE of a cut has not been taken.
    pub fn is_unreported(&self, cookie: u64) -> bool {
        self.is_behind(cookie, self.next_id.load(Ordering::SeqCst))
    }

    /// Forgets cuts whose DONE was taken and that no operation can be behind: none is in transit,
    /// and `has_operations` returns false for the socket.
    pub fn forget(&self, has_operations: impl Fn(u64) -> bool) {
        if !self.any.load(Ordering::SeqCst) {
            return;
        }
        let mut cuts = self.lock();
        // Read after the lock: every submission with an id below taken_at is counted in it.
        if !self.is_any_in_transit() {
            cuts.retain(|cookie, cut| cut.taken_at == NOT_YET || has_operations(cookie));
            self.any.store(!cuts.is_empty(), Ordering::SeqCst);
        }
    }

    /// Returns the id that the next operation gets: all ids given so far are smaller.
    pub fn next_id(&self) -> u64 {
        self.next_id.load(Ordering::SeqCst)
    }

    /// Returns whether nothing is remembered.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}
