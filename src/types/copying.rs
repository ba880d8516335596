// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ways of copying data that is in the page cache into a socket.
#![forbid(unsafe_code)]

/// A way of copying a range that is in the page cache into a socket.  All have the same promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copying {
    /// Send from a mapping of the file: one copy, and the cost of mapping and of page faults.
    Mapped,
    /// Read into a buffer and send from there, 64 KiB at a time.
    Read64K,
    /// The same, 256 KiB at a time.
    Read256K,
    /// The same, 1 MiB at a time.
    Read1M,
}

/// The longest piece in bytes that is read at a time.
pub const READ_MAX: u64 = 1 << 20;

impl Copying {
    /// All ways; each is at the index that `as usize` gives.
    pub const ALL: [Copying; 4] =
        [Copying::Mapped, Copying::Read64K, Copying::Read256K, Copying::Read1M];

    /// Returns the most bytes of one read.  None: it does not read.
    pub fn piece(self) -> Option<u64> {
        match self {
            Copying::Mapped => None,
            Copying::Read64K => Some(64 << 10),
            Copying::Read256K => Some(256 << 10),
            Copying::Read1M => Some(READ_MAX),
        }
    }

    /// Returns the way with this name in SNAPSEND_COPY.
    pub fn named(name: &[u8]) -> Option<Copying> {
        let names: [&[u8]; 4] = [b"map", b"read64k", b"read256k", b"read1m"];
        names.iter().position(|&known| known == name).map(|index| Copying::ALL[index])
    }
}
