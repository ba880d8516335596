// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the calling thread does by itself.

pub mod inline;
pub mod sendfile;
