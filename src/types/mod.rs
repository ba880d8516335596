// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words that all rooms share.  No I/O, and nothing of the other rooms.

pub mod completion;
pub mod errno;
pub mod feature;
pub mod file;
pub mod options;
pub mod request;
pub mod stats;
