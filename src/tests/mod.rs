// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the pure parts under random orders of events: random scripts drive them beside naive
//! models that compute the expected result.  tests/run-mutants shows that these tests find errors.
//!
//! PROPTEST_CASES sets the number of cases of each test, PROPTEST_RNG_SEED what they begin with.
#![forbid(unsafe_code)]

mod callers;
mod claims;
mod completions;
mod costs;
mod cuts;
mod edges;
mod expected;
mod fake;
mod handles;
mod machine;
mod memory;
mod operation;
mod permits;
mod plan;
mod pool;
mod ring;
mod schedule;
mod submissions;
mod timers;
mod wire;

use proptest::prelude::*;
use proptest::test_runner::Config;

/// Returns a configuration with this many cases.  No file is written beside the sources: a failing
/// case is printed in full, and is small enough to become a test of its own.
fn cases(count: u32) -> Config {
    let default = Config::default();
    Config {
        cases: count,
        failure_persistence: None,
        max_shrink_iters: default.max_shrink_iters.min(20_000),
        ..default
    }
}

/// The decisions of a case, taken one by one.  When they are used up, each decision is 0, which by
/// convention is the choice that ends the case; so a case shrinks towards few and simple events.
#[derive(Clone, Default)]
struct Script {
    choices: Vec<u16>,
    next: usize,
}

impl Script {
    /// Picks one of this many options.
    fn pick(&mut self, options: u64) -> u64 {
        let choice = self.choices.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        u64::from(choice) % options
    }

    /// Picks an amount up to `most`; without a decision left, all of it.
    fn at_most(&mut self, most: u64) -> u64 {
        most - self.pick(most + 1)
    }

    fn is_over(&self) -> bool {
        self.next >= self.choices.len()
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.choices.fmt(out)
    }
}

/// The page sizes of the machines that the library supports.
const PAGE_SIZES: [u64; 3] = [4 << 10, 16 << 10, 64 << 10];

/// Chooses one, most often the most common one.
fn page_bytes() -> impl Strategy<Value = u64> {
    let [common, rare @ ..] = PAGE_SIZES;
    prop_oneof![2 => Just(common), 1 => proptest::sample::select(rare.to_vec())]
}

prop_compose! {
    /// Generates up to this many decisions.
    fn script(most: usize)(
        choices in proptest::collection::vec(any::<u16>(), 0..=most)
    ) -> Script {
        Script { choices, next: 0 }
    }
}
