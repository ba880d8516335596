// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known of a file.
#![forbid(unsafe_code)]

use super::errno::{Errno, Result};

/// What kind of thing a descriptor refers to, as far as this library cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A pipe or FIFO.
    Pipe,
    /// A socket.
    Socket,
    /// Anything else.
    Other,
}

/// What fstat(2) says, as far as this library cares.
#[derive(Clone, Copy, Debug)]
pub struct FileState {
    /// Its kind.
    pub kind: FileKind,
    /// st_size; 0 for block devices, see `sys::device_size`.
    pub size: u64,
    /// st_dev and st_ino, mixed: different for different files as a rule, the same for the same.
    pub inode: u64,
    /// Where its file system is mounted.
    pub mount: Mount,
}

/// Which mount a file was opened through.  It tells file systems apart; st_dev does not, since
/// overlayfs reports the devices of its layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mount(u64);

impl Mount {
    // 48 bits: numbers of mounts are given in a row.
    const NUMBER: u64 = (1 << 48) - 1;
    const UNIQUE: u64 = 1 << 63;

    /// A number that no other mount has, or will have until the next boot.
    pub const fn numbered(number: u64) -> Mount {
        Mount(number & Mount::NUMBER | Mount::UNIQUE)
    }

    // Both may be used again when this mount has gone.
    pub(crate) fn of_device(mount: u64, device: u64) -> Mount {
        let mixed = (device << 32 ^ device >> 32 ^ mount).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Mount(mixed >> 16)
    }

    /// The number, below 2^48.
    pub fn number(self) -> u64 {
        self.0 & Mount::NUMBER
    }

    /// Whether the number is never used again.
    pub fn is_unique(self) -> bool {
        self.0 & Mount::UNIQUE != 0
    }
}

/// What is known of a file's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// There is no file.
    NoFile,
    /// This many bytes.
    Known(u64),
    /// Only reading tells: files of /proc say 0.
    Unknown,
}

/// What submit has learnt of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileFacts {
    pub kind: FileKind,
    /// When submitted.
    pub size: u64,
    /// See [`FileState::inode`].
    pub inode: u64,
    /// Where its file system is mounted.
    pub mount: Mount,
    /// O_DIRECT: reads must be aligned.
    pub direct: bool,
}

impl FileFacts {
    /// The size when submitted, where that tells how much there is to read: files of /proc say 0
    /// and have more, and block devices say 0, too.  Of a server's file it may be an old one.
    pub fn known_size(&self) -> Option<u64> {
        (self.kind == FileKind::Regular && self.size > 0).then_some(self.size)
    }

    /// What a later state of the file says of its size.  EBADF: it is another file; the number was
    /// given to that while submit ran.
    pub fn size_by(&self, state: &FileState) -> Result<Size> {
        if (state.kind, state.inode) != (self.kind, self.inode) {
            return Err(Errno(libc::EBADF));
        }
        match (state.kind, state.size) {
            (FileKind::Block, size) => Ok(Size::Known(size)),
            // Files of /proc and the like say 0 and have more.
            (_, 0) => Ok(Size::Unknown),
            (_, size) => Ok(Size::Known(size)),
        }
    }
}
