// SPDX-License-Identifier: MIT OR Apache-2.0
//! One request and what can be said of it without asking the kernel.
#![forbid(unsafe_code)]

use crate::types::errno::{Errno, Result};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// As a length: up to the end of the file, taken when the operation starts.
pub const TO_EOF: u64 = u64::MAX;
/// Snapshot at the disk's pace, not the peer's, as far as the pool allows.
pub const EAGER: u32 = 1 << 0;
/// No byte is sent before the whole range has been snapshotted; a short file sends nothing.
pub const EXACT: u32 = 1 << 1;
/// Also report the snapshot.
pub const NOTIFY_SNAPSHOT: u32 = 1 << 2;
/// A short file is filled up with zeros.
pub const ZERO_PAD: u32 = 1 << 3;
/// More data follows on this socket.
pub const MORE: u32 = 1 << 4;

const FLAGS_KNOWN: u32 = EAGER | EXACT | NOTIFY_SNAPSHOT | ZERO_PAD | MORE;

/// Header, then a range of a file, then a trailer, to a socket.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub(crate) socket: RawFd,
    pub(crate) file: Option<RawFd>,
    /// Where the range starts in the file, in bytes; the file position is not used.
    pub offset: u64,
    /// Bytes of the range, or [`TO_EOF`].
    pub length: u64,
    /// Sent before the range; copied by submit.
    pub header: &'a [IoSlice<'a>],
    /// Sent after the range; copied by submit.
    pub trailer: &'a [IoSlice<'a>],
    /// [`EAGER`], [`EXACT`], [`NOTIFY_SNAPSHOT`], [`ZERO_PAD`], [`MORE`].
    pub flags: u32,
    /// For the whole operation, in milliseconds; 0: none.
    pub timeout_ms: u32,
    /// Handed back with each completion.
    pub user_data: u64,
}

impl<'a> Request<'a> {
    /// A range of `file`, or with None header and trailer alone, to `socket`.  Both stay open
    /// until the operation's DONE, which the borrow cannot express beyond submit.
    pub fn new(socket: BorrowedFd<'a>, file: Option<BorrowedFd<'a>>) -> Request<'a> {
        Request {
            socket: socket.as_raw_fd(),
            file: file.map(|file| file.as_raw_fd()),
            offset: 0,
            length: if file.is_some() { TO_EOF } else { 0 },
            header: &[],
            trailer: &[],
            flags: 0,
            timeout_ms: 0,
            user_data: 0,
        }
    }

    /// The whole of `file` to `socket`.
    pub fn whole_file(socket: &'a impl AsFd, file: &'a impl AsFd) -> Request<'a> {
        Request::new(socket.as_fd(), Some(file.as_fd()))
    }

    /// Whether the range goes on to the end of the file, wherever that is.
    pub fn is_open_ended(&self) -> bool {
        self.length == TO_EOF
    }

    /// Checks what can be checked without the kernel.
    ///
    /// EINVAL: unknown or contradicting flags, a length without a file, an offset beyond what a
    /// file can have.  EOVERFLOW: offset and length together are beyond it.  EMSGSIZE: an EXACT
    /// range is longer than `exact_max`.  EBADF: a
    /// negative descriptor.
    pub fn check(&self, exact_max: u64) -> Result<()> {
        if self.flags & !FLAGS_KNOWN != 0 {
            return Err(Errno(libc::EINVAL));
        }
        let pads = self.flags & ZERO_PAD != 0;
        if pads && (self.flags & EXACT != 0 || self.is_open_ended()) {
            return Err(Errno(libc::EINVAL));
        }
        if self.socket < 0 || self.file.is_some_and(|file| file < 0) {
            return Err(Errno(libc::EBADF));
        }
        if self.file.is_none() && self.length != 0 {
            return Err(Errno(libc::EINVAL));
        }
        self.check_range(exact_max)
    }

    fn check_range(&self, exact_max: u64) -> Result<()> {
        const OFFSET_MAX: u64 = i64::MAX as u64;
        if self.offset > OFFSET_MAX {
            return Err(Errno(libc::EINVAL));
        }
        if self.is_open_ended() {
            return Ok(());
        }
        if self.length > OFFSET_MAX - self.offset {
            return Err(Errno(libc::EOVERFLOW));
        }
        if self.flags & EXACT != 0 && self.length > exact_max {
            return Err(Errno(libc::EMSGSIZE));
        }
        Ok(())
    }
}
