// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory zero-copy sends may pin.  Without CAP_IPC_LOCK the kernel charges each send
//! against RLIMIT_MEMLOCK until its notification, and other processes of the same user share the
//! limit.  So the budget learns what fits from sends that the kernel accepted or refused.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// The memory that the kernel has pinned for zero-copy sends, and the amount known to fit, in
/// bytes.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// The size of a page in bytes.
    page: u64,
    /// Bytes that the kernel has pinned, as it counts them.
    pinned: u64,
    /// Bytes that are known to fit; u64::MAX until a limit is met.
    fits: u64,
    /// A trial is under way: more is pinned than is known to fit.
    trying: bool,
    /// When the next trial may start; None: at once.
    try_at: Option<Instant>,
    /// How long no trial starts after the next refusal.
    pause: Duration,
}

// Other processes release memory without notice.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(250);

impl Budget {
    /// Returns a budget that has not met a limit yet.
    pub fn new(page: u64) -> Budget {
        Budget { page, pinned: 0, fits: u64::MAX, trying: false, try_at: None, pause: PAUSE_MIN }
    }

    /// Returns whether a send of `length` bytes is known to fit.
    pub fn fits(&self, length: u64) -> bool {
        self.pinned.saturating_add(self.charge(length)) <= self.fits
    }

    /// Returns whether a send of `length` bytes may be tried now.
    pub fn allows(&self, length: u64, now: impl Fn() -> Instant) -> bool {
        let may_try = || !self.trying && self.try_at.is_none_or(|at| at <= now());
        self.fits(length) || may_try()
    }

    /// Counts a send, which [`Budget::allows`] permitted, as pinned.
    pub fn take(&mut self, length: u64) {
        self.pinned += self.charge(length);
        self.trying |= self.pinned > self.fits;
    }

    /// Records that the kernel accepted the send.
    pub fn fitted(&mut self) {
        if std::mem::take(&mut self.trying) {
            self.fits = self.fits.max(self.pinned);
            self.try_at = None;
            self.pause = PAUSE_MIN;
        }
    }

    /// Counts a send, of which the kernel holds no memory any more, as released.
    pub fn give_back(&mut self, length: u64) {
        self.pinned = self.pinned.saturating_sub(self.charge(length));
    }

    /// Records that the kernel refused a send, which has been given back, for lack of memory.
    pub fn refused(&mut self, now: Instant) {
        self.trying = false;
        self.fits = self.pinned.min(self.fits);
        self.try_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Returns the bytes that count as pinned.
    #[cfg(test)]
    pub fn pinned(&self) -> u64 {
        self.pinned
    }

    // Returns the bytes that the kernel charges for a send: whole pages and two more
    // (io_notif_account_mem() in io_uring/notif.h).
    fn charge(&self, length: u64) -> u64 {
        length / self.page * self.page + 2 * self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const MIB: u64 = 1 << 20;

    /// A kernel with a limit that other processes share, and a link that acknowledges after 10 ms.
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

        // Sends without a pause, 1 ms for each MiB.
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
        // The others take memory again.
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
    fn what_may_be_tried_is_not_known_to_fit() {
        let (mut budget, now) = (Budget::new(4096), Instant::now());
        assert!(budget.fits(MIB));
        budget.take(MIB);
        budget.give_back(MIB);
        budget.refused(now);
        let later = now + Duration::from_secs(1);
        assert!(!budget.fits(4096) && budget.allows(4096, || later));
        budget.take(4096);
        budget.fitted();
        budget.give_back(4096);
        assert!(budget.fits(4096) && !budget.fits(2 * 4096));
    }

    #[test]
    fn a_send_is_charged_as_the_kernel_does() {
        for page in [4 << 10, 16 << 10, 64 << 10] {
            let budget = Budget::new(page);
            for (length, pages) in
                [(0, 2), (page - 1, 2), (page, 3), (2 * page + 1808, 4), (256 * page, 258)]
            {
                assert_eq!(budget.charge(length), pages * page, "{length}");
            }
        }
    }
}
