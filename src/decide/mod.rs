// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pure decisions: no I/O, no clock, no descriptors.

pub mod budget;
pub mod operation;
pub mod pace;
pub mod plan;
pub mod pool_size;
pub mod schedule;
pub mod timers;
pub mod token;
