// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which files can be cloned, as far as that is known without a trial.
#![forbid(unsafe_code)]

use crate::sys;
use crate::types::file::{FileFacts, FileKind};
use crate::types::magic::{BCACHEFS, BTRFS, OVERLAYFS, XFS, ZFS};

// The file systems that share extents, and take a range at one instant, under the inode's lock.
// XFS must be made with reflink, and overlayfs lie over one of the others.
const CLONE: [u64; 6] = [XFS, BTRFS, BCACHEFS, ZFS, OCFS2, OVERLAYFS];
const OCFS2: u64 = 0x7461_636f;

/// Returns whether a range of the file may turn out to be clonable.  The query concerns no server.
pub fn may_clone(facts: &FileFacts) -> bool {
    facts.kind == FileKind::Regular
        && sys::probes_allowed()
        // Before Linux 6.8 only a trial tells.
        && sys::magic_of_mount(facts.mount).is_none_or(|magic| CLONE.contains(&magic))
}
