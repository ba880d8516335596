// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory zero-copy sends may pin.  Without CAP_IPC_LOCK the kernel charges each against
//! RLIMIT_MEMLOCK until its notification, and others of the same user use up the same limit: what
//! fits is found out by trying.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// The memory that the kernel has pinned for zero-copy sends, beside what it has been seen to allow.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// The size of a page.
    page: u64,
    pinned: u64,
    fits: u64,
    /// More than that is under way, as a trial.
    trying: bool,
    /// When more may be tried; None: at once.
    try_at: Option<Instant>,
    pause: Duration,
}

// Others give memory back without telling.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(250);

impl Budget {
    /// No limit has been met yet.
    pub fn new(page: u64) -> Budget {
        Budget { page, pinned: 0, fits: u64::MAX, trying: false, try_at: None, pause: PAUSE_MIN }
    }

    /// Whether a send of this length may be tried now.
    pub fn allows(&self, length: u64, now: impl Fn() -> Instant) -> bool {
        let may_try = || !self.trying && self.try_at.is_none_or(|at| at <= now());
        self.pinned.saturating_add(self.charge(length)) <= self.fits || may_try()
    }

    /// A send that [`Budget::allows`] goes to the kernel.
    pub fn take(&mut self, length: u64) {
        self.pinned += self.charge(length);
        self.trying |= self.pinned > self.fits;
    }

    /// The kernel has taken one.
    pub fn fitted(&mut self) {
        if std::mem::take(&mut self.trying) {
            self.fits = self.fits.max(self.pinned);
            self.try_at = None;
            self.pause = PAUSE_MIN;
        }
    }

    /// The kernel has none of its memory any more.
    pub fn give_back(&mut self, length: u64) {
        self.pinned = self.pinned.saturating_sub(self.charge(length));
    }

    /// The kernel has refused one, which has been given back, for want of memory.
    pub fn refused(&mut self, now: Instant) {
        self.trying = false;
        self.fits = self.pinned.min(self.fits);
        self.try_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    // As the kernel counts: whole pages, and two more (io_notif_account_mem() in io_uring/notif.h).
    fn charge(&self, length: u64) -> u64 {
        length / self.page * self.page + 2 * self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const MIB: u64 = 1 << 20;

    /// A kernel with a limit that others use, too, and a link that acknowledges after 10 ms.
    struct World {
        budget: Budget,
        now: Instant,
        free: u64,
        in_flight: VecDeque<(Instant, u64)>,
        zero_copy: u64,
        copied: u64,
        refused: u32,
    }

    impl World {
        fn new(free: u64) -> World {
            World {
                budget: Budget::new(4096),
                now: Instant::now(),
                free,
                in_flight: VecDeque::new(),
                zero_copy: 0,
                copied: 0,
                refused: 0,
            }
        }

        // A socket that is always busy, 1 ms for each MiB.
        fn run(&mut self, time: Duration) {
            (self.zero_copy, self.copied, self.refused) = (0, 0, 0);
            let end = self.now + time;
            while self.now < end {
                self.now += Duration::from_millis(1);
                while self.in_flight.front().is_some_and(|(at, _)| *at <= self.now) {
                    let (_, length) = self.in_flight.pop_front().expect("not empty");
                    self.free += self.budget.charge(length);
                    self.budget.give_back(length);
                }
                self.send(MIB);
            }
        }

        fn send(&mut self, length: u64) {
            if !self.budget.allows(length, || self.now) {
                self.copied += 1;
                return;
            }
            self.budget.take(length);
            if self.budget.charge(length) <= self.free {
                self.free -= self.budget.charge(length);
                self.budget.fitted();
                self.in_flight.push_back((self.now + Duration::from_millis(10), length));
                self.zero_copy += 1;
            } else {
                self.budget.give_back(length);
                self.budget.refused(self.now);
                self.refused += 1;
                self.copied += 1;
            }
        }
    }

    #[test]
    fn without_a_limit_everything_is_pinned() {
        let mut world = World::new(u64::MAX / 2);
        world.run(Duration::from_secs(1));
        assert_eq!((world.copied, world.refused), (0, 0));
    }

    #[test]
    fn what_fits_is_used_and_the_rest_copied_without_many_refusals() {
        let mut world = World::new(8 * MIB);
        world.run(Duration::from_secs(1));
        world.run(Duration::from_secs(10));
        // Seven of ten fit.
        assert!(world.zero_copy > 6900, "{}", world.zero_copy);
        assert!(world.refused <= 41, "{}", world.refused);
    }

    #[test]
    fn what_others_gave_back_is_found_again() {
        let mut world = World::new(0);
        world.run(Duration::from_secs(5));
        assert_eq!(world.zero_copy, 0);
        assert!(world.refused <= 25, "{}", world.refused);
        world.free = 8 * MIB;
        world.run(Duration::from_millis(300));
        assert!(world.zero_copy > 0);
        world.run(Duration::from_secs(1));
        assert!(world.zero_copy > 690, "{}", world.zero_copy);
        // And when they take it once more.
        world.free -= 4 * MIB;
        world.run(Duration::from_secs(1));
        world.run(Duration::from_secs(1));
        assert!(
            world.zero_copy > 250 && world.refused <= 6,
            "{} {}",
            world.zero_copy,
            world.refused
        );
    }

    #[test]
    fn a_send_is_charged_as_the_kernel_does() {
        let budget = Budget::new(4096);
        for (length, pages) in [(0, 2), (4095, 2), (4096, 3), (10_000, 4), (MIB, 258)] {
            assert_eq!(budget.charge(length), pages * 4096, "{length}");
        }
    }
}
