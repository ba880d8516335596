// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a context has learnt about file systems and files: where a mapping shows what read(2)
//! gives, and which calls return without a wait.
//!
//! Calling threads, the ring thread and the helpers look up and learn without a lock.  All tables
//! have a fixed size, and a later entry replaces an earlier one: a lost entry is learnt again.
#![forbid(unsafe_code)]

use super::known_costs::KnownCosts;
use super::streams::Streams;
use crate::sys;
use crate::types::file::{FileFacts, FileKind, Mount};
use crate::types::magic::{BCACHEFS, BTRFS, EROFS, EXT4, F2FS, SQUASHFS, TMPFS, XFS, ZFS};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The kind of a file system, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSystem {
    /// Unknown: any call on one of its files may wait for a server.
    Unknown = 0,
    /// Any call may query a server or another file system.
    Remote = 1,
    /// A call waits only for the local disk, and with RWF_NOWAIT not even for that.
    Local = 2,
    /// Local, and a mapping always shows what read(2) gives.
    Mapped = 3,
}

impl FileSystem {
    /// Returns the kind for a magic number of statfs(2).
    pub fn of_magic(magic: u64) -> FileSystem {
        const MAPPED: [u64; 6] = [EXT4, XFS, BTRFS, F2FS, BCACHEFS, TMPFS];
        const LOCAL: [u64; 9] = [
            SQUASHFS,
            EROFS,
            ZFS,
            0x8584_58f6, // ramfs
            0x9584_58f6, // hugetlbfs
            0x9660,      // isofs
            0x4d44,      // FAT
            0x2011_bab0, // exFAT
            0x1501_3346, // UDF
        ];
        if MAPPED.contains(&magic) {
            FileSystem::Mapped
        } else if LOCAL.contains(&magic) {
            FileSystem::Local
        } else {
            FileSystem::Remote
        }
    }

    /// Returns whether calls depend on nothing outside this machine.
    pub fn is_local(self) -> bool {
        matches!(self, FileSystem::Local | FileSystem::Mapped)
    }

    fn from_bits(bits: u64) -> FileSystem {
        match bits & 3 {
            1 => FileSystem::Remote,
            2 => FileSystem::Local,
            3 => FileSystem::Mapped,
            _ => FileSystem::Unknown,
        }
    }
}

/// Returns whether a mapping of the file always shows what read(2) gives.  Queries the file system
/// (fstatfs(2)), so it is for callers that may wait, as in sendfile(2).
pub fn mapping_shows_what_read_gives(file: RawFd) -> bool {
    // The file system of a device node says nothing about the device.
    sys::magic_of_file(file).map(FileSystem::of_magic) == Ok(FileSystem::Mapped)
        || sys::file_state(file).is_ok_and(|state| state.kind == FileKind::Block)
}

/// A call that needed no disk but took this many milliseconds has waited for something else: a
/// listener of fanotify(7), a stopped device, a processor.
const SLOW_MS: u64 = 20;

// One such call may have lacked a processor; a second in a row, or one this long, did not.
const CERTAINLY_SLOW_MS: u64 = 200;
const STRUCK: u64 = 1 << 7;
// A file system that has been slow before is avoided for longer, up to 64 s.
const SLOW_LEVEL_MAX: u64 = 6;
const SLOW_FORGOTTEN_AFTER_SECONDS: u64 = 120;
// A file that has not been read for longer may have got a listener since.
const QUICK_FOR_SECONDS: u64 = 4;
// Before Linux 6.8 numbers of mounts are not unique and are reused.
const NUMBER_KNOWN_FOR_SECONDS: u64 = 2;

const MOUNTS: usize = 128;
const FILES: usize = 1024;

const STAMP_BITS: u32 = 14;
const STAMP_MASK: u64 = (1 << STAMP_BITS) - 1;
const FILE_STRUCK: u64 = 1 << 23;
const QUICK_STAMP_MASK: u64 = FILE_STRUCK - 1;

/// The knowledge of a context about file systems and files, see the module.
#[derive(Debug)]
pub(crate) struct KnownFiles {
    /// For each mount its number (48 bits), its kind (2) and when that was learnt (14, in seconds).
    mounts: Box<[AtomicU64]>,
    /// Until when the file systems of this place are avoided (in seconds), whether the last call
    /// was slow (1 bit), and how often they have been avoided (7).
    slow: Box<[AtomicU64]>,
    /// Quick files: a hash (40 bits), whether the last call was slow (1), and when it was read (23,
    /// in seconds).
    quick: Box<[AtomicU64]>,
    /// What copies of data in the page cache have cost.
    pub costs: KnownCosts,
    /// Where sequential reads from the disk go on.
    pub streams: Streams,
    /// Helper threads that the end of the context left in a call that did not return.
    pub helpers_left_behind: AtomicU32,
    /// Calls, by helpers or the kernel's workers, that had not returned at the end of the context.
    pub calls_left_behind: AtomicU32,
}

