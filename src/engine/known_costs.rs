// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the ways of copying warm data have cost: in a context for its threads, in the process for
//! sendfile.  Threads measure and look up without a lock; a lost measurement does no harm.
#![forbid(unsafe_code)]

use super::kernel::Kernel;
use crate::decide::costs::{self, COPY_MIN, Choice, Cost};
use crate::sys;
use crate::types::copying::Copying;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

// Lengths are distinguished below 256 KiB, below 1 MiB, and above.
const CLASSES: usize = 3;

/// The costs of copies of a similar length.
#[derive(Debug)]
struct Class {
    turns: AtomicU32,
    costs: [AtomicU64; Copying::ALL.len()],
}

/// The costs of copies.
#[derive(Debug)]
pub(crate) struct KnownCosts([Class; CLASSES]);

impl Default for KnownCosts {
    fn default() -> KnownCosts {
        KnownCosts::new()
    }
}

impl KnownCosts {
    /// Returns costs of which none is known.
    pub const fn new() -> KnownCosts {
        KnownCosts(
            [const { Class { turns: AtomicU32::new(0), costs: [const { AtomicU64::new(0) }; 4] } };
                CLASSES],
        )
    }

    fn class(&self, length: u64) -> &Class {
        let doubled = length.max(COPY_MIN).ilog2() - COPY_MIN.ilog2();
        &self.0[(doubled as usize).div_ceil(2).min(CLASSES - 1)]
    }

    /// Chooses a way for `length` bytes among those that are possible.  None: there is none.
    pub fn choose(&self, length: u64, possible: impl Fn(Copying) -> bool) -> Option<Choice> {
        let pinned = sys::pinned_copying().filter(|&way| possible(way));
        let possible = |way| pinned.map_or_else(|| possible(way), |pinned| way == pinned);
        let class = self.class(length);
        let known = class.costs.each_ref().map(cost_in);
        costs::choose(&known, possible, class.turns.fetch_add(1, Ordering::Relaxed))
    }

    /// Begins a copy of `length` bytes by the chosen way.  Some: its cost is to be measured, for
    /// [`KnownCosts::learn`].
    pub fn begin(&self, kernel: &impl Kernel, choice: Choice, length: u64) -> Option<Begun> {
        let Choice { way, is_measured } = choice;
        is_measured.then(|| Begun { way, length, at: kernel.thread_time() })
    }

    /// Learns from a copy that has moved `bytes` since [`KnownCosts::begin`].  If the socket took
    /// few, what was read in vain is a part of the cost; if it took none, that says nothing.
    pub fn learn(&self, kernel: &impl Kernel, begun: Begun, bytes: u64) {
        let took = kernel.thread_time().saturating_sub(begun.at).as_nanos() as u64;
        if bytes > 0 {
            let place = &self.class(begun.length).costs[begun.way as usize];
            place.store(cost_in(place).with(took, bytes).to_word(), Ordering::Relaxed);
        }
    }

    /// Returns the processor time, in nanoseconds for each MiB, of the copies by this way; 0: none
    /// was measured.
    pub fn ns_per_mib(&self, way: Copying) -> u64 {
        Cost::ns_per_mib(self.0.iter().map(|class| cost_in(&class.costs[way as usize])))
    }
}

fn cost_in(place: &AtomicU64) -> Cost {
    Cost::from_word(place.load(Ordering::Relaxed))
}

/// A copy whose cost is being measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    way: Copying,
    length: u64,
    /// The processor time of the thread when it began.
    at: Duration,
}
