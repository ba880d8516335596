// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pure parts under every order of events: random scripts drive them beside naive models that
//! say what must come of it.  tests/run-mutants shows that these tests notice what they must.
//!
//! PROPTEST_CASES: so many cases of each test, instead of the numbers given here.
#![forbid(unsafe_code)]

mod callers;
mod claims;
mod completions;
mod cuts;
mod edges;
mod expected;
mod fake;
mod handles;
mod kernel;
mod machine;
mod memory;
mod operation;
mod oracle;
mod permits;
mod plan;
mod pool;
mod ring;
mod schedule;
mod submissions;
mod timers;
mod wire;
mod world;

use proptest::prelude::*;
use proptest::test_runner::Config;

/// This many cases.  Nothing is written beside the sources: a failing case is printed in full, small
/// enough to become a test of its own.
fn cases(count: u32) -> Config {
    let default = Config::default();
    Config {
        cases: count,
        failure_persistence: None,
        max_shrink_iters: default.max_shrink_iters.min(20_000),
        ..default
    }
}

/// The decisions of a case, used up one by one.  At the end each is 0, which by convention is the
/// choice that brings the case to its end; so a case shrinks towards few and plain events.
#[derive(Clone, Default)]
struct Script {
    choices: Vec<u16>,
    next: usize,
}

impl Script {
    /// One of this many options.
    fn pick(&mut self, options: u64) -> u64 {
        let choice = self.choices.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        u64::from(choice) % options
    }

    /// Something up to `most`, and for no choice all of it.
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

prop_compose! {
    /// Up to this many decisions.
    fn script(most: usize)(
        choices in proptest::collection::vec(any::<u16>(), 0..=most)
    ) -> Script {
        Script { choices, next: 0 }
    }
}
