// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pure decisions: events in, next steps out.  No I/O, no descriptors, and the time is an argument,
//! so that the models in `src/tests` can try every order of events.  `ring` and `caller` ask here
//! and carry the answers out.

pub mod budget;
pub mod costs;
pub mod frozen;
pub mod operation;
pub mod pace;
pub mod plan;
pub mod pool_size;
pub mod schedule;
pub mod timers;
pub mod token;
