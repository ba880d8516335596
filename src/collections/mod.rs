// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables, queues and maps that grow by parts of a fixed size.  Items never move to a larger
//! allocation, so the memory of each entry does not depend on their number, and each allocation is
//! small.  Every allocation may fail with ENOMEM, and then the collection is unchanged.
#![forbid(unsafe_code)]

mod line;
pub mod memory;
mod parts;
mod register;
mod short_queue;
mod table;

pub use line::Line;
pub use parts::Parts;
pub use register::{NumberMap, Numbered, Register};
pub use short_queue::ShortQueue;
pub use table::Table;
