// SPDX-License-Identifier: MIT OR Apache-2.0
//! The primitives with which threads wait for and wake each other.  tests/loom replaces them by
//! loom's, which tries every order of events.

pub use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
pub use std::sync::{Condvar, Mutex, MutexGuard};
