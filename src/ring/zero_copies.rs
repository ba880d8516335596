// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zero-copy sends whose memory the kernel still uses, how much of it is pinned, and what was learnt
//! from them.  A send may carry bytes of several operations of a socket, a part of each.
#![forbid(unsafe_code)]

use super::job::Job;
use super::pool::Lease;
use crate::collections::Table;
use crate::decide::budget::Budget;
use crate::decide::token::Token;
use crate::types::errno::Result;
use std::time::Instant;

// The most zero-copy sends in flight before one has been real.
const TRIALS_MAX: usize = 4;

// After this many sockets in a row on which zero-copy was useless, it is tried on one socket in 64.
const USELESS_MAX: u32 = 4;

/// The part of one operation in a zero-copy send whose memory the kernel still uses.
pub(super) struct ZeroCopyUse {
    /// The memory in the pool; None: the file's own pages.
    pub(super) lease: Option<Lease>,
    /// The slot of the operation in the table of jobs, and its id.
    pub(super) slot: u32,
    pub(super) id: u64,
    pub(super) cookie: u64,
    /// Bytes passed to the kernel.
    pub(super) asked: u64,
    /// Bytes that the socket took.
    pub(super) sent: u64,
    /// The part of the operation behind, in the same send; NONE: this is the last one.
    next: u32,
    /// The content of its file cannot change, so that the operation does not wait.
    pub(super) is_frozen: bool,
    /// In the first part: bytes of the whole send that count as pinned; 0 after
    /// [`ZeroCopies::unpin`].
    pinned: u64,
    /// In the first part: identifies the send.
    generation: u64,
}

const NONE: u32 = u32::MAX;

impl ZeroCopyUse {
    /// Describes `asked` bytes in `lease`, for the operation in `slot`.
    pub(super) fn new(lease: Option<Lease>, (slot, job): (usize, &Job), asked: u64) -> Self {
        let (slot, id, cookie) = (slot as u32, job.id, job.cookie);
        let is_frozen = job.operation.is_frozen();
        let (sent, next, pinned, generation) = (0, NONE, 0, 0);
        ZeroCopyUse { lease, slot, id, cookie, asked, sent, next, is_frozen, pinned, generation }
    }
}

/// The zero-copy sends of a context.
pub(super) struct ZeroCopies {
    uses: Table<ZeroCopyUse>,
    budget: Budget,
    /// How many sockets in a row had no use for zero-copy.
    useless_in_a_row: u32,
    /// Whether zero-copy has been real on any socket.
    was_real: bool,
    sockets_seen: u32,
    generation: u64,
    /// The socket of the latest notification, and whether its send was real.
    latest: (u64, bool),
}

impl ZeroCopies {
    /// Creates them; the kernel counts what is pinned in pages of `page_bytes`.
    pub(super) fn new(page_bytes: u64) -> ZeroCopies {
        ZeroCopies {
            uses: Table::default(),
            budget: Budget::new(page_bytes),
            useless_in_a_row: 0,
            was_real: false,
            sockets_seen: 0,
            generation: 0,
            latest: (0, false),
        }
    }

    /// Returns the bytes that count as pinned.
    #[cfg(test)]
    pub(super) fn pinned(&self) -> u64 {
        self.budget.pinned()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }

    /// Returns whether the memory of a send of this length is known to be within the limit.
    pub(super) fn fits(&self, length: u64) -> bool {
        self.budget.fits(length)
    }

    /// Returns whether a send of this length may pin its memory now.
    pub(super) fn allows(&self, length: u64, now: impl Fn() -> Instant) -> bool {
        self.budget.allows(length, now)
    }

    /// Makes room for one more send.
    pub(super) fn reserve(&mut self) -> Result<()> {
        self.uses.reserve()
    }

    /// Adds the first part of a send, for which there is room; returns its index and generation.
    pub(super) fn begin(&mut self, mut first: ZeroCopyUse) -> (usize, u64) {
        self.generation += 1;
        first.generation = self.generation;
        (self.uses.insert(first).expect("there is room"), self.generation)
    }

    /// Adds a part behind another one, for which there is room; returns its index.
    pub(super) fn append(&mut self, last: usize, part: ZeroCopyUse) -> usize {
        let index = self.uses.insert(part).expect("there is room");
        self.uses[last].next = index as u32;
        index
    }

    /// Counts the `length` bytes of a send, which goes to the kernel, as pinned.
    pub(super) fn pin(&mut self, first: usize, length: u64) {
        self.uses[first].pinned = length;
        self.budget.take(length);
    }

    /// Returns the part of a send at this index.
    pub(super) fn part(&mut self, index: usize) -> &mut ZeroCopyUse {
        &mut self.uses[index]
    }

    /// Returns the index of the part behind this one.
    pub(super) fn behind(&self, index: usize) -> Option<usize> {
        let next = self.uses[index].next;
        (next != NONE).then_some(next as usize)
    }

    /// Returns the first part of the send of a token.
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut ZeroCopyUse> {
        self.uses.get_mut(token.slot()).filter(|used| token.is_of(used.generation))
    }

    /// Records that the memory of a send was within the limit.
    pub(super) fn fitted(&mut self) {
        self.budget.fitted();
    }

    /// Records that the kernel refused a send for lack of memory.
    pub(super) fn refused(&mut self, now: Instant) {
        self.budget.refused(now);
    }

    /// Counts the bytes of a send as no longer pinned, though its notification may follow.
    pub(super) fn unpin(&mut self, first: usize) {
        let pinned = std::mem::take(&mut self.uses[first].pinned);
        if pinned > 0 {
            self.budget.give_back(pinned);
        }
    }

    /// Removes one part.
    pub(super) fn remove(&mut self, index: usize) -> ZeroCopyUse {
        self.uses.remove(index)
    }

    /// Returns whether the kernel has copied a send, by its notification.  A send that shares a packet
    /// with the one before is always reported as copied, directly after that one, whose outcome it
    /// shares (io_link_skb() in io_uring/notif.c, Linux 6.10).
    pub(super) fn was_copied(&mut self, cookie: u64, copied: bool) -> bool {
        let copied = copied && self.latest != (cookie, true);
        self.latest = (cookie, !copied);
        copied
    }

    /// Records whether zero-copy was real on one more socket.
    pub(super) fn learn(&mut self, real: bool) {
        self.useless_in_a_row = if real { 0 } else { self.useless_in_a_row.saturating_add(1) };
        self.was_real |= real;
    }

    /// Returns whether a trial on a new socket is not worthwhile, judged by earlier sockets.
    pub(super) fn is_hopeless(&mut self) -> bool {
        self.sockets_seen = self.sockets_seen.wrapping_add(1);
        self.useless_in_a_row >= USELESS_MAX && self.sockets_seen % 64 != 0
    }

    /// Returns whether enough trials are in flight: their data stays in the pool until the peer
    /// takes it.
    pub(super) fn has_enough_trials(&self) -> bool {
        self.uses.len() >= TRIALS_MAX && !self.was_real
    }

    /// Releases memory after a peak; no send is in flight.
    pub(super) fn shrink(&mut self) {
        self.uses.shrink();
    }
}
