// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where sequential reads from the disk go on.
//!
//! The kernel reads ahead of such a stream: up to 8 MiB at once where the device is set so.  The
//! thread whose read meets the mark that an earlier read-ahead has left begins the next one, and
//! that takes 1.8 ms for 8 MiB, although all data of its own read is in the page cache.  A thread
//! that serves many sockets must not spend them, and neither cachestat(2) nor RWF_NOWAIT tells of
//! the mark.  So a helper reads what follows a read that had to wait for the disk, or that began to
//! read ahead.
//!
//! The table has a fixed size, and a later entry replaces an earlier one: a lost entry costs one
//! read-ahead on another thread.
#![forbid(unsafe_code)]

use super::kernel::Kernel;
use super::known_files::spread;
use crate::types::file::{FileFacts, Size};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A read of this many bytes that must wait for the disk is worth a helper.
pub(crate) const STREAM_MIN: u64 = 64 << 10;

// Where data that is missing shows that the kernel goes on to read ahead: up to two windows, of at
// most 8 MiB, ahead of a stream.
const LOOK_AHEAD: [u64; 4] = [4 << 20, 8 << 20, 12 << 20, 16 << 20];

// A call that needs no disk and takes longer has begun to read ahead, or has lacked a processor.
const QUICK: Duration = Duration::from_micros(400);

const STREAMS: usize = 256;

/// The positions at which streams go on.
#[derive(Debug)]
pub(crate) struct Streams(Box<[AtomicU64]>);

impl Streams {
    pub(super) fn new() -> Streams {
        Streams(std::iter::repeat_with(AtomicU64::default).take(STREAMS).collect())
    }

    // Returns the place of a position, and what stands for the position there; not 0.
    fn place(&self, inode: u64, at: u64) -> (&AtomicU64, u64) {
        let mixed = spread(spread(inode) ^ at);
        (&self.0[mixed as usize % STREAMS], mixed | 1)
    }

    /// Returns whether a read from the disk has ended here.
    pub fn has(&self, inode: u64, at: u64) -> bool {
        let (place, position) = self.place(inode, at);
        place.load(Ordering::Relaxed) == position
    }

    /// The same, and forgets the position.
    pub(super) fn take(&self, inode: u64, at: u64) -> bool {
        let has = self.has(inode, at);
        if has {
            self.place(inode, at).0.store(0, Ordering::Relaxed);
        }
        has
    }

    /// Records that a read from the disk, which began at `begin`, has ended at `end`, unless what
    /// follows is in the page cache.  Where that is not known, the time decides.
    pub(super) fn ended(
        &self,
        kernel: &impl Kernel,
        (file, facts): (RawFd, &FileFacts),
        end: u64,
        begin: Instant,
    ) {
        let Ok(Size::Known(size)) = kernel.size(file, facts) else { return };
        if size <= end {
            return;
        }
        let is_missing = |ahead| match kernel.is_cached(file, (size - 1).min(end + ahead), 1) {
            Some(is_cached) => !is_cached,
            None => kernel.now() - begin > QUICK,
        };
        if LOOK_AHEAD.into_iter().any(is_missing) {
            let (place, position) = self.place(facts.inode, end);
            place.store(position, Ordering::Relaxed);
        }
    }

    /// Makes a call that needs no disk for data up to `end`; learns from the time that it takes.
    pub fn watch<T>(
        &self,
        kernel: &impl Kernel,
        file: (RawFd, &FileFacts),
        end: u64,
        call: impl FnOnce() -> T,
    ) -> T {
        let begin = kernel.now();
        let done = call();
        if kernel.now() - begin > QUICK {
            self.ended(kernel, file, end, begin);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_on_once_at_each_position() {
        let streams = Streams::new();
        let end_at = |inode, end| {
            let (place, position) = streams.place(inode, end);
            place.store(position, Ordering::Relaxed);
        };
        end_at(7, 1 << 20);
        assert!(!streams.has(7, 0) && !streams.has(8, 1 << 20));
        assert!(streams.has(7, 1 << 20) && streams.take(7, 1 << 20));
        assert!(!streams.has(7, 1 << 20) && !streams.take(7, 1 << 20));
        end_at(0, 0);
        assert!(streams.has(0, 0));
    }
}
