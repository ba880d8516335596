// SPDX-License-Identifier: MIT OR Apache-2.0
//! What threads wait and tell each other with.  tests/loom puts loom's in its place, which tries
//! every order of events.

pub use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
pub use std::sync::{Condvar, Mutex, MutexGuard};
