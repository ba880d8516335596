// SPDX-License-Identifier: MIT OR Apache-2.0
//! The facts about a file that decisions depend on: its kind, size, inode and mount.  `sys::file`
//! reads them from the kernel; nothing here does I/O.
#![forbid(unsafe_code)]

use super::errno::{Errno, Result};

/// The kind of thing that a descriptor refers to, as far as this library distinguishes it.
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

/// The result of fstat(2), as far as this library uses it.
#[derive(Clone, Copy, Debug)]
pub struct FileState {
    /// Its kind.
    pub kind: FileKind,
    /// st_size in bytes; 0 for block devices, see `sys::device_size`.
    pub size: u64,
    /// st_dev and st_ino, mixed: always the same for one file, and rarely the same for two.
    pub inode: u64,
    /// The mount that the file was opened through.
    pub mount: Mount,
}

/// The mount that a file was opened through.  It distinguishes file systems; st_dev does not,
/// because overlayfs reports the devices of its layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mount(u64);

impl Mount {
    // 48 bits suffice: the kernel numbers mounts consecutively.
    const NUMBER: u64 = (1 << 48) - 1;
    const UNIQUE: u64 = 1 << 63;

    /// Creates a mount from a number that no other mount has or will have until the next boot.
    pub const fn numbered(number: u64) -> Mount {
        Mount(number & Mount::NUMBER | Mount::UNIQUE)
    }

    // Creates a mount from numbers that may both be reused after the mount has gone.
    pub(crate) fn of_device(mount: u64, device: u64) -> Mount {
        let mixed = (device << 32 ^ device >> 32 ^ mount).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Mount(mixed >> 16)
    }

    /// Returns the number, below 2^48.
    pub fn number(self) -> u64 {
        self.0 & Mount::NUMBER
    }

    /// Returns whether the number is never reused.
    pub fn is_unique(self) -> bool {
        self.0 & Mount::UNIQUE != 0
    }
}

/// The size of a file, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// There is no file.
    NoFile,
    /// This many bytes.
    Known(u64),
    /// Only a read finds the end: files of /proc report 0.
    Unknown,
}

/// Whether the content of an open file can change, see `decide::frozen`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// Nobody has found out.
    Unknown,
    /// It can, as far as is known.
    Changing,
    /// It cannot.
    Frozen,
}

/// The facts that submit has read from a file.  Packed, because each operation in flight has them.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
pub(crate) struct FileFacts {
    pub kind: FileKind,
    /// Bytes at submit.
    pub size: u64,
    /// See [`FileState::inode`].
    pub inode: u64,
    /// The mount that the file was opened through.
    pub mount: Mount,
    /// O_DIRECT: reads must be aligned.
    pub direct: bool,
    /// Whether its content can change.
    pub content: Content,
}

impl FileFacts {
    /// Returns the size at submit if it says how much there is to read.  Files of /proc and block
    /// devices report 0.  The size of a network file may be out of date.
    pub fn known_size(&self) -> Option<u64> {
        (self.kind == FileKind::Regular && self.size > 0).then_some(self.size)
    }

    /// Returns the size according to a later state of the file.  EBADF: it is another file, which
    /// got the number while submit ran.
    pub fn size_by(&self, state: &FileState) -> Result<Size> {
        if (state.kind, state.inode) != (self.kind, self.inode) {
            return Err(Errno(libc::EBADF));
        }
        match (state.kind, state.size) {
            (FileKind::Block, size) => Ok(Size::Known(size)),
            // Files of /proc and the like report 0 and have data.
            (_, 0) => Ok(Size::Unknown),
            (_, size) => Ok(Size::Known(size)),
        }
    }
}
