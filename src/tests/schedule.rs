// SPDX-License-Identifier: MIT OR Apache-2.0
//! Order on sockets and turns between them, beside lists that are searched from end to end.
#![forbid(unsafe_code)]

use super::{Script, cases, script};
use crate::decide::schedule::{LIGHT_TURNS, Schedule};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a socket by the rules alone.
#[derive(Debug, Default)]
struct Socket {
    number: usize,
    operations: Vec<usize>,
    /// How many of them have passed their turn on.
    passed: usize,
    /// When it got its place in the line.
    in_line_since: Option<u64>,
    /// It has little to send.
    is_light: bool,
    /// It is held back.
    is_parked: bool,
}

#[derive(Default)]
struct World {
    schedule: Schedule,
    /// By cookie.
    sockets: BTreeMap<u64, Socket>,
    operations: BTreeSet<usize>,
    clock: u64,
    /// How many turns in a row sockets with little to send have had while others waited.
    light_turns: u32,
}

impl World {
    fn step(&mut self, script: &mut Script) {
        self.clock += 1;
        match script.pick(16) {
            0 => self.turn(),
            1 => self.pass_on(script),
            2..=5 => self.enqueue(script),
            6..=8 => self.remove(script),
            9..=11 => {
                if let Some(cookie) = self.some_socket(script) {
                    self.ready(cookie, script.pick(2) == 0);
                }
            }
            12 => self.park(script),
            13 => {
                if let Some(cookie) = self.some_socket(script) {
                    self.unpark(cookie);
                }
            }
            14 => {
                if let Some(cookie) = self.some_socket(script) {
                    self.close(cookie);
                }
            }
            _ => self.shrink(),
        }
        self.check();
    }

    // What is empty begins anew.
    fn shrink(&mut self) {
        self.schedule.shrink();
        if self.sockets.is_empty() {
            self.light_turns = 0;
        }
    }

    fn some_socket(&self, script: &mut Script) -> Option<u64> {
        let index = script.pick(self.sockets.len().max(1) as u64) as usize;
        self.sockets.keys().nth(index).copied()
    }

    fn enqueue(&mut self, script: &mut Script) {
        // Cookies are any numbers; some differ in high bits only.
        let cookie = [1, 2, 3, 1 << 40, (1 << 40) + 1, u64::MAX][script.pick(6) as usize];
        let front = script.pick(4) == 1;
        // Slots are used again, as in a slab, or leave gaps.
        let lowest = (0..).find(|slot| !self.operations.contains(slot)).expect("a free slot");
        let slot = lowest + script.pick(2) as usize * 3;
        if !self.operations.insert(slot) {
            return;
        }
        let number = self.schedule.open(cookie).expect("memory");
        let socket = self.sockets.entry(cookie).or_default();
        socket.number = number;
        let place = if front { socket.passed } else { socket.operations.len() };
        socket.operations.insert(place, slot);
        self.schedule.enqueue(number, slot, front).expect("memory");
    }

    fn remove(&mut self, script: &mut Script) {
        let index = script.pick(self.operations.len().max(1) as u64) as usize;
        let Some(&slot) = self.operations.iter().nth(index) else { return };
        self.operations.remove(&slot);
        let mut all = self.sockets.iter_mut();
        let (&cookie, socket) =
            all.find(|(_, socket)| socket.operations.contains(&slot)).expect("it is somewhere");
        let place = socket.operations.iter().position(|&known| known == slot);
        let place = place.expect("it is there");
        socket.operations.remove(place);
        socket.passed -= usize::from(place < socket.passed);
        assert_eq!(self.schedule.remove(slot), socket.number);
        if script.pick(4) > 0 {
            self.close(cookie);
        }
    }

    // The operation whose turn it is has all its bytes in the socket.
    fn pass_on(&mut self, script: &mut Script) {
        let Some(cookie) = self.some_socket(script) else { return };
        let socket = self.sockets.get_mut(&cookie).expect("it is there");
        if let Some(&slot) = socket.operations.get(socket.passed) {
            self.schedule.pass_on(slot);
            socket.passed += 1;
        }
    }

    fn close(&mut self, cookie: u64) {
        if self.sockets[&cookie].operations.is_empty() {
            let socket = self.sockets.remove(&cookie).expect("it is there");
            self.schedule.close(socket.number);
        }
    }

    fn ready(&mut self, cookie: u64, is_light: bool) {
        let socket = self.sockets.get_mut(&cookie).expect("it is there");
        self.schedule.ready(socket.number, is_light);
        if !socket.is_parked && socket.in_line_since.is_none() {
            socket.in_line_since = Some(self.clock);
            socket.is_light = is_light;
        }
    }

