// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which way of copying warm data costs least on this machine.  No way is the cheapest everywhere:
//! it depends on caches, page tables and the kernel.  So the costs are measured, for some of the
//! copies, and the choice is a function of what was measured and of a count of the choices.
#![forbid(unsafe_code)]

use crate::types::copying::Copying;

/// The shortest range, in bytes, for which the costs of the ways differ by more than it costs to
/// choose between them.  Shorter ranges are read.
pub const COPY_MIN: u64 = 128 << 10;

/// Each way is measured so often before the choice relies on the result.
pub const ENOUGH: u32 = 8;

/// Until that is so, it is tried at every so many choices, once another is known.
pub const LEARNT_EVERY: u32 = 4;

/// The cheapest way is measured again at every so many choices.
pub const MEASURED_EVERY: u32 = 64;

// The share of its cost that trying the other ways may add: 1/100.
const SHARE: u64 = 100;

// A measurement replaces 1/8 of what was known.
const WEIGHT: u64 = 8;

// Bytes are counted in units of 64.
const UNIT: u64 = 64;

/// The cost of one way: decaying sums of time and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    nanoseconds: u32,
    units: u32,
    samples: u32,
}

impl Cost {
    /// Returns the cost after `bytes` were copied in `nanoseconds`.  A measurement counts with four
    /// times the known cost at most: the processor may have served interrupts.
    pub fn with(self, nanoseconds: u64, bytes: u64) -> Cost {
        let units = bytes / UNIT;
        let is_known = self.samples >= ENOUGH && units > 0;
        let most = if is_known { 4 * self.of(units) / 1000 } else { u64::MAX };
        let sum = |known: u32, new: u64| {
            let sum = u64::from(known) - u64::from(known) / WEIGHT + new;
            sum.min(u64::from(u32::MAX >> 4)) as u32
        };
        Cost {
            nanoseconds: sum(self.nanoseconds, nanoseconds.min(most)),
            units: sum(self.units, units),
            samples: (self.samples + 1).min(ENOUGH),
        }
    }

    /// Returns the picoseconds that one unit of 64 bytes costs.
    pub fn of_unit(self) -> u64 {
        self.of(1)
    }

    /// Returns the nanoseconds that 1 MiB cost in all of these copies together; 0: none was measured.
    pub fn ns_per_mib(costs: impl Iterator<Item = Cost>) -> u64 {
        let (nanoseconds, units) = costs.fold((0, 0), |(nanoseconds, units), cost| {
            (nanoseconds + u64::from(cost.nanoseconds), units + u64::from(cost.units))
        });
        (nanoseconds * ((1 << 20) / UNIT)).checked_div(units).unwrap_or(0)
    }

    fn of(self, units: u64) -> u64 {
        units * (1000 * u64::from(self.nanoseconds) / u64::from(self.units.max(1)))
    }

    /// Returns it as one word, for [`Cost::from_word`].
    pub fn to_word(self) -> u64 {
        u64::from(self.nanoseconds) << 32 | u64::from(self.units) << 4 | u64::from(self.samples)
    }

    /// Returns the cost that [`Cost::to_word`] gave; 0: nothing was measured.
    pub fn from_word(word: u64) -> Cost {
        let units = word as u32 >> 4;
        Cost { nanoseconds: (word >> 32) as u32, units, samples: word as u32 & 15 }
    }
}

/// A choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The way.
    pub way: Copying,
    /// Whether its cost is to be measured.
    pub is_measured: bool,
}

/// Chooses one of the `possible` ways; `turn` counts the choices.  None: no way is possible.
///
/// It is the cheapest, except that the others are tried at intervals: the more they cost, the
/// longer these are, so that all tries together add at most 1 % to the cost.
pub fn choose(costs: &[Cost; 4], possible: impl Fn(Copying) -> bool, turn: u32) -> Option<Choice> {
    let ways = || Copying::ALL.into_iter().filter(|&way| possible(way));
    let cost = |way: Copying| costs[way as usize];
    let is_known = |way: &Copying| cost(*way).samples >= ENOUGH;
    let best = ways().filter(is_known).min_by_key(|&way| cost(way).of_unit());
    let unknown = ways().find(|way| !is_known(way));
    if let Some(way) = unknown.filter(|_| best.is_none() || turn % LEARNT_EVERY == 0) {
        return Some(Choice { way, is_measured: true });
    }
    let best = best?;
    let others = ways().count() as u64 - 1;
    let least = cost(best).of_unit().max(1);
    let is_due = |way: Copying| {
        let excess = cost(way).of_unit().saturating_sub(least);
        let interval = (SHARE * others * excess).div_ceil(least).max(MEASURED_EVERY.into());
        // A power of two: where the costs move a little, the next try is not due at once.
        u64::from(turn) % interval.next_power_of_two() == way as u64 + 1
    };
    let tried = ways().filter(is_known).find(|&way| way != best && is_due(way));
    let is_measured = tried.is_some() || turn % MEASURED_EVERY == 0;
    Some(Choice { way: tried.unwrap_or(best), is_measured })
}
