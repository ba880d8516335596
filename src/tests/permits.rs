// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares permits with plain counts, and the completion queue with the room it must have.
#![forbid(unsafe_code)]

use super::{Script, cases, script};
use crate::handoff::completions::{Completions, Entry};
use crate::handoff::permits::Permits;
use crate::types::completion::{Completion, Event};
use crate::types::errno::Errno;
use proptest::prelude::*;
use std::time::Duration;

const MAX_OPS: u32 = 360;
/// Permits taken at the start, so that the queue grows by a part within few steps.
const TAKEN: u32 = 330;

struct World {
    permits: Permits,
    queue: Completions,
    /// For each operation the events that are due besides DONE.
    operations: Vec<u32>,
    waiting: Vec<Event>,
}

impl World {
    fn new() -> World {
        World {
            permits: Permits::with_taken(MAX_OPS, TAKEN),
            queue: Completions::default(),
            operations: vec![0; TAKEN as usize],
            waiting: Vec::new(),
        }
    }

    fn step(&mut self, script: &mut Script) {
        match script.pick(10) {
            0..=3 => self.take(script.pick(3) as u32),
            4 => self.give_back(),
            5 | 6 => self.finish(script.pick(3) as u32),
            7 | 8 => self.poll(script.pick(4) as usize + 1),
            _ => self.permits.shrink(&self.queue),
        }
        let done = self.waiting.iter().filter(|&&event| event == Event::Done).count();
        let others = self.operations.iter().sum::<u32>() as usize;
        let wanted = self.operations.len() + others + self.waiting.len();
        // The permits taken at the start got no room.
        let is_secured = self.operations.len() + done <= TAKEN as usize;
        assert!(is_secured || self.queue.room() as usize >= wanted, "no room for what comes");
    }

    fn take(&mut self, others: u32) {
        let done = self.waiting.iter().filter(|&&event| event == Event::Done).count();
        let may = self.operations.len() + done < MAX_OPS as usize;
        let expected = if may { Ok(()) } else { Err(Errno(libc::EAGAIN)) };
        assert_eq!(self.permits.take(others, &self.queue), expected);
        if may {
            self.operations.push(others);
        }
    }

    fn give_back(&mut self) {
        if let Some(others) = self.operations.pop() {
            self.permits.give_back(others);
        }
    }

    // Takes up to `most` of its events besides DONE.
    fn finish(&mut self, most: u32) {
        let Some(others) = self.operations.pop() else { return };
        let told = others.min(most);
        let mut events = vec![Event::Snapshot, Event::Sent];
        events.truncate(told as usize);
        events.push(Event::Done);
        self.permits.missed(others - told);
        let entry =
            |&event| Entry { completion: Completion { event, ..Completion::default() }, cut: None };
        let mut batch = events.iter().map(entry).collect();
        let _ = self.queue.push(&mut batch);
        self.waiting.append(&mut events);
    }

    fn poll(&mut self, max: usize) {
        let count = max.min(self.waiting.len());
        let due: Vec<Event> = self.waiting.drain(..count).collect();
        let mut got = Vec::new();
        let each = |entry: Entry| got.push(entry.completion.event);
        self.queue.take(max, Some(Duration::ZERO), each).expect("no signals");
        assert_eq!(got, due);
        got.into_iter().for_each(|event| self.permits.event_taken(event));
    }
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn model_permits_keep_room_for_every_event(mut script in script(150)) {
        let mut world = World::new();
        while !script.is_over() {
            world.step(&mut script);
        }
        while !world.operations.is_empty() {
            world.finish(2);
        }
        world.poll(usize::MAX);
        world.permits.shrink(&world.queue);
        assert_eq!(world.queue.room(), 0, "memory is kept that nothing needs");
    }
}
