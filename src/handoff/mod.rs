// SPDX-License-Identifier: MIT OR Apache-2.0
//! What passes between calling threads and the ring thread; each protocol in one file.

pub mod claims;
pub mod completions;
pub mod cuts;
pub mod doorbell;
pub mod life;
pub mod permits;
pub mod port;
pub mod questions;
pub mod reply;
pub mod shared;
pub mod staging;
pub mod submissions;
pub mod sync;
