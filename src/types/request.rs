// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request, and the checks of it that need no system call.
#![forbid(unsafe_code)]

use crate::types::errno::{Errno, Result};
use crate::types::handle::{Handle, RegisteredFile, RegisteredSocket};
use std::io::IoSlice;
use std::ops::{Bound, RangeBounds};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

/// As a length: up to the end of the file, determined when the operation starts.
pub const TO_EOF: u64 = u64::MAX;

bitflags::bitflags! {
    /// How an operation is carried out.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct RequestFlags: u32 {
        /// Snapshot at the disk's pace, not the peer's, as far as the pool has memory.  A range beyond
        /// [`Info::exact_max`](crate::Info::exact_max) is cloned, if possible.
        const EAGER = 1 << 0;
        /// No byte is sent before the whole range has been snapshotted.  If the file is too short,
        /// nothing is sent.  A range beyond [`Info::exact_max`](crate::Info::exact_max) is cloned at
        /// one instant, on file systems that share extents (XFS with reflink, btrfs, others by
        /// trying); elsewhere EMSGSIZE.
        const EXACT = 1 << 1;
        /// Also report the snapshot, by [`Event::Snapshot`](crate::Event::Snapshot).
        const NOTIFY_SNAPSHOT = 1 << 2;
        /// Zeros replace the missing end of a short file.  Not with EXACT or an open-ended range.
        const ZERO_PAD = 1 << 3;
        /// More data follows on this socket (MSG_MORE).
        const MORE = 1 << 4;
        /// Send the file's cached pages themselves, without a copy, where the kernel can: to peers
        /// on other machines, with io_uring and Linux 6.2 or newer.  Then Done comes when the peer
        /// has acknowledged the last byte, and the file should not change before.  Elsewhere, and
        /// in [`Context::send`](crate::Context::send), the flag has no effect.  Not with EAGER or
        /// EXACT.
        const ZEROCOPY = 1 << 5;
        /// Also report, by [`Event::Sent`](crate::Event::Sent), that all bytes are in the socket.
        const NOTIFY_SENT = 1 << 6;
    }
}

impl RequestFlags {
    /// With any of these flags, data that was read stays in memory until it is sent.
    pub(crate) const KEPT: RequestFlags = RequestFlags::EAGER.union(RequestFlags::EXACT);
}

/// A descriptor of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Descriptor {
    /// A number in the caller's table.
    Number(RawFd),
    /// A descriptor that was registered.
    Registered(Handle),
}

impl Descriptor {
    /// Interprets the number in a C request.  EBADF: it is negative, or can be no handle.
    pub(crate) fn from_number(number: RawFd, is_registered: bool) -> Result<Descriptor> {
        match is_registered {
            true => Handle::from_number(number).map(Descriptor::Registered),
            false if number < 0 => Err(Errno(libc::EBADF)),
            false => Ok(Descriptor::Number(number)),
        }
    }
}

/// An operation: a header, a range of a file and a trailer, sent to a socket in this order.
///
/// ```
/// use snapsend::{Request, RequestFlags};
/// use std::io::IoSlice;
/// use std::time::Duration;
/// # fn of(socket: &std::net::TcpStream, file: &std::fs::File) {
/// let header = [IoSlice::new(b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n")];
/// let request = Request::new(socket)
///     .file(file, 8192..12288)
///     .header(&header)
///     .flags(RequestFlags::EAGER)
///     .timeout(Duration::from_secs(30))
///     .user_data(7);
/// # }
/// ```
///
/// Socket and file must stay open until the operation's Done.  The borrow cannot express that
/// beyond the call that submits the request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    pub(crate) socket: Descriptor,
    pub(crate) file: Option<Descriptor>,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) header: &'a [IoSlice<'a>],
    pub(crate) trailer: &'a [IoSlice<'a>],
    pub(crate) flags: RequestFlags,
    pub(crate) timeout: Option<Duration>,
    pub(crate) user_data: u64,
}

impl<'a> Request<'a> {
    /// Creates an empty request to a stream socket, blocking or not.
    pub fn new(socket: &'a impl AsFd) -> Request<'a> {
        Request::to(Descriptor::Number(socket.as_fd().as_raw_fd()))
    }

    /// Creates an empty request to a registered socket.
    pub fn to_registered(socket: &'a RegisteredSocket<'_>) -> Request<'a> {
        Request::to(Descriptor::Registered(socket.handle))
    }

