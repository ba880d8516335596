// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times at which operations want to be looked at.  Entries of operations that have ended stay
//! until their time or until they outnumber the living, so that setting one costs no search.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Why an operation wants to be looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Alarm {
    /// Its timeout_ms has run out.
    Deadline,
    /// It has kept data for a slow peer long enough.
    Linger,
    /// Its socket has taken nothing for a while, whatever the kernel reports: look at it.
    Look,
    /// It has ended, and a call on its file has not come back.
    Abandon,
}

/// Id of an operation, its slot, and why.
pub type Entry = (u64, u32, Alarm);

/// The times set, soonest first.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Entry)>>,
}

impl Timers {
    /// Sets one.
    pub fn set(&mut self, at: Instant, entry: Entry) {
        self.heap.push(Reverse((at, entry)));
    }

    /// The soonest.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one whose time has come.
    pub fn take_due(&mut self, now: Instant) -> Option<Entry> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, entry))| entry)
    }

    /// Drops entries for which `alive` says no, once there are far more entries than `living`
    /// operations: constant work for each entry set.
    pub fn compact(&mut self, living: usize, alive: impl Fn(u64, u32) -> bool) {
        if self.heap.len() > 64 + 4 * living {
            self.heap.retain(|Reverse((_, (id, slot, _)))| alive(*id, *slot));
            self.heap.shrink_to(64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn gives_the_soonest_first_and_forgets_the_dead() {
        let now = Instant::now();
        let mut timers = Timers::default();
        for index in (0..200u32).rev() {
            timers.set(now + Duration::from_millis(index.into()), (index.into(), 0, Alarm::Linger));
        }
        assert_eq!(timers.take_due(now), Some((0, 0, Alarm::Linger)));
        assert_eq!(timers.take_due(now), None);
        timers.compact(0, |id, _| id == 150);
        assert_eq!(timers.next(), Some(now + Duration::from_millis(150)));
    }
}
