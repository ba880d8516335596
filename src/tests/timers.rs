// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares timers with a sorted list.
#![forbid(unsafe_code)]

use super::{Script, cases, script};
use crate::decide::timers::{Alarm, TimerEntry, Timers};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const ALARMS: [Alarm; 3] = [Alarm::Deadline, Alarm::Linger, Alarm::Look];

struct World {
    timers: Timers,
    start: Instant,
    now: u64,
    /// Timers set and not yet taken, soonest first.  Those of dead operations may be missing.
    set: Vec<(u64, TimerEntry)>,
    alive: BTreeSet<u64>,
    next_id: u64,
}

impl World {
    fn new() -> World {
        let (timers, start) = (Timers::default(), Instant::now());
        World { timers, start, now: 0, set: Vec::new(), alive: BTreeSet::new(), next_id: 1 }
    }

    fn at(&self, time: u64) -> Instant {
        self.start + Duration::from_millis(time)
    }

    fn step(&mut self, script: &mut Script) {
        match script.pick(8) {
            0 => self.advance(script.pick(50)),
            1..=3 => self.set(script),
            4 => {
                // Many short-lived timers, as on a busy server.
                let count = script.pick(60);
                for _ in 0..count {
                    self.set(script);
                    self.alive.remove(&(self.next_id - 1));
                }
            }
            5 | 6 => {
                let index = script.pick(self.alive.len().max(1) as u64) as usize;
                if let Some(&id) = self.alive.iter().nth(index) {
                    self.alive.remove(&id);
                }
            }
            _ => self.compact(),
        }
        self.check_next();
    }

    fn set(&mut self, script: &mut Script) {
        let again = script.pick(4) == 1 && !self.alive.is_empty();
        let id = if again { *self.alive.first().expect("not empty") } else { self.next_id };
        if !again {
            self.next_id += 1;
            self.alive.insert(id);
        }
        let (time, alarm) = (self.now + script.pick(100), ALARMS[script.pick(3) as usize]);
        let entry = (id, id as u32 % 7, alarm);
        self.timers.set(self.at(time), entry).expect("memory");
        let place = self.set.partition_point(|known| *known <= (time, entry));
        self.set.insert(place, (time, entry));
    }

    fn compact(&mut self) {
        let alive = &self.alive;
        self.timers.compact(alive.len(), |id, slot| {
            assert_eq!(slot, id as u32 % 7);
            alive.contains(&id)
        });
    }

    fn advance(&mut self, by: u64) {
        self.now += by;
        while let Some(entry) = self.timers.take_due(self.at(self.now)) {
            self.forget_dead_before(Some(entry));
            let (time, soonest) = self.set.remove(0);
            assert_eq!(soonest, entry, "out of order, or a live one is lost");
            assert!(time <= self.now, "before its time");
        }
        self.forget_dead_before(None);
        let late = self.set.first().is_some_and(|&(time, _)| time <= self.now);
        assert!(!late, "due, and not given: {:?}", self.set[0]);
    }

    // Removes dead entries that compaction has dropped.
    fn forget_dead_before(&mut self, entry: Option<TimerEntry>) {
        while let Some(&(time, (id, slot, alarm))) = self.set.first() {
            let is_next = entry == Some((id, slot, alarm));
            if is_next || self.alive.contains(&id) || entry.is_none() && time > self.now {
                return;
            }
            self.set.remove(0);
        }
    }

    fn check_next(&self) {
        let next = self.timers.next();
        let soonest = self.set.iter().find(|(_, (id, _, _))| self.alive.contains(id));
        if let Some(&(time, _)) = soonest {
            assert!(next.is_some_and(|next| next <= self.at(time)), "a live one is overlooked");
        }
        if let Some(next) = next {
            assert!(self.set.iter().any(|&(time, _)| self.at(time) == next));
        }
    }

    // Returns the number of entries left when the rest of them is taken.
    fn drain(&mut self) -> usize {
        let end = self.at(self.now + 1000);
        std::iter::from_fn(|| self.timers.take_due(end)).count()
    }
}

proptest! {
    #![proptest_config(cases(12_000))]

    #[test]
    fn model_timers_give_every_live_one_in_order(mut script in script(120)) {
        let mut world = World::new();
        while !script.is_over() {
            world.step(&mut script);
        }
        world.compact();
        let of_living = world.set.iter().filter(|(_, (id, _, _))| world.alive.contains(id));
        let bound = of_living.count().max(64 + 2 * world.alive.len());
        let left = world.timers.next().map_or(0, |_| world.drain());
        assert!(left <= bound, "{left} entries are left for {} operations", world.alive.len());
    }
}
