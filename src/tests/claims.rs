// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares claims with what each operation saw of them; messages arrive late or early.
#![forbid(unsafe_code)]

use super::{Script, cases, script};
use crate::handoff::claims::{Claim, Claimed, Claims, HeldBack, Turn};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SOCKETS: u64 = 2;

#[derive(Debug)]
struct Operation {
    cookie: u64,
    turn: Turn,
    /// The claim in force then, by the model's own count.
    behind: Option<u64>,
    has_arrived: bool,
}

/// The state of the calling threads and of the driver, some of whose sockets are parked.
struct World {
    claims: Arc<Claims>,
    held_back: HeldBack,
    operations: Vec<Operation>,
    /// Claims in force, with the model's own number.
    claimed: BTreeMap<u64, (u64, Claimed)>,
    claims_made: u64,
    /// Notices on their way.
    notices: Vec<Claim>,
    /// Sockets on which the driver sends nothing.
    parked: BTreeSet<u64>,
    /// An operation never reached the driver.
    was_refused: bool,
}

impl World {
    fn new() -> World {
        let claims = Arc::<Claims>::default();
        World {
            held_back: HeldBack::new(claims.clone()),
            claims,
            operations: Vec::new(),
            claimed: BTreeMap::new(),
            claims_made: 0,
            notices: Vec::new(),
            parked: BTreeSet::new(),
            was_refused: false,
        }
    }

    fn step(&mut self, script: &mut Script) {
        let cookie = script.pick(SOCKETS);
        match script.pick(9) {
            0 | 1 => self.enter(cookie, Turn::InOrder),
            2 => self.claim(cookie),
            3 => self.release(cookie, script.pick(3) == 1),
            4 | 5 => self.arrive(script.pick(4) as usize),
            6 => self.deliver(script.pick(4) as usize),
            7 => self.refuse(script.pick(4) as usize),
            _ => self.leave(script.pick(4) as usize),
        }
        self.check();
    }

    fn claim_on(&self, cookie: u64) -> Option<u64> {
        self.claimed.get(&cookie).map(|claimed| claimed.0)
    }

    fn has_operations(&self, cookie: u64, mut of_these: impl FnMut(&Operation) -> bool) -> bool {
        self.operations.iter().any(|operation| operation.cookie == cookie && of_these(operation))
    }

    fn enter(&mut self, cookie: u64, wanted: Turn) {
        let turn = self.claims.enter(cookie, wanted).expect("memory");
        let behind = self.claim_on(cookie).filter(|_| wanted != Turn::Ahead);
        match behind {
            Some(_) => assert!(matches!(turn, Turn::HeldBack(_)), "goes ahead of the claim"),
            None => assert_eq!(turn, wanted, "held back by nobody"),
        }
        self.operations.push(Operation { cookie, turn, behind, has_arrived: false });
    }

    fn claim(&mut self, cookie: u64) {
        let may = !self.has_operations(cookie, |_| true) && self.claim_on(cookie).is_none();
        let claimed = self.claims.claim(cookie);
        assert_eq!(claimed.is_some(), may, "a claim on what is in use, or none on what is not");
        if let Some(claimed) = claimed {
            self.claims_made += 1;
            self.claimed.insert(cookie, (self.claims_made, claimed));
        }
    }

    // `rest`: what could not be sent is queued ahead of the others.
    fn release(&mut self, cookie: u64, rest: bool) {
        if self.claim_on(cookie).is_none() {
            return;
        }
        if rest {
            self.enter(cookie, Turn::Ahead);
        }
        if let Some((_, claimed)) = self.claimed.remove(&cookie) {
            self.notices.extend(self.claims.release(claimed));
        }
    }

    // Returns the index of an operation on its way to the driver.
    fn on_its_way(&self, index: usize) -> Option<usize> {
        let mut all = self.operations.iter().enumerate();
        all.by_ref().filter(|(_, operation)| !operation.has_arrived).nth(index).map(|(at, _)| at)
    }

    fn arrive(&mut self, index: usize) {
        let Some(index) = self.on_its_way(index) else { return };
        let operation = &mut self.operations[index];
        operation.has_arrived = true;
        if self.held_back.arrived(operation.turn).expect("memory") {
            self.parked.insert(operation.cookie);
        }
    }

    // The hand-over failed: the calling thread gives the operation up.
    fn refuse(&mut self, index: usize) {
        let Some(index) = self.on_its_way(index) else { return };
        let cookie = self.operations.remove(index).cookie;
        self.claims.leave(cookie);
        self.was_refused = true;
    }

    fn deliver(&mut self, index: usize) {
        if index >= self.notices.len() {
            return;
        }
        let claim = self.notices.remove(index);
        if self.held_back.released(claim).expect("memory") {
            self.parked.remove(&claim.cookie);
        }
    }

    fn leave(&mut self, index: usize) {
        let arrived = |&(_, operation): &(usize, &Operation)| operation.has_arrived;
        let Some((index, _)) = self.operations.iter().enumerate().filter(arrived).nth(index) else {
            return;
        };
        let cookie = self.operations.remove(index).cookie;
        if !self.has_operations(cookie, |operation| operation.has_arrived) {
            self.parked.remove(&cookie); // The driver closes the socket.
        }
        self.held_back.left(cookie);
    }

    fn check(&self) {
        for operation in self.operations.iter().filter(|operation| operation.has_arrived) {
            let sends =
                operation.behind.is_some() && operation.behind == self.claim_on(operation.cookie);
            let is_parked = self.parked.contains(&operation.cookie);
            assert!(is_parked || !sends, "goes out between: {operation:?}");
        }
    }

    fn finish(&mut self) {
        for cookie in 0..SOCKETS {
            self.release(cookie, false);
        }
        while self.operations.iter().any(|operation| !operation.has_arrived) {
            self.arrive(0);
        }
        while !self.notices.is_empty() {
            self.deliver(0);
        }
        assert!(self.parked.is_empty(), "held back indefinitely: {:?}", self.parked);
        while !self.operations.is_empty() {
            self.leave(0);
        }
        if self.was_refused {
            self.held_back.shrink();
        }
        let is_forgotten = self.claims.is_empty() && self.held_back.is_empty();
        assert!(is_forgotten, "something is remembered indefinitely");
    }
}

proptest! {
    #![proptest_config(cases(100_000))]

    #[test]
    fn model_claims_hold_back_as_long_as_they_last(mut script in script(120)) {
        let mut world = World::new();
        while !script.is_over() {
            world.step(&mut script);
        }
        world.finish();
    }
}

// Random scripts rarely produce this: the notice of the first claim arrives after all of the second.
#[test]
fn model_claims_late_notice() {
    let claims = Arc::<Claims>::default();
    let mut held_back = HeldBack::new(claims.clone());
    let hold_back_one = || {
        let claimed = claims.claim(1).expect("it is free");
        let turn = claims.enter(1, Turn::InOrder).expect("memory");
        let claim = claims.release(claimed).expect("one is held back");
        assert_eq!(turn, Turn::HeldBack(claim));
        claim
    };
    let first = hold_back_one();
    claims.leave(1); // cancelled
    let second = hold_back_one();
    assert_eq!(held_back.released(second), Ok(false));
    assert_eq!(held_back.released(first), Ok(false));
    assert_eq!(held_back.arrived(Turn::HeldBack(second)), Ok(false));
}
