// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zero-copy sends whose memory the kernel still uses, and what has been learnt of them.
#![forbid(unsafe_code)]

use super::pool::Lease;
use crate::collections::Table;
use crate::decide::budget::Budget;
use crate::decide::token::Token;
use crate::sys;
use crate::types::errno::Result;
use std::time::Instant;

// The most zero-copy sends that may be in flight before one has been real.
const TRIALS_MAX: usize = 4;

// If this many sockets in a row had no use for zero-copy, it is tried on one socket in 64.
const USELESS_MAX: u32 = 4;

/// A zero-copy send whose memory the kernel still uses.
pub(super) struct ZeroCopyUse {
    pub(super) lease: Lease,
    pub(super) slot: u32,
    pub(super) id: u64,
    pub(super) cookie: u64,
    pub(super) asked: u64,
    pub(super) sent: u64,
    generation: u64,
}

impl ZeroCopyUse {
    /// Of `asked` bytes in `lease`, for the operation `id` in `slot`.
    pub(super) fn new(lease: Lease, (slot, id): (usize, u64), cookie: u64, asked: u64) -> Self {
        ZeroCopyUse { lease, slot: slot as u32, id, cookie, asked, sent: 0, generation: 0 }
    }
}

/// The zero-copy sends of a context.
pub(super) struct ZeroCopies {
    uses: Table<ZeroCopyUse>,
    budget: Budget,
    /// The number of sockets in a row that had no use for zero-copy.
    useless_in_a_row: u32,
    /// Whether it has been real on any socket.
    was_real: bool,
    sockets_seen: u32,
    generation: u64,
}

impl Default for ZeroCopies {
    fn default() -> ZeroCopies {
        ZeroCopies {
            uses: Table::default(),
            budget: Budget::new(sys::PAGE),
            useless_in_a_row: 0,
            was_real: false,
            sockets_seen: 0,
            generation: 0,
        }
    }
}

impl ZeroCopies {
    pub(super) fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }

    /// Whether a send of this length may pin its memory now.
    pub(super) fn allows(&self, length: u64) -> bool {
        self.budget.allows(length, Instant::now)
    }

    /// Makes room for one more.
    pub(super) fn reserve(&mut self) -> Result<()> {
        self.uses.reserve()
    }

    /// One more is with the kernel, for which there is room: its slot and generation.
    pub(super) fn begin(&mut self, mut begun: ZeroCopyUse) -> (usize, u64) {
        self.budget.take(begun.asked);
        self.generation += 1;
        begun.generation = self.generation;
        (self.uses.insert(begun).expect("there is room"), self.generation)
    }

    /// The send that a token is about.
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut ZeroCopyUse> {
        self.uses.get_mut(token.slot()).filter(|used| token.is_of(used.generation))
    }

    /// The kernel has taken it, or refused it with an error that says nothing of the budget.
    pub(super) fn fitted(&mut self) {
        self.budget.fitted();
    }

    /// The kernel has refused it for want of memory.
    pub(super) fn refused(&mut self) {
        self.budget.refused(Instant::now());
    }

    /// The bytes of a send are not pinned any more, though its notification may be to come.
    pub(super) fn unpin(&mut self, token: Token) {
        if let Some(used) = self.get_mut(token) {
            let asked = std::mem::take(&mut used.asked);
            self.budget.give_back(asked); // counts two pages even for no bytes: once only
        }
    }

    /// The kernel does not use its memory any more.
    pub(super) fn end(&mut self, token: Token) -> Option<ZeroCopyUse> {
        self.get_mut(token)?;
        let used = self.uses.remove(token.slot());
        if used.asked > 0 {
            self.budget.give_back(used.asked);
        }
        Some(used)
    }

    /// Whether zero-copy was real on one more socket.
    pub(super) fn learn(&mut self, real: bool) {
        self.useless_in_a_row = if real { 0 } else { self.useless_in_a_row.saturating_add(1) };
        self.was_real |= real;
    }

    /// Whether a new socket is not worth a trial, by what others were like.
    pub(super) fn is_hopeless(&mut self) -> bool {
        self.sockets_seen = self.sockets_seen.wrapping_add(1);
        self.useless_in_a_row >= USELESS_MAX && self.sockets_seen % 64 != 0
    }

    /// Whether enough is being tried: what a trial sends stays in the pool until the peer takes it.
    pub(super) fn has_enough_trials(&self) -> bool {
        self.uses.len() >= TRIALS_MAX && !self.was_real
    }

    /// Gives memory back after a peak; none is in flight.
    pub(super) fn shrink(&mut self) {
        self.uses.shrink();
    }
}