impl Default for KnownFiles {
    fn default() -> KnownFiles {
        let table = |length| std::iter::repeat_with(AtomicU64::default).take(length).collect();
        KnownFiles {
            mounts: table(MOUNTS),
            slow: table(MOUNTS),
            quick: table(FILES),
            costs: KnownCosts::new(),
            streams: Streams::new(),
            helpers_left_behind: AtomicU32::new(0),
            calls_left_behind: AtomicU32::new(0),
        }
    }
}

pub(super) fn spread(number: u64) -> u64 {
    let mixed = (number ^ number >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

fn now_seconds() -> u64 {
    sys::coarse_time().as_secs()
}

impl KnownFiles {
    fn place(mount: Mount) -> usize {
        spread(mount.number()) as usize % MOUNTS
    }

    /// Returns what is known of a file's file system, without a query.
    pub fn file_system(&self, kind: FileKind, mount: Mount) -> FileSystem {
        if !sys::probes_allowed() {
            return FileSystem::Unknown;
        }
        if kind == FileKind::Block {
            return FileSystem::Mapped;
        }
        let word = self.mounts[Self::place(mount)].load(Ordering::Relaxed);
        if word >> 16 != mount.number() {
            return FileSystem::Unknown;
        }
        let age = || now_seconds().wrapping_sub(word) & STAMP_MASK;
        if !mount.is_unique() && age() > NUMBER_KNOWN_FOR_SECONDS {
            return FileSystem::Unknown;
        }
        FileSystem::from_bits(word >> STAMP_BITS)
    }

    /// Returns what is known of a file's file system, and looks up a new mount in the kernel,
    /// without querying its file system.
    pub fn look_up(&self, kind: FileKind, mount: Mount) -> FileSystem {
        match self.file_system(kind, mount) {
            FileSystem::Unknown if mount.is_unique() && sys::probes_allowed() => {}
            known => return known,
        }
        let Some(magic) = sys::magic_of_mount(mount) else { return FileSystem::Unknown };
        let found = FileSystem::of_magic(magic);
        self.learn_file_system(mount, found);
        found
    }

    /// Returns whether a file may be mapped and sent from the mapping.
    pub fn may_map(&self, file: &FileFacts, fd: RawFd) -> bool {
        self.file_system(file.kind, file.mount) == FileSystem::Mapped
            // The number may belong to another mount by now.
            && (file.mount.is_unique()
                || file.kind == FileKind::Block
                || sys::magic_of_file(fd).map(FileSystem::of_magic) == Ok(FileSystem::Mapped))
    }

    /// Remembers the kind of a file system.
    pub fn learn_file_system(&self, mount: Mount, found: FileSystem) {
        let stamp = now_seconds() & STAMP_MASK;
        let word = mount.number() << 16 | (found as u64) << STAMP_BITS | stamp;
        self.mounts[Self::place(mount)].store(word, Ordering::Relaxed);
    }

    /// Returns whether calls on this file system have recently waited unexpectedly.
    pub fn is_slow(&self, mount: Mount) -> bool {
        let word = self.slow[Self::place(mount)].load(Ordering::Relaxed);
        word != 0 && word >> 8 > now_seconds()
    }

    /// Records that a call on one of its files, which needed no disk, took [`SLOW_MS`] or more.
    pub fn was_slow(&self, mount: Mount, inode: u64, took_ms: u64) {
        let place = &self.quick[spread(inode) as usize % FILES];
        let file = place.load(Ordering::Relaxed);
        if file >> 24 == Self::tag(inode) {
            let is_forgiven = file & FILE_STRUCK == 0 && took_ms < CERTAINLY_SLOW_MS;
            place.store(if is_forgiven { file | FILE_STRUCK } else { 0 }, Ordering::Relaxed);
        }
        let (now, slow) = (now_seconds(), &self.slow[Self::place(mount)]);
        let word = slow.load(Ordering::Relaxed);
        let (until, struck) = (word >> 8, word & STRUCK != 0);
        let is_recent = now.saturating_sub(until) <= SLOW_FORGOTTEN_AFTER_SECONDS;
        let level = if is_recent { word & (STRUCK - 1) } else { 0 };
        let word = if struck || took_ms >= CERTAINLY_SLOW_MS {
            let level = (level + 1).min(SLOW_LEVEL_MAX);
            (now + (1 << level)) << 8 | level
        } else {
            until << 8 | STRUCK | level
        };
        slow.store(word, Ordering::Relaxed);
    }

    fn tag(inode: u64) -> u64 {
        (spread(inode) >> 24) | 1
    }

    /// Returns whether this file has recently been read without delay.
    pub fn is_quick(&self, inode: u64) -> bool {
        let word = self.quick[spread(inode) as usize % FILES].load(Ordering::Relaxed);
        let age = now_seconds().wrapping_sub(word) & QUICK_STAMP_MASK;
        word >> 24 == Self::tag(inode) && age <= QUICK_FOR_SECONDS
    }

    /// Returns whether the ring thread may call on this file directly if the call needs no disk.
    pub fn is_direct(&self, file: &FileFacts) -> bool {
        self.file_system(file.kind, file.mount).is_local()
            && self.is_quick(file.inode)
            && !self.is_slow(file.mount)
    }

    /// Returns whether a helper's next read is to find out if direct calls are possible.
    pub fn is_to_be_tried(&self, file: &FileFacts) -> bool {
        self.file_system(file.kind, file.mount).is_local()
            && !self.is_quick(file.inode)
            && !self.is_slow(file.mount)
    }

    /// Records that a file was read without delay.
    fn was_quick(&self, mount: Mount, inode: u64) {
        let slow = &self.slow[Self::place(mount)];
        let state = slow.load(Ordering::Relaxed);
        if state & STRUCK != 0 {
            slow.store(state & !STRUCK, Ordering::Relaxed);
        }
        let word = Self::tag(inode) << 24 | now_seconds() & QUICK_STAMP_MASK;
        let place = &self.quick[spread(inode) as usize % FILES];
        if place.load(Ordering::Relaxed) != word {
            place.store(word, Ordering::Relaxed);
        }
    }

    /// Makes a call that needs no disk, and learns from the time that it takes.
    pub fn timed<T>(&self, mount: Mount, inode: u64, call: impl FnOnce() -> T) -> T {
        let begin = sys::coarse_time();
        let done = call();
        let took_ms = (sys::coarse_time() - begin).as_millis() as u64;
        if took_ms >= SLOW_MS {
            self.was_slow(mount, inode, took_ms);
        } else {
            self.was_quick(mount, inode);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(number: u64) -> Mount {
        Mount::numbered(number)
    }

    #[test]
    fn what_is_not_known_to_be_local_is_remote() {
        assert_eq!(FileSystem::of_magic(EXT4), FileSystem::Mapped);
        assert_eq!(FileSystem::of_magic(SQUASHFS), FileSystem::Local);
        for magic in [0x6573_5546, 0x6969, 0x794c_7630, 0xff53_4d42, 0x9fa0] {
            assert!(!FileSystem::of_magic(magic).is_local());
        }
    }

    #[test]
    fn file_systems_are_told_apart_by_their_mounts() {
        let known = KnownFiles::default();
        let (regular, one, other) = (FileKind::Regular, mount(1 << 31), mount(1 << 31 | 1));
        assert_eq!(known.file_system(regular, one), FileSystem::Unknown);
        known.learn_file_system(one, FileSystem::Mapped);
        known.learn_file_system(other, FileSystem::Remote);
        assert_eq!(known.file_system(regular, one), FileSystem::Mapped);
        assert_eq!(known.file_system(regular, other), FileSystem::Remote);
        assert_eq!(known.file_system(FileKind::Block, mount(7)), FileSystem::Mapped);
    }

    #[test]
    fn one_call_that_lacked_a_processor_is_forgiven() {
        let known = KnownFiles::default();
        let (one, other) = (mount(9), mount(10));
        known.was_quick(one, 5);
        assert!(known.is_quick(5) && !known.is_quick(6));
        known.was_slow(one, 5, SLOW_MS);
        assert!(known.is_quick(5) && !known.is_slow(one));
        known.was_quick(one, 5);
        known.was_slow(one, 5, SLOW_MS);
        assert!(known.is_quick(5) && !known.is_slow(one));
        known.was_quick(one, 6);
        known.was_slow(one, 5, SLOW_MS);
        assert!(!known.is_quick(5) && known.is_quick(6) && !known.is_slow(one));
        known.was_slow(one, 7, SLOW_MS);
        assert!(known.is_slow(one) && !known.is_slow(other));
        known.was_slow(other, 6, CERTAINLY_SLOW_MS);
        assert!(known.is_slow(other) && !known.is_quick(6));
    }
}
