// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is reported of an operation.
#![forbid(unsafe_code)]

/// Some file data was copied into socket buffers.
pub const WAS_COPIED: u32 = 1 << 0;

/// Some was sent from memory without a copy.
pub const WAS_ZEROCOPY: u32 = 1 << 1;

/// Zeros stand in for a missing end of the file.
pub const WAS_PADDED: u32 = 1 << 2;

/// Done on the calling thread.
pub const WAS_INLINE: u32 = 1 << 3;

/// What a completion reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Event {
    /// The last word on an operation: exactly one each.
    #[default]
    Done,
    /// The file may change from here on; DONE still follows.
    Snapshot,
}

/// What is said of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Completion {
    /// As submit gave it.
    pub id: u64,
    /// As the request had it.
    pub user_data: u64,
    /// Bytes of the range, padding included, put into the socket so far.
    pub file_bytes: u64,
    /// All bytes put into the socket so far.
    pub wire_bytes: u64,
    /// 0, or -errno.
    pub status: i32,
    /// Done or Snapshot.
    pub event: Event,
    /// WAS_*.
    pub flags: u32,
}
