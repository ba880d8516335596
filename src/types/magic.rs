// SPDX-License-Identifier: MIT OR Apache-2.0
//! The magic numbers of file systems, as statfs(2) returns them, on which more than one decision
//! depends (linux/magic.h).
#![forbid(unsafe_code)]

/// ext2, ext3 and ext4, which share one.
pub const EXT4: u64 = 0xef53;
/// XFS.
pub const XFS: u64 = 0x5846_5342;
/// btrfs.
pub const BTRFS: u64 = 0x9123_683e;
/// f2fs.
pub const F2FS: u64 = 0xf2f5_2010;
/// bcachefs.
pub const BCACHEFS: u64 = 0xca45_1a4e;
/// ZFS.
pub const ZFS: u64 = 0x2fc1_2fc1;
/// tmpfs, and the files of memfd_create(2).
pub const TMPFS: u64 = 0x0102_1994;
/// squashfs.
pub const SQUASHFS: u64 = 0x7371_7368;
/// erofs.
pub const EROFS: u64 = 0xe0f5_e1e2;
/// overlayfs, whatever its layers are.
pub const OVERLAYFS: u64 = 0x794c_7630;
