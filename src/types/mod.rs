// SPDX-License-Identifier: MIT OR Apache-2.0
//! The types that all rooms share: request, options, completion, statistics, errno.  No I/O, and no
//! use of another room.

pub mod completion;
pub mod copying;
pub mod errno;
pub mod feature;
pub mod file;
pub mod handle;
pub mod magic;
pub mod options;
pub mod request;
pub mod stats;
