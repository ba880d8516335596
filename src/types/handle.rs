// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handles of registered descriptors, and the guards that unregister them.
#![forbid(unsafe_code)]

use crate::types::errno::{Errno, Result};
use std::fmt;
use std::num::NonZeroU32;

/// The number that names a registered descriptor.  No other descriptor of the process has it or,
/// until the numbers run out, had it before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Handle(NonZeroU32);

impl Handle {
    // The smallest number: no descriptor is as large (fs.nr_open), so that one that is taken for the
    // other is refused.
    const FIRST: NonZeroU32 = NonZeroU32::new(1 << 30).expect("it is not 0");

    /// Returns the handle at a place in the order of registrations, which begins again after 2^30.
    pub fn numbered(place: u32) -> Handle {
        Handle(Handle::FIRST | (place % Handle::FIRST))
    }

    /// Returns the handle with a number of C.  EBADF: no handle has it.
    pub fn from_number(number: i32) -> Result<Handle> {
        let number = u32::try_from(number).ok().and_then(NonZeroU32::new);
        number.map(Handle).ok_or(Errno(libc::EBADF))
    }

    /// Returns its number, which is positive as a C int.
    pub fn number(self) -> u32 {
        self.0.get()
    }
}

/// The owner of registrations.
pub(crate) trait Registry: Send + Sync {
    /// Unregisters a file; a handle that is none has no effect.
    fn drop_file(&self, file: Handle);

    /// Unregisters a socket.
    fn drop_socket(&self, socket: Handle);
}

/// A registered file, see [`Context::register_file`](crate::Context::register_file).  Dropping it
/// unregisters it; operations in flight go on.
pub struct RegisteredFile<'a> {
    pub(crate) handle: Handle,
    pub(crate) registry: &'a dyn Registry,
}

/// A registered socket, see [`Context::register_socket`](crate::Context::register_socket).
/// Dropping it unregisters it; operations in flight go on.
pub struct RegisteredSocket<'a> {
    pub(crate) handle: Handle,
    pub(crate) registry: &'a dyn Registry,
}

impl Drop for RegisteredFile<'_> {
    fn drop(&mut self) {
        self.registry.drop_file(self.handle);
    }
}

impl Drop for RegisteredSocket<'_> {
    fn drop(&mut self) {
        self.registry.drop_socket(self.handle);
    }
}

impl fmt::Debug for RegisteredFile<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("RegisteredFile").field(&self.handle.number()).finish()
    }
}

impl fmt::Debug for RegisteredSocket<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("RegisteredSocket").field(&self.handle.number()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_c_and_of_no_descriptor() {
        for place in [0, 1, 1000, (1 << 30) - 1] {
            let handle = Handle::numbered(place);
            assert_eq!(handle.number(), (1 << 30) + place);
            assert_eq!(Handle::from_number(handle.number() as i32), Ok(handle));
            assert_eq!(Handle::numbered(place + (1 << 30)), handle, "they begin again");
        }
        for number in [0, -1, i32::MIN] {
            assert_eq!(Handle::from_number(number), Err(Errno(libc::EBADF)));
        }
    }
}
