// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that passes between calling threads and the ring thread: submissions, completions,
//! claims, permits, wake-ups.  Each protocol is whole in one file, most with a table of its events
//! at the head.  None of them makes decisions about operations.

pub mod claims;
pub mod completions;
pub mod cuts;
pub mod doorbell;
pub mod life;
pub mod permits;
pub mod port;
pub mod questions;
pub mod registrations;
pub mod reply;
pub mod shared;
pub mod staging;
pub mod submissions;
pub mod sync;
