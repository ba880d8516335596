// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's error numbers, as the error type of this library.
#![forbid(unsafe_code)]

use std::{fmt, io};

/// A positive error number of the kernel, such as `libc::EAGAIN`.  The operator `?` converts it to
/// [`std::io::Error`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// Returns the errno of this thread's last failed libc call.
    pub(crate) fn last() -> Errno {
        Errno(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// Returns the negative number, as in the C interface.
    pub(crate) fn negative(self) -> i32 {
        -self.0
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&io::Error::from(*self), f)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.0)
    }
}

/// A result whose error is an errno.
pub type Result<T> = std::result::Result<T, Errno>;
