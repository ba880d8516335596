// SPDX-License-Identifier: MIT OR Apache-2.0
//! The times at which operations must be looked at.  The ring thread sets them and takes those that
//! are due.  Entries of operations that have ended stay until their time or until they outnumber
//! the living ones, so that neither setting a time nor ending an operation costs a search.
#![forbid(unsafe_code)]

use crate::collections::memory;
use crate::types::errno::Result;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// The reason why an operation must be looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Alarm {
    /// Its timeout has expired.
    Deadline,
    /// It has kept data for a slow peer long enough.
    Linger,
    /// Its socket has taken nothing for a while.  Look at it, whatever the kernel reports.
    Look,
    /// It has ended, but a call on its file has not returned.
    Abandon,
    /// An ended operation no longer waits for the peer to acknowledge the file's own pages.
    Reset,
}

/// The low half of an operation's id, its slot, and the reason.
pub type TimerEntry = (u64, u32, Alarm);

/// A time as [`Timers`] has it: nanoseconds since its beginning.  8 bytes; an Instant has 16.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment(NonZeroU64);

/// `entry`: the low half of the id, the slot and the reason.
/// 16 bytes in all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Timer {
    at: Moment,
    entry: u64,
}

impl Timer {
    fn new(at: Moment, (id, slot, alarm): TimerEntry) -> Timer {
        debug_assert!(slot < 1 << 24);
        Timer { at, entry: id << 32 | u64::from(slot) << 8 | alarm as u64 }
    }

    fn entry(self) -> TimerEntry {
        let alarm = match self.entry as u8 {
            0 => Alarm::Deadline,
            1 => Alarm::Linger,
            2 => Alarm::Look,
            3 => Alarm::Abandon,
            _ => Alarm::Reset,
        };
        (self.entry >> 32, self.entry as u32 >> 8, alarm)
    }
}

/// The times that are set, soonest first.
#[derive(Debug)]
pub struct Timers {
    /// The origin of all times.
    beginning: Instant,
    heap: BinaryHeap<Reverse<Timer>>,
}

impl Default for Timers {
    fn default() -> Timers {
        Timers { beginning: Instant::now(), heap: BinaryHeap::new() }
    }
}

impl Timers {
    /// Makes room for one more, so that [`Timers::set`] does not fail.
    #[inline]
    pub fn reserve(&mut self) -> Result<()> {
        if self.heap.len() < self.heap.capacity() { Ok(()) } else { self.grow() }
    }

    // Grows by an eighth, so that little memory is unused.
    #[cold]
    fn grow(&mut self) -> Result<()> {
        let more = (self.heap.len() / 8).max(32);
        memory::grow_heap(&mut self.heap, more)
    }

    /// Returns a time as these timers have it.
    #[inline]
    pub fn moment(&self, at: Instant) -> Moment {
        let since = at.saturating_duration_since(self.beginning);
        let nanoseconds = since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos());
        Moment(NonZeroU64::new(nanoseconds).unwrap_or(NonZeroU64::MIN))
    }

    /// Sets a time.
    pub fn set(&mut self, at: Instant, entry: TimerEntry) -> Result<()> {
        self.reserve()?;
        self.heap.push(Reverse(Timer::new(self.moment(at), entry)));
        Ok(())
    }

    /// Returns the soonest time.
    pub fn next(&self) -> Option<Instant> {
        let Reverse(timer) = self.heap.peek()?;
        Some(self.beginning + Duration::from_nanos(timer.at.0.get()))
    }

    /// Takes an entry that is due.
    pub fn take_due(&mut self, now: Instant) -> Option<TimerEntry> {
        let Reverse(timer) = self.heap.peek()?;
        if timer.at > self.moment(now) {
            return None;
        }
        self.heap.pop().map(|Reverse(timer)| timer.entry())
    }

    /// Drops entries for which `alive` returns false, once there are far more entries than `living`
    /// operations: constant work for each entry that was set.
    pub fn compact(&mut self, living: usize, alive: impl Fn(u64, u32) -> bool) {
        if self.heap.len() > 64 + 2 * living {
            self.heap.retain(|Reverse(timer)| {
                let (id, slot, _) = timer.entry();
                alive(id, slot)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_soonest_first_and_forgets_the_dead() {
        let mut timers = Timers::default();
        let now = Instant::now();
        for index in (0..200u32).rev() {
            timers
                .set(now + Duration::from_millis(index.into()), (index.into(), 0, Alarm::Linger))
                .unwrap();
        }
        assert_eq!(timers.take_due(now), Some((0, 0, Alarm::Linger)));
        assert_eq!(timers.take_due(now), None);
        timers.compact(0, |id, _| id == 150);
        assert_eq!(timers.next(), Some(now + Duration::from_millis(150)));
    }

    #[test]
    fn reserving_makes_room_a_little_at_a_time() {
        let (mut timers, now, mut growths) = (Timers::default(), Instant::now(), 0);
        for count in 0..2000u32 {
            let before = timers.heap.capacity();
            timers.reserve().unwrap();
            let capacity = timers.heap.capacity();
            assert!(capacity > count as usize, "no room");
            assert!(capacity == before || before == count as usize, "there was room already");
            assert!(capacity <= count as usize + (count as usize / 8).max(32), "far too much");
            growths += u32::from(capacity != before);
            timers.set(now, (count.into(), 0, Alarm::Look)).unwrap();
        }
        assert!(growths < 40, "{growths} times everything was moved");
    }

    #[test]
    fn times_are_kept_to_the_nanosecond() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        for (seconds, nanoseconds) in [(0, 1), (3, 999_999_999), (100_000, 5)] {
            let at = now + Duration::new(seconds, nanoseconds);
            timers.set(at, (1, 2, Alarm::Abandon)).unwrap();
            assert_eq!(timers.next(), Some(at));
            assert_eq!(timers.take_due(at - Duration::from_nanos(1)), None);
            assert_eq!(timers.take_due(at), Some((1, 2, Alarm::Abandon)));
        }
    }

    #[test]
    fn the_dead_are_looked_for_once_they_far_outnumber_the_living() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        for id in 0..84 {
            timers.set(now, (id, 0, Alarm::Look)).unwrap();
        }
        timers.compact(10, |_, _| panic!("a search for 74 of them"));
        timers.set(now, (84, 0, Alarm::Look)).unwrap();
        timers.compact(10, |id, _| id < 10);
        assert_eq!(timers.heap.len(), 10);
    }
}
