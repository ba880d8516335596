// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the content of an open file can still change.  A positive answer holds until the file is
//! closed, so everything that can be undone counts as changing: read-only mounts, `chattr +i`,
//! read-only devices, F_SEAL_FUTURE_WRITE (which leaves older writable mappings).
#![forbid(unsafe_code)]

use crate::types::magic::{BTRFS, EROFS, EXT4, F2FS, SQUASHFS, TMPFS};

/// From this length on, in bytes, it pays to find out, and to send pages instead of copying them:
/// below it the queries and the references cost more than a copy within the CPU's cache.
pub const FROZEN_MIN: u64 = 64 << 10;

/// What the kernel reports about an open regular file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits {
    /// The magic number of its file system (fstatfs(2)).  That of overlayfs is its own, whatever the
    /// layers are: a file of the lower layer may be replaced by a copy in the upper one.
    pub magic: u64,
    /// Its seals (F_GET_SEALS); None: it has none, because it is not in memory.
    pub seals: Option<i32>,
    /// STATX_ATTR_VERITY.  Only some file systems are believed: a FUSE server may claim anything.
    pub has_verity: bool,
    /// STATX_ATTR_DAX: its pages are the device's memory, not in the page cache.
    pub is_dax: bool,
}

const NEVER_WRITTEN: [u64; 2] = [SQUASHFS, EROFS];
const WITH_VERITY: [u64; 3] = [EXT4, F2FS, BTRFS];

/// Returns whether a file system of this kind has attributes that decide, see statx(2).
pub fn depends_on_attributes(magic: u64) -> bool {
    NEVER_WRITTEN.contains(&magic) || WITH_VERITY.contains(&magic)
}

/// Returns whether the content can never change as long as the file is open.
pub fn is_frozen(traits: &Traits) -> bool {
    const SEALS: i32 = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    let Traits { magic, seals, has_verity, is_dax } = *traits;
    let is_sealed = magic == TMPFS && seals.is_some_and(|seals| seals & SEALS == SEALS);
    let has_verity = has_verity && WITH_VERITY.contains(&magic);
    let is_never_written = NEVER_WRITTEN.contains(&magic);
    !is_dax && (is_sealed || has_verity || is_never_written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::magic::{OVERLAYFS, XFS};
    use libc::{F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE};

    const FUSE: u64 = 0x6573_5546;
    const HUGETLBFS: u64 = 0x9584_58f6;

    fn sealed(magic: u64, seals: i32) -> bool {
        is_frozen(&Traits { magic, seals: Some(seals), ..Traits::default() })
    }

    #[test]
    fn a_file_in_memory_needs_all_three_seals() {
        let all = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
        assert!(sealed(TMPFS, all) && sealed(TMPFS, all | F_SEAL_SEAL));
        for left_out in [F_SEAL_WRITE, F_SEAL_SHRINK, F_SEAL_GROW] {
            assert!(!sealed(TMPFS, all & !left_out | F_SEAL_SEAL));
        }
        assert!(!sealed(TMPFS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
        assert!(!sealed(HUGETLBFS, all) && !sealed(FUSE, all));
        assert!(!is_frozen(&Traits { magic: TMPFS, ..Traits::default() }));
    }

    #[test]
    fn verity_counts_only_where_the_kernel_enforces_it() {
        for (magic, is_believed) in [(EXT4, true), (BTRFS, true), (F2FS, true)].into_iter().chain([
            (FUSE, false),
            (OVERLAYFS, false),
            (TMPFS, false),
            (XFS, false),
        ]) {
            let traits = Traits { magic, has_verity: true, ..Traits::default() };
            assert_eq!(is_frozen(&traits), is_believed, "{magic:x}");
            assert!(!is_frozen(&Traits { has_verity: false, ..traits }));
        }
    }

    #[test]
    fn file_systems_that_are_never_written_are_frozen_unless_dax() {
        for magic in NEVER_WRITTEN {
            let traits = Traits { magic, ..Traits::default() };
            assert!(is_frozen(&traits) && depends_on_attributes(magic));
            assert!(!is_frozen(&Traits { is_dax: true, ..traits }));
        }
        assert!(!is_frozen(&Traits { magic: OVERLAYFS, ..Traits::default() }));
        assert!(!depends_on_attributes(TMPFS) && !depends_on_attributes(OVERLAYFS));
    }
}
