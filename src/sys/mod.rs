// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls outside io_uring, as safe functions, by subject.  Each function makes one call, or
//! a few that belong together, and returns the kernel's errno; decisions are left to the callers.
//!
//! Calls that give the kernel an address take a [`Span`], which only owners of memory (a
//! [`Mapping`], the pool, a staged header) can make.

mod cancellation;
mod clone;
mod file;
mod frozen;
mod memory;
mod message;
mod pipe;
mod poll;
mod process;
mod socket;
mod thread;

pub use cancellation::*;
pub use clone::*;
pub use file::*;
pub use frozen::*;
pub use memory::*;
pub use message::*;
pub use pipe::*;
pub use poll::*;
pub use process::*;
pub use socket::*;
pub use thread::*;

use crate::types::errno::{Errno, Result};

fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

fn check_size(result: isize) -> Result<usize> {
    if result < 0 { Err(Errno::last()) } else { Ok(result as usize) }
}
