// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares cuts with what each operation's caller could know of them at submit; submissions and
//! completions may be delayed indefinitely.
#![forbid(unsafe_code)]

use super::{Script, cases, script};
use crate::handoff::cuts::Cuts;
use proptest::prelude::*;
use std::collections::BTreeSet;

const SOCKETS: u64 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    OnItsWay,
    Arrived,
}

#[derive(Debug)]
struct Operation {
    cookie: u64,
    id: u64,
    place: Place,
    /// Its caller could not know of a cut of the stream, past or future.
    is_behind: bool,
}

#[derive(Default)]
struct World {
    cuts: Cuts,
    operations: Vec<Operation>,
    /// DONEs of cuts that wait to be taken, by their sockets.
    done: Vec<u64>,
    /// All ids ever given.
    ids: BTreeSet<u64>,
}

impl World {
    fn step(&mut self, script: &mut Script) {
        let cookie = script.pick(SOCKETS);
        match script.pick(12) {
            0..=2 => self.submit(cookie, script.pick(3) as u32 + 1, 0),
            3 => self.submit(cookie, 3, script.pick(3) as u32 + 1),
            4 | 5 => self.arrive(script.pick(4) as usize),
            6 | 7 => self.begin(cookie, script.pick(3) == 1),
            8 => self.send_here(cookie, script.pick(3) == 1),
            9 | 10 => self.take_done(script.pick(2) as usize),
            _ => self.forget(),
        }
    }

    // `refused`: this many of them cannot be handed over.
    fn submit(&mut self, cookie: u64, count: u32, refused: u32) {
        let first = self.cuts.take_ids(count);
        self.cuts.not_handed_over(refused);
        for id in first..first + u64::from(count) {
            assert!(self.ids.insert(id), "an id is given twice");
            assert!(self.cuts.has_given(id) && !self.cuts.has_given(id + u64::from(count)));
        }
        let is_behind = self.done.contains(&cookie);
        let ids = first..first + u64::from(count - refused);
        self.operations.extend(ids.map(|id| Operation {
            cookie,
            id,
            place: Place::OnItsWay,
            is_behind,
        }));
    }

    fn arrive(&mut self, index: usize) {
        let on_way = |operation: &&mut Operation| operation.place == Place::OnItsWay;
        if let Some(operation) = self.operations.iter_mut().filter(on_way).nth(index) {
            operation.place = Place::Arrived;
            self.cuts.arrived();
        }
    }

    // The socket's first operation begins, and ends: whole, or cut part-way.
    fn begin(&mut self, cookie: u64, is_cut: bool) {
        let is_first =
            |operation: &Operation| operation.cookie == cookie && operation.place == Place::Arrived;
        let Some(index) = self.operations.iter().position(is_first) else { return };
        let operation = self.operations.remove(index);
        let is_behind = self.cuts.is_behind(cookie, operation.id);
        assert!(is_behind || !operation.is_behind, "sent behind a cut: {operation:?}");
        assert!(!is_behind || operation.is_behind, "cancelled without reason: {operation:?}");
        if is_cut && !is_behind {
            self.cuts.record(cookie).expect("memory");
            self.done.push(cookie);
            self.cut_all(cookie);
        }
    }

    // The calling thread claims the socket, which has no operations, and sends by itself.
    fn send_here(&mut self, cookie: u64, is_cut: bool) {
        if self.operations.iter().any(|operation| operation.cookie == cookie) {
            return;
        }
        let is_unreported = self.cuts.is_unreported(cookie);
        assert_eq!(is_unreported, self.done.contains(&cookie), "a cut unknown, or known by nobody");
        if is_unreported {
            return;
        }
        if is_cut {
            self.cut_all(cookie);
            self.cuts.record_taken(cookie).expect("memory");
        }
        assert!(self.ids.insert(self.cuts.take_id_here()), "an id is given twice");
    }

    // Everything submitted so far is behind this cut.
    fn cut_all(&mut self, cookie: u64) {
        for operation in self.operations.iter_mut().filter(|known| known.cookie == cookie) {
            operation.is_behind = true;
        }
    }

    fn take_done(&mut self, index: usize) {
        if index < self.done.len() {
            self.cuts.done_taken(self.done.remove(index));
        }
    }

    fn forget(&mut self) {
        let operations = &self.operations;
        self.cuts.forget(|cookie| {
            let is_there = |operation: &Operation| {
                operation.cookie == cookie && operation.place == Place::Arrived
            };
            operations.iter().any(is_there)
        });
    }

    fn finish(&mut self) {
        while self.operations.iter().any(|operation| operation.place == Place::OnItsWay) {
            self.arrive(0);
        }
        for cookie in 0..SOCKETS {
            while self.operations.iter().any(|operation| operation.cookie == cookie) {
                self.begin(cookie, false);
            }
        }
        while !self.done.is_empty() {
            self.take_done(0);
        }
        self.forget();
        assert!(self.cuts.is_empty(), "a cut is remembered indefinitely");
        assert!(!self.cuts.is_any_in_transit(), "something is in transit indefinitely");
    }
}

proptest! {
    #![proptest_config(cases(60_000))]

    #[test]
    fn model_cuts_stop_what_was_submitted_before_they_were_known(mut script in script(150)) {
        let mut world = World::default();
        while !script.is_over() {
            world.step(&mut script);
        }
        world.finish();
    }
}