    fn to(socket: Descriptor) -> Request<'a> {
        Request {
            socket,
            file: None,
            offset: 0,
            length: 0,
            header: &[],
            trailer: &[],
            flags: RequestFlags::empty(),
            timeout: None,
            user_data: 0,
        }
    }

    /// Sets the range, in bytes, of a regular file or block device that is open for reading.  The
    /// file position is not used.
    ///
    /// An open end, as in `..` or `100..`, is the end of the file, determined when the operation
    /// starts: a start past it is an empty range.  With any other end, a file that is too short
    /// ends the operation with ENODATA.  A range whose end is before its start is empty.
    pub fn file(self, file: &'a impl AsFd, range: impl RangeBounds<u64>) -> Request<'a> {
        self.range_of(Descriptor::Number(file.as_fd().as_raw_fd()), range)
    }

    /// Sets the range, as [`Request::file`] does, of a registered file.
    pub fn registered_file(
        self,
        file: &'a RegisteredFile<'_>,
        range: impl RangeBounds<u64>,
    ) -> Request<'a> {
        self.range_of(Descriptor::Registered(file.handle), range)
    }

    fn range_of(mut self, file: Descriptor, range: impl RangeBounds<u64>) -> Request<'a> {
        self.file = Some(file);
        self.offset = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let length = |end: u64| end.saturating_sub(self.offset).min(TO_EOF - 1);
        self.length = match range.end_bound() {
            Bound::Included(&last) => length(last.saturating_add(1)),
            Bound::Excluded(&end) => length(end),
            Bound::Unbounded => TO_EOF,
        };
        self
    }

    /// Sets the bytes sent before the range.  Submit copies them: at most 1,024 slices, and 1 MiB
    /// together with the trailer.
    pub fn header(mut self, header: &'a [IoSlice<'a>]) -> Request<'a> {
        self.header = header;
        self
    }

    /// Sets the bytes sent after the range.  Copied and limited as the header is.
    pub fn trailer(mut self, trailer: &'a [IoSlice<'a>]) -> Request<'a> {
        self.trailer = trailer;
        self
    }

    /// Sets the flags.  Replaces the flags given before.
    pub fn flags(mut self, flags: RequestFlags) -> Request<'a> {
        self.flags = flags;
        self
    }

    /// Sets the time limit of the whole operation, from submit on: past it the operation ends with
    /// ETIMEDOUT.  Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Request<'a> {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the value that is copied to each completion.
    pub fn user_data(mut self, user_data: u64) -> Request<'a> {
        self.user_data = user_data;
        self
    }

    /// Returns whether the range ends at the end of the file, wherever that is.
    pub(crate) fn is_open_ended(&self) -> bool {
        self.length == TO_EOF
    }

    /// Checks the fields without a system call.
    ///
    /// EINVAL: unknown or contradicting flags, a length without a file, an offset beyond the
    /// largest file offset.  EOVERFLOW: offset and length together exceed it.
    pub(crate) fn check(&self) -> Result<()> {
        if !RequestFlags::all().contains(self.flags) {
            return Err(Errno(libc::EINVAL));
        }
        let pads = self.flags.contains(RequestFlags::ZERO_PAD);
        let is_exact = self.flags.contains(RequestFlags::EXACT);
        if pads && (is_exact || self.is_open_ended()) {
            return Err(Errno(libc::EINVAL));
        }
        // Data that is kept is copied.
        if self.flags.contains(RequestFlags::ZEROCOPY) && self.flags.intersects(RequestFlags::KEPT)
        {
            return Err(Errno(libc::EINVAL));
        }
        if self.file.is_none() && self.length != 0 {
            return Err(Errno(libc::EINVAL));
        }
        self.check_range()
    }

    fn check_range(&self) -> Result<()> {
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(range: impl RangeBounds<u64>) -> (u64, u64) {
        let pair = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
        let request = Request::new(&pair.0).file(&pair.1, range);
        (request.offset, request.length)
    }

    #[test]
    fn a_range_is_an_offset_and_a_length() {
        assert_eq!(range(..), (0, TO_EOF));
        assert_eq!(range(5..), (5, TO_EOF));
        assert_eq!(range(5..9), (5, 4));
        assert_eq!(range(..9), (0, 9));
        assert_eq!(range(5..=9), (5, 5));
        assert_eq!(range((Bound::Excluded(5), Bound::Unbounded)), (6, TO_EOF));
        assert_eq!(range(5..5), (5, 0));
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = range(9..5);
        assert_eq!(reversed, (9, 0));
        // An end beyond every file is refused, not taken for an open one.
        assert_eq!(range(..u64::MAX), (0, TO_EOF - 1));
        assert_eq!(range(..=u64::MAX), (0, TO_EOF - 1));
    }
}