    fn park(&mut self, script: &mut Script) {
        if let Some(cookie) = self.some_socket(script) {
            let socket = self.sockets.get_mut(&cookie).expect("it is there");
            self.schedule.park(socket.number);
            socket.is_parked = true;
            socket.in_line_since = None;
        }
    }

    fn unpark(&mut self, cookie: u64) {
        let socket = self.sockets.get_mut(&cookie).expect("it is there");
        self.schedule.unpark(socket.number);
        if std::mem::take(&mut socket.is_parked) {
            socket.in_line_since = Some(self.clock);
            socket.is_light = false;
        }
    }

    // Those with little to send first, but not for ever; in each line who has waited longest.
    fn turn(&mut self) {
        let longest = |is_light| {
            let line = self.sockets.values().filter(|socket| socket.is_light == is_light);
            line.filter_map(|socket| socket.in_line_since).min()
        };
        let (light, others) = (longest(true), longest(false));
        let given = self.schedule.next_turn();
        assert_eq!(given.is_some(), light.or(others).is_some(), "a turn is lost, or given in vain");
        let Some(number) = given else { return };
        let mut all = self.sockets.values_mut();
        let socket = all.find(|socket| socket.number == number).expect("an open socket");
        assert!(!socket.is_parked);
        let due = if socket.is_light { light } else { others };
        assert_eq!(socket.in_line_since, due, "not the one that waited longest");
        socket.in_line_since = None;
        if socket.is_light && others.is_some() {
            self.light_turns += 1;
            assert!(self.light_turns <= LIGHT_TURNS, "those with much to send wait for ever");
        } else {
            let is_due = socket.is_light || light.is_none() || self.light_turns == LIGHT_TURNS;
            assert!(is_due, "ahead of one with little to send");
            self.light_turns = 0;
        }
    }

    fn check(&self) {
        let schedule = &self.schedule;
        assert_eq!(schedule.is_empty(), self.sockets.is_empty());
        let in_line = self.sockets.values().filter(|socket| socket.in_line_since.is_some());
        assert_eq!(schedule.line_length(), in_line.count());
        for (&cookie, socket) in &self.sockets {
            assert_eq!(schedule.find(cookie), Some(socket.number));
            assert!(socket.number < schedule.end());
            let turn = schedule.first(socket.number);
            assert_eq!(turn, socket.operations.get(socket.passed).copied());
            assert_eq!(schedule.is_vacant(socket.number), socket.operations.is_empty());
            let first = schedule.oldest(socket.number);
            let chain = std::iter::successors(first, |&slot| schedule.behind(slot));
            let forwards: Vec<usize> = chain.take(1000).collect();
            assert_eq!(forwards, socket.operations);
            let last = socket.operations.last().copied();
            let chain = std::iter::successors(last, |&slot| schedule.ahead(slot));
            let mut backwards: Vec<usize> = chain.take(1000).collect();
            backwards.reverse();
            assert_eq!(backwards, socket.operations);
            assert!(forwards.iter().all(|&slot| schedule.socket_of(slot) == socket.number));
        }
    }
}

proptest! {
    #![proptest_config(cases(30_000))]

    #[test]
    fn model_schedule_keeps_order_and_gives_turns_fairly(mut script in script(200)) {
        let mut world = World::default();
        while !script.is_over() {
            world.step(&mut script);
        }
        // Everyone gets the turns due.
        let cookies: Vec<u64> = world.sockets.keys().copied().collect();
        cookies.into_iter().for_each(|cookie| world.unpark(cookie));
        for _ in 0..world.schedule.line_length() {
            world.turn();
        }
        world.check();
        assert_eq!(world.schedule.next_turn(), None);
    }

    #[test]
    fn model_schedule_leaves_turns_to_those_with_much_to_send(count in 1u64..5, heavy in 1u64..5) {
        let mut world = World::default();
        for cookie in 0..count + heavy {
            let number = world.schedule.open(cookie).expect("memory");
            let operations = vec![cookie as usize];
            world.sockets.insert(cookie, Socket { number, operations, ..Socket::default() });
            world.schedule.enqueue(number, cookie as usize, false).expect("memory");
            world.ready(cookie, cookie < count);
        }
        // Those with little to send are back in the line at once.
        for _ in 0..3 * (LIGHT_TURNS + 1) {
            world.clock += 1;
            world.turn();
            (0..count).for_each(|cookie| world.ready(cookie, true));
        }
        let waiting = (count..count + heavy).filter(|c| world.sockets[c].in_line_since.is_some());
        assert_eq!(waiting.count() as u64, heavy.saturating_sub(3));
    }
}
