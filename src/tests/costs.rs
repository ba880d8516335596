// SPDX-License-Identifier: MIT OR Apache-2.0
//! The choice among ways of copying, on machines on which they cost anything.
#![forbid(unsafe_code)]

use super::cases;
use crate::decide::costs::{Cost, ENOUGH, LEARNT_EVERY, MEASURED_EVERY, choose};
use crate::types::copying::Copying;
use proptest::prelude::*;

const BYTES: u64 = 256 << 10;

/// A machine: what 256 KiB cost by each way, in ns, and which ways are possible.
#[derive(Clone, Debug)]
struct Machine {
    costs: [u64; 4],
    possible: [bool; 4],
}

impl Machine {
    fn least(&self) -> u64 {
        let possible = self.costs.iter().zip(self.possible).filter(|(_, possible)| *possible);
        possible.map(|(&cost, _)| cost).min().expect("one is possible")
    }
}

/// A sender that has learnt something.
#[derive(Default)]
struct Sender {
    known: [Cost; 4],
    turn: u32,
}

impl Sender {
    // Copies so often; returns what it cost.
    fn copy(&mut self, machine: &Machine, count: u32) -> u64 {
        (0..count).map(|_| self.copy_once(machine)).sum()
    }

    fn copy_once(&mut self, machine: &Machine) -> u64 {
        let possible = |way: Copying| machine.possible[way as usize];
        let choice = choose(&self.known, possible, self.turn).expect("one is possible");
        assert!(possible(choice.way));
        self.turn = self.turn.wrapping_add(1);
        let index = choice.way as usize;
        if choice.is_measured {
            let cost = self.known[index].with(machine.costs[index], BYTES);
            assert_eq!(Cost::from_word(cost.to_word()), cost);
            self.known[index] = cost;
        }
        machine.costs[index]
    }
}

fn machines() -> impl Strategy<Value = Machine> {
    let costs = prop::array::uniform4(10_000u64..200_000);
    let possible = prop::array::uniform4(any::<bool>());
    (costs, possible).prop_map(|(costs, mut possible)| {
        possible[0] |= possible == [false; 4];
        Machine { costs, possible }
    })
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn model_costs_tries_add_at_most_one_percent(machine in machines(), turn in any::<u32>()) {
        let mut sender = Sender { turn, ..Sender::default() };
        sender.copy(&machine, 4 * ENOUGH * LEARNT_EVERY);
        let count = 20_000;
        let cost = sender.copy(&machine, count);
        let least = machine.least() * u64::from(count);
        // Tries come in whole numbers.
        let most = least + least / 100 + machine.costs.iter().sum::<u64>();
        prop_assert!(cost <= most, "{cost} {least}");
    }

    #[test]
    fn model_costs_follow_the_machine(before in machines(), costs in machines()) {
        let mut sender = Sender::default();
        sender.copy(&before, 20_000);
        let machine = Machine { costs: costs.costs, ..before };
        sender.copy(&machine, 400_000);
        let count = 20_000;
        let cost = sender.copy(&machine, count);
        let least = machine.least() * u64::from(count);
        prop_assert!(cost <= least + least / 50 + machine.costs.iter().sum::<u64>());
    }
}

#[test]
fn nothing_is_chosen_where_nothing_is_possible() {
    assert_eq!(choose(&[Cost::default(); 4], |_| false, 0), None);
}

#[test]
fn one_interruption_does_not_change_the_choice_for_long() {
    let machine = Machine { costs: [20_000, 30_000, 30_000, 30_000], possible: [true; 4] };
    let mut sender = Sender::default();
    sender.copy(&machine, 10_000);
    sender.known[0] = sender.known[0].with(5_000_000, BYTES);
    let count = 20 * MEASURED_EVERY;
    assert!(sender.copy(&machine, count) < machine.costs[0] * u64::from(count) * 12 / 10);
}
