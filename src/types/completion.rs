// SPDX-License-Identifier: MIT OR Apache-2.0
//! The completion of an operation: its event, status, counts and flags.
#![forbid(unsafe_code)]

use crate::types::errno::Errno;
use std::io;

bitflags::bitflags! {
    /// How the data of an operation was sent.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct CompletionFlags: u32 {
        /// Some file data was copied into socket buffers.
        const WAS_COPIED = 1 << 0;
        /// Some file data was sent from memory, or from the page cache, without a copy.
        const WAS_ZEROCOPY = 1 << 1;
        /// Zeros replaced a missing end of the file.
        const WAS_PADDED = 1 << 2;
        /// The calling thread sent it.
        const WAS_INLINE = 1 << 3;
    }
}

/// The event that a completion reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Event {
    /// The last completion of an operation: exactly one for each.
    #[default]
    Done,
    /// The file may change from here on; Done still follows.
    Snapshot,
    /// All bytes are in the socket: other data may be sent there, or its writing side shut down.
    /// At most once, before Done.  The file should not change yet unless Snapshot has come.
    Sent,
}

/// The report on an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Completion {
    /// The id that submit returned.
    pub id: u64,
    /// Copied from the request.
    pub user_data: u64,
    /// Bytes of the range, padding included, put into the socket so far.
    pub file_bytes: u64,
    /// All bytes put into the socket so far, header and trailer included.  0: the stream is
    /// unchanged.
    pub wire_bytes: u64,
    /// 0, or a negative errno; see [`Completion::result`].
    pub status: i32,
    /// What is reported.
    pub event: Event,
    /// How the data was sent.
    pub flags: CompletionFlags,
}

impl Completion {
    /// Returns [`Completion::wire_bytes`], or the reason why the operation failed.
    ///
    /// After a failure `wire_bytes` still gives the number of bytes sent.  If it is not 0, the
    /// stream ends within the message and must be closed.  The errors are those of `status` in
    /// `snapsend.h`: ENODATA if the file ended before the range did, ECANCELED, ETIMEDOUT, EPIPE,
    /// ECONNRESET and others.
    pub fn result(&self) -> io::Result<u64> {
        match self.status {
            status if status < 0 => Err(Errno(-status).into()),
            _ => Ok(self.wire_bytes),
        }
    }
}
