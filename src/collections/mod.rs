// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables and queues that grow by parts of a fixed size: nothing is ever moved to a larger place, so
//! that memory for each entry is the same at any number of them, and a single allocation is small.
//! Each allocation may be refused, with ENOMEM, and then nothing has changed.
#![forbid(unsafe_code)]

mod line;
pub mod memory;
mod parts;
mod register;
mod table;

pub use line::Line;
pub use parts::Parts;
pub use register::{NumberMap, Numbered, Register};
pub use table::Table;
