// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a context has learnt of file systems and files: where a mapping is what read(2) gives, and
//! what answers without making the reader wait.
//!
//! Calling threads, the ring thread and the helpers look things up and learn without a lock.  All
//! tables have a fixed size, and a later entry takes the place of an earlier one: what is forgotten
//! is found out again.
#![forbid(unsafe_code)]

use crate::sys;
use crate::types::file::{FileFacts, FileKind, Mount};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What is known of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSystem {
    /// Nothing yet: any call on one of its files may wait for a server.
    Unknown = 0,
    /// It may ask a server, or another file system, in any call.
    Remote = 1,
    /// It waits for nothing but its own disk, and not even for that where it is told not to.
    Local = 2,
    /// Local, and a mapping always shows what read(2) gives.
    Mapped = 3,
}

impl FileSystem {
    /// By the magic number that statfs(2) gives.
    pub fn of_magic(magic: u64) -> FileSystem {
        const MAPPED: [u64; 6] = [
            0xef53,      // ext2, ext3, ext4
            0x5846_5342, // XFS
            0x9123_683e, // btrfs
            0xf2f5_2010, // f2fs
            0xca45_1a4e, // bcachefs
            0x0102_1994, // tmpfs
        ];
        const LOCAL: [u64; 9] = [
            0x7371_7368, // squashfs
            0xe0f5_e1e2, // erofs
            0x8584_58f6, // ramfs
            0x9584_58f6, // hugetlbfs
            0x9660,      // isofs
            0x4d44,      // FAT
            0x2011_bab0, // exFAT
            0x1501_3346, // UDF
            0x2fc1_2fc1, // ZFS
        ];
        if MAPPED.contains(&magic) {
            FileSystem::Mapped
        } else if LOCAL.contains(&magic) {
            FileSystem::Local
        } else {
            FileSystem::Remote
        }
    }

    /// Whether it asks nobody else.
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

/// Whether a mapping of the file always shows what read(2) gives.  Asks the file system (fstatfs(2)),
/// so that it is for callers who may wait, as in sendfile(2).
pub fn mapping_shows_what_read_gives(file: RawFd) -> bool {
    // The file system of a device's node says nothing about the device.
    sys::magic_of_file(file).map(FileSystem::of_magic) == Ok(FileSystem::Mapped)
        || sys::file_state(file).is_ok_and(|state| state.kind == FileKind::Block)
}

/// From here on a call that had no disk to wait for has waited for something else: a listener of
/// fanotify(7), a device that was stopped, a processor.
const SLOW_MS: u64 = 20;

// One such call may have lacked a processor; a second in a row, or one this long, has not.
const CERTAINLY_SLOW_MS: u64 = 200;
const STRUCK: u64 = 1 << 7;
// A file system that has been slow before is avoided for longer, up to 64 s.
const SLOW_LEVEL_MAX: u64 = 6;
const SLOW_FORGOTTEN_AFTER_SECONDS: u64 = 120;
// A file that has not been read for longer may have got a listener meanwhile.
const QUICK_FOR_SECONDS: u64 = 4;
// Numbers of mounts are used again where they are not unique (before Linux 6.8).
const NUMBER_KNOWN_FOR_SECONDS: u64 = 2;

const MOUNTS: usize = 128;
const FILES: usize = 1024;

const STAMP_BITS: u32 = 14;
const STAMP_MASK: u64 = (1 << STAMP_BITS) - 1;
const FILE_STRUCK: u64 = 1 << 23;
const QUICK_STAMP_MASK: u64 = FILE_STRUCK - 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct KnownFiles {
    /// For each mount its number (48 bits), what it is (2) and when that was learnt (14).
    mounts: Box<[AtomicU64]>,
    /// Until when the file systems of this place are avoided, whether the last call was slow (1 bit),
    /// and how often they have been avoided (7).
    slow: Box<[AtomicU64]>,
    /// Files that were quick: a hash (40 bits), whether the last call was slow (1), and when (23).
    quick: Box<[AtomicU64]>,
    /// Helper threads that the end of the context left in a call that does not come back.
    pub helpers_left_behind: AtomicU32,
    /// Calls, by them or by the kernel's workers, that had not come back at the end of the context.
    pub calls_left_behind: AtomicU32,
}

impl Default for KnownFiles {
    fn default() -> KnownFiles {
        let table = |length| std::iter::repeat_with(AtomicU64::default).take(length).collect();
        KnownFiles {
            mounts: table(MOUNTS),
            slow: table(MOUNTS),
            quick: table(FILES),
            helpers_left_behind: AtomicU32::new(0),
            calls_left_behind: AtomicU32::new(0),
        }
    }
}

fn spread(number: u64) -> u64 {
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

    /// What is known of a file's file system, without asking anybody.
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

    /// The same; a mount not seen before is looked up, without asking its file system.
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

    /// Whether a file may be mapped to be sent.
    pub fn may_map(&self, file: &FileFacts, fd: RawFd) -> bool {
        self.file_system(file.kind, file.mount) == FileSystem::Mapped
            // The number may mean another mount by now.
            && (file.mount.is_unique()
                || file.kind == FileKind::Block
                || sys::magic_of_file(fd).map(FileSystem::of_magic) == Ok(FileSystem::Mapped))
    }

    /// Remembers what a file system is.
    pub fn learn_file_system(&self, mount: Mount, found: FileSystem) {
        let stamp = now_seconds() & STAMP_MASK;
        let word = mount.number() << 16 | (found as u64) << STAMP_BITS | stamp;
        self.mounts[Self::place(mount)].store(word, Ordering::Relaxed);
    }

    /// Whether calls on this file system have lately waited where they should not have.
    pub fn is_slow(&self, mount: Mount) -> bool {
        let word = self.slow[Self::place(mount)].load(Ordering::Relaxed);
        word != 0 && word >> 8 > now_seconds()
    }

    /// A call on one of its files, which had no disk to wait for, took this long: [`SLOW_MS`] or more.
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

    /// Whether this file has lately been read without delay.
    pub fn is_quick(&self, inode: u64) -> bool {
        let word = self.quick[spread(inode) as usize % FILES].load(Ordering::Relaxed);
        let age = now_seconds().wrapping_sub(word) & QUICK_STAMP_MASK;
        word >> 24 == Self::tag(inode) && age <= QUICK_FOR_SECONDS
    }

    /// Whether a call that need not wait for the disk may be made where nothing may wait.
    pub fn is_direct(&self, file: &FileFacts) -> bool {
        self.file_system(file.kind, file.mount).is_local()
            && self.is_quick(file.inode)
            && !self.is_slow(file.mount)
    }

    /// Whether a helper's next read is to tell if calls may be made directly.
    pub fn is_to_be_tried(&self, file: &FileFacts) -> bool {
        self.file_system(file.kind, file.mount).is_local()
            && !self.is_quick(file.inode)
            && !self.is_slow(file.mount)
    }

    /// It has been read without delay.
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

    /// Makes a call that has no disk to wait for, and learns from how long it takes.
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
        assert_eq!(FileSystem::of_magic(0xef53), FileSystem::Mapped);
        assert_eq!(FileSystem::of_magic(0x7371_7368), FileSystem::Local);
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
