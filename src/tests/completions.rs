// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bell, with the ring thread and several polling threads: one step of one of them at a time.
#![forbid(unsafe_code)]

use super::{Script, cases, script};
use crate::handoff::completions::{Completions, Entry};
use crate::types::completion::Completion;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::time::Duration;

/// The most bytes that one call of sys::clear_bell() takes.
const CLEARED_MAX: u32 = 64;

/// The state of a polling thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Poller {
    Idle,
    /// It has taken completions, and must clear this many bytes.
    Took(u32),
    /// This many bytes were missing.
    Missed(u32),
}

struct World {
    completions: Completions,
    pollers: [Poller; 3],
    /// The ring thread has not yet written a byte.
    must_ring: bool,
    /// It was requested to check whether to ring.
    must_look: bool,
    wanted: bool,
    /// Bytes in the event descriptor, and the number ever written.
    bytes: u32,
    rung: u32,
    pushes: u32,
    queue: VecDeque<u64>,
    next_id: u64,
}

impl World {
    fn new() -> World {
        World {
            completions: Completions::default(),
            pollers: [Poller::Idle; 3],
            must_ring: false,
            must_look: false,
            wanted: false,
            bytes: 0,
            rung: 0,
            pushes: 0,
            queue: VecDeque::new(),
            next_id: 1,
        }
    }

    fn step(&mut self, script: &mut Script) {
        match script.pick(12) {
            0..=2 => self.ring_thread(false),
            3..=5 => self.push(script),
            6..=10 => {
                let poller = script.pick(3) as usize;
                self.poll(poller, script);
            }
            _ => {
                // event_fd() is called at any time, often only once.
                self.wanted = true;
                self.must_look |= self.completions.want_bell();
            }
        }
        self.check();
    }

    // The ring thread's next step, if any; it does one thing after the other.
    fn ring_thread(&mut self, all: bool) {
        loop {
            if std::mem::take(&mut self.must_ring) {
                self.bytes += 1;
                self.rung += 1;
            } else if std::mem::take(&mut self.must_look) {
                self.must_ring = self.completions.ring_for_waiting();
            }
            if !all || !self.must_ring && !self.must_look {
                return;
            }
        }
    }

    fn push(&mut self, script: &mut Script) {
        if self.must_ring {
            return;
        }
        let count = script.pick(3) + 1;
        let mut batch = Vec::new();
        for id in self.next_id..self.next_id + count {
            let completion = Completion { id, ..Completion::default() };
            batch.push(Entry { completion, cut: None });
            self.queue.push_back(id);
        }
        self.next_id += count;
        self.pushes += 1;
        self.must_ring = self.completions.push(&mut batch);
        assert!(batch.is_empty() && (self.wanted || !self.must_ring));
    }

    // Carries out the next step of a polling thread.
    fn poll(&mut self, poller: usize, script: &mut Script) {
        self.pollers[poller] = match self.pollers[poller] {
            Poller::Idle => self.take(script.pick(4) as usize),
            Poller::Took(count) => {
                let cleared = count.min(self.bytes).min(CLEARED_MAX);
                self.bytes -= cleared;
                Poller::Missed(count - cleared)
            }
            Poller::Missed(count) => {
                self.completions.owe_bell(count);
                Poller::Idle
            }
        };
    }

    // Takes up to this many completions; 0: all.
    fn take(&mut self, most: usize) -> Poller {
        let most = if most == 0 { usize::MAX } else { most };
        let due: Vec<u64> = self.queue.iter().copied().take(most).collect();
        self.queue.drain(..due.len());
        let mut got = Vec::new();
        let each = |entry: Entry| got.push(entry.completion.id);
        let taken = self.completions.take(most, Some(Duration::ZERO), each).expect("no signals");
        assert_eq!((got, taken.count), (due.clone(), due.len()), "lost, twice or out of order");
        if taken.bell > 0 { Poller::Took(taken.bell) } else { Poller::Idle }
    }

    fn check(&self) {
        let pending = self.must_ring || self.must_look;
        if self.wanted && !self.queue.is_empty() && !pending {
            assert!(self.bytes > 0, "completions wait, and nobody is told");
        }
        assert!(self.rung <= self.pushes, "more rings than there was reason for");
        // At most one byte for the waiting completions, one for each poller that will clear it, and
        // what they owe: the descriptor's buffer cannot become full.
        assert!(self.bytes <= 1 + 2 * self.pollers.len() as u32);
    }

    fn come_to_rest(&mut self) {
        self.ring_thread(true);
        for poller in 0..self.pollers.len() {
            while self.pollers[poller] != Poller::Idle {
                self.poll(poller, &mut Script::default());
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(40_000))]

    #[test]
    fn model_bell_tells_of_all_that_waits_and_falls_silent(mut script in script(120)) {
        let mut world = World::new();
        while !script.is_over() {
            world.step(&mut script);
        }
        world.come_to_rest();
        world.check();
        // One poll that takes everything leaves nothing to read.
        world.poll(0, &mut Script::default());
        world.come_to_rest();
        assert!(world.queue.is_empty());
        assert_eq!(world.bytes, 0, "readable for ever");
    }
}
