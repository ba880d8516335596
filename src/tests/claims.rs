// SPDX-License-Identifier: MIT OR Apache-2.0
//! Claims beside what each operation saw of them, with every message late or early.
#![forbid(unsafe_code)]

use super::{Script, cases, script};
use crate::handoff::claims::{Claim, Claims, LetGo};
use proptest::prelude::*;

const SOCKETS: u64 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    OnItsWay,
    Parked,
    Free,
}

#[derive(Debug)]
struct Operation {
    cookie: u64,
    held_back: Option<Claim>,
    /// The claim that there was, by the model's own count.
    behind: Option<u64>,
    place: Place,
}

#[derive(Default)]
struct World {
    claims: Claims,
    let_go: LetGo,
    operations: Vec<Operation>,
    /// Claims in force: the socket, and the model's own number.
    claimed: Vec<(u64, u64)>,
    claims_made: u64,
    /// Notices on their way.
    notices: Vec<Claim>,
}

impl World {
    fn step(&mut self, script: &mut Script) {
        let cookie = script.pick(SOCKETS);
        match script.pick(8) {
            0 | 1 => self.enter(cookie, false),
            2 => self.claim(cookie),
            3 => self.release(cookie, script.pick(3) == 1),
            4 | 5 => self.arrive(script.pick(4) as usize),
            6 => self.deliver(script.pick(4) as usize),
            _ => self.leave(script.pick(4) as usize),
        }
        self.check();
    }

    fn claim_on(&self, cookie: u64) -> Option<u64> {
        self.claimed.iter().find(|claimed| claimed.0 == cookie).map(|claimed| claimed.1)
    }

    fn enter(&mut self, cookie: u64, front: bool) {
        let held_back = self.claims.enter(cookie, front).expect("memory");
        let behind = self.claim_on(cookie).filter(|_| !front);
        assert_eq!(held_back.is_some(), behind.is_some(), "held back by nobody, or not held back");
        self.operations.push(Operation { cookie, held_back, behind, place: Place::OnItsWay });
    }

    fn claim(&mut self, cookie: u64) {
        let is_used = self.operations.iter().any(|operation| operation.cookie == cookie);
        let may = !is_used && self.claim_on(cookie).is_none();
        assert_eq!(
            self.claims.claim(cookie),
            may,
            "a claim on what is in use, or none on what is not"
        );
        if may {
            self.claims_made += 1;
            self.claimed.push((cookie, self.claims_made));
        }
    }

    // `rest`: something could not be sent, and goes ahead of the others.
    fn release(&mut self, cookie: u64, rest: bool) {
        if self.claim_on(cookie).is_none() {
            return;
        }
        if rest {
            self.enter(cookie, true);
        }
        self.notices.extend(self.claims.release(cookie));
        self.claimed.retain(|claimed| claimed.0 != cookie);
    }

    fn arrive(&mut self, index: usize) {
        let on_way = |operation: &&mut Operation| operation.place == Place::OnItsWay;
        let Some(operation) = self.operations.iter_mut().filter(on_way).nth(index) else {
            return;
        };
        let waits = operation.held_back.is_some_and(|claim| !self.let_go.is_over(claim));
        operation.place = if waits { Place::Parked } else { Place::Free };
    }

    fn deliver(&mut self, index: usize) {
        if index >= self.notices.len() {
            return;
        }
        let claim = self.notices.remove(index);
        if self.claims.has_operations(claim.cookie) {
            self.let_go.note(claim).expect("memory");
        }
        for operation in &mut self.operations {
            if operation.place == Place::Parked && operation.held_back == Some(claim) {
                operation.place = Place::Free;
            }
        }
    }

    fn leave(&mut self, index: usize) {
        let arrived = |&(_, operation): &(usize, &Operation)| operation.place != Place::OnItsWay;
        let Some((index, _)) = self.operations.iter().enumerate().filter(arrived).nth(index) else {
            return;
        };
        let cookie = self.operations.remove(index).cookie;
        let last = !self.operations.iter().any(|operation| operation.cookie == cookie);
        assert_eq!(self.claims.leave(cookie), last, "the last one, or not");
        if last {
            self.let_go.forget(cookie);
        }
    }

    fn check(&self) {
        for operation in &self.operations {
            let sends = operation
                .behind
                .is_some_and(|number| self.claimed.contains(&(operation.cookie, number)));
            assert!(!(sends && operation.place == Place::Free), "goes out between: {operation:?}");
        }
    }

    fn finish(&mut self) {
        for cookie in 0..SOCKETS {
            self.release(cookie, false);
        }
        while self.operations.iter().any(|operation| operation.place == Place::OnItsWay) {
            self.arrive(0);
        }
        while !self.notices.is_empty() {
            self.deliver(0);
        }
        let parked = self.operations.iter().find(|operation| operation.place == Place::Parked);
        assert!(parked.is_none(), "waits for ever: {parked:?}");
        while !self.operations.is_empty() {
            self.leave(0);
        }
        assert!(
            self.claims.is_empty() && self.let_go.is_empty(),
            "something is remembered for ever"
        );
    }
}

proptest! {
    #![proptest_config(cases(100_000))]

    #[test]
    fn model_claims_hold_back_as_long_as_they_last(mut script in script(120)) {
        let mut world = World::default();
        while !script.is_over() {
            world.step(&mut script);
        }
        world.finish();
    }
}

// Seldom met by chance: the notice of the first claim is overtaken by all that the second one is.
#[test]
fn model_claims_late_notice() {
    let (claims, mut let_go) = (Claims::default(), LetGo::default());
    let hold_back_one = || {
        assert!(claims.claim(1));
        let held_back = claims.enter(1, false).expect("memory");
        assert_eq!(claims.release(1), held_back);
        held_back.expect("there is a claim")
    };
    let first = hold_back_one();
    claims.leave(1); // cancelled
    let second = hold_back_one();
    let_go.note(second).expect("memory");
    let_go.note(first).expect("memory");
    assert!(let_go.is_over(second));
}
