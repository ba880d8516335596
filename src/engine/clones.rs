// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which files can be cloned, as far as that is known without a trial.
#![forbid(unsafe_code)]

use crate::sys;
use crate::types::file::{FileFacts, FileKind};

// The file systems that share extents, and take a range at one instant, under the inode's lock.
const CLONE: [u64; 6] = [
    0x5846_5342, // XFS, made with reflink
    0x9123_683e, // btrfs
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // ZFS
    0x7461_636f, // OCFS2
    0x794c_7630, // overlayfs over one of them
];

/// Returns whether a range of the file may turn out to be clonable.  The query concerns no server.
pub fn may_clone(facts: &FileFacts) -> bool {
    facts.kind == FileKind::Regular
        && sys::probes_allowed()
        // Before Linux 6.8 only a trial tells.
        && sys::magic_of_mount(facts.mount).is_none_or(|magic| CLONE.contains(&magic))
}
