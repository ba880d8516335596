// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often a socket that takes nothing is looked at again.  poll(2) may report a socket without
//! usable room: it has an error queue that the host has not read, or the kernel has no memory for
//! the room.  Such reports must not turn into a busy loop.
#![forbid(unsafe_code)]

use std::time::Duration;

/// The result of a look at a socket that did not take data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// No room; the kernel reports when there is some.
    Full,
    /// The socket reports room but takes nothing: EAGAIN, ENOBUFS or ENOMEM.
    Refusal,
}

/// The waits of one socket since it last took data.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Looks in vain that found a refusal.
    refusals: u8,
    /// Looks in vain that found the socket full.
    looks: u8,
    /// Reports since it last took data, less one for each pause.
    reports: u8,
    /// A report has come in vain once: wait for changes of the state, not for the state.
    wants_changes: bool,
}

// The kernel does not report when memory is available again.
const REFUSAL_MIN: Duration = Duration::from_millis(1);
const REFUSAL_MAX: Duration = Duration::from_millis(250);

// Room is reported, so a look is needed only for the rare failure that poll(2) does not report.
const LOOK_MIN: Duration = Duration::from_millis(250);
const LOOK_MAX: Duration = Duration::from_secs(32);

// This many reports in a row may be in vain; after that, one for each pause.
const REPORTS_MAX: u8 = 16;

impl Pace {
    /// Records that the socket took data: the next wait starts afresh.  That it reports more than
    /// room is remembered.
    pub fn progressed(&mut self) {
        *self = Pace { wants_changes: self.wants_changes, ..Pace::default() };
    }

    /// Records that the kernel has reported something.
    pub fn reported(&mut self) {
        self.reports = self.reports.saturating_add(1);
    }

    /// Records that a pause is over.
    pub fn paused(&mut self) {
        self.reports = self.reports.saturating_sub(1);
    }

    /// Records a look in vain; returns how long to wait for the next, unless the kernel reports a
    /// change.
    pub fn in_vain(&mut self, found: Found) -> Duration {
        self.wants_changes |= self.reports > 0;
        let pause = match found {
            Found::Full => grown(&mut self.looks, LOOK_MIN, LOOK_MAX),
            Found::Refusal => grown(&mut self.refusals, REFUSAL_MIN, REFUSAL_MAX),
        };
        if self.listens() { pause } else { pause.min(REFUSAL_MAX) }
    }

    /// Returns whether the next wait is for changes of the socket's state, not for the state
    /// itself.
    pub fn wants_changes(&self) -> bool {
        self.wants_changes
    }

    /// Returns whether the kernel's reports are wanted; not after too many in vain.
    pub fn listens(&self) -> bool {
        self.reports < REPORTS_MAX
    }
}

// Returns a pause that doubles with each call, from `from` to `to`.
fn grown(steps: &mut u8, from: Duration, to: Duration) -> Duration {
    let pause = from.saturating_mul(1 << (*steps).min(16));
    *steps = steps.saturating_add(1);
    pause.min(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Reports as fast as the kernel can make them, for a minute; returns how many are taken, and
    // how many of them in the last second.
    fn storm(found: Found) -> (u32, u32) {
        let (mut pace, mut now, mut taken, mut late) = (Pace::default(), Duration::ZERO, 0, 0);
        while now < Duration::from_secs(60) {
            let mut pause = Duration::ZERO;
            while pace.listens() {
                pace.reported();
                pause = pace.in_vain(found);
                taken += 1;
                late += u32::from(now >= Duration::from_secs(59));
            }
            now += pause;
            pace.paused();
            pause = pace.in_vain(found);
            now += pause / 1000; // a look takes time
        }
        (taken, late)
    }

    #[test]
    fn reports_in_vain_come_a_few_times_a_second_however_many_there_are() {
        for found in [Found::Full, Found::Refusal] {
            let (taken, late) = storm(found);
            assert!(late <= 5, "{late} in a second");
            assert!(taken <= 300 + u32::from(REPORTS_MAX), "{taken} in a minute");
        }
    }

    #[test]
    fn pauses_grow_and_start_afresh_once_something_has_gone() {
        let mut pace = Pace::default();
        pace.in_vain(Found::Full);
        assert!(!pace.wants_changes(), "nothing was reported");
        pace.progressed();
        pace.reported();
        let refused: Vec<u128> =
            (0..10).map(|_| pace.in_vain(Found::Refusal).as_millis()).collect();
        assert_eq!(refused, [1, 2, 4, 8, 16, 32, 64, 128, 250, 250]);
        pace.progressed();
        assert!(pace.wants_changes());
        assert_eq!(pace.in_vain(Found::Refusal), REFUSAL_MIN);
        let full: Vec<u64> = (0..9).map(|_| pace.in_vain(Found::Full).as_millis() as u64).collect();
        assert_eq!(full, [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 32_000]);
    }

    #[test]
    fn a_quiet_socket_listens_all_the_time() {
        let mut pace = Pace::default();
        for _ in 0..1000 {
            pace.reported();
            pace.in_vain(Found::Full);
            assert!(pace.listens());
            pace.paused();
        }
    }

    #[test]
    fn a_few_reports_in_vain_are_too_many() {
        let mut pace = Pace::default();
        for _ in 0..REPORTS_MAX {
            assert!(pace.listens());
            pace.reported();
        }
        assert!(!pace.listens());
        pace.paused();
        assert!(pace.listens());
    }
}
