// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends a range of a file to a stream socket as one asynchronous operation, and reports its
//! completion only when no later change to the file can change what goes over the wire.
#![deny(unsafe_code)]
// The C edge is what uses some of it.
#![cfg_attr(not(feature = "c-interface"), allow(dead_code))]

mod completions;
mod context;
mod driver;
#[allow(unsafe_code)]
mod engine;
#[cfg(feature = "c-interface")]
#[allow(unsafe_code)]
pub mod ffi;
mod inline;
#[cfg(test)]
mod model;
mod operation;
mod options;
mod plan;
mod pool;
mod request;
mod schedule;
pub mod sendfile;
mod shared;
mod staging;
mod stats;
mod submission;
#[allow(unsafe_code)]
mod sys;
mod thread;
mod timers;
mod token;

pub use completions::{Completion, Event};
pub use context::{Context, Info, TrySend};
pub use operation::{WAS_COPIED, WAS_INLINE, WAS_PADDED, WAS_ZEROCOPY};
pub use options::{EngineChoice, Options};
pub use request::{EAGER, EXACT, MORE, NOTIFY_SNAPSHOT, Request, TO_EOF, ZERO_PAD};
pub use stats::Stats;
pub use sys::{CallerOffset, Errno};
