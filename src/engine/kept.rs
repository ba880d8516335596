// SPDX-License-Identifier: MIT OR Apache-2.0
//! io_urings that outlive their context, until the last notification of a zero-copy send.
//!
//! If a ring is closed earlier, a worker of the kernel ends it: it checks for the notifications
//! twenty times a second, and logs a warning after five minutes (io_ring_exit_work() in
//! io_uring/io_uring.c).  A mapping of the ring's first page keeps it open without a descriptor and
//! without a thread.  After its thread has ended, a worker of the kernel writes the completions,
//! except with IORING_SETUP_DEFER_TASKRUN (both seen on 6.18).

use crate::sys::{FileWindow, ForkMark, Span};
use io_uring::IoUring;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, TryLockError};

/// The most rings kept; for one more, the oldest is closed.
const KEPT_MAX: usize = 16;

// IORING_OFF_CQ_RING of linux/io_uring.h.
const OFF_CQ_RING: u64 = 0x800_0000;

// The length of the tail in bytes.
const TAIL: usize = size_of::<AtomicU32>();

// The list is tried this often instead of waited for: in a child that was forked while another
// thread held the lock, nothing releases it.
const TRIES: u32 = 1000;

static KEPT: Mutex<[Option<Kept>; KEPT_MAX]> = Mutex::new([const { None }; KEPT_MAX]);

/// A ring in which only notifications are pending.
struct Kept {
    /// Its first page, up to and including the completion queue's tail, which the kernel writes.
    page: FileWindow,
    /// The value of the tail after the last notification.
    last: u32,
    /// A forked child does not have the page.
    mark: ForkMark,
}

impl Kept {
    fn new(ring: &IoUring, awaited: u32) -> Option<Kept> {
        let layout = Layout::of(ring);
        let mark = ForkMark::new().ok()?;
        let end = layout.completion_tail as usize + TAIL;
        let page = FileWindow::new(ring.as_raw_fd(), OFF_CQ_RING, end).ok()?;
        let mut kept = Kept { page, last: 0, mark };
        // Completions that do not fit into the queue do not advance the tail.
        kept.last = kept.tail()?.wrapping_add(awaited.min(layout.completion_entries));
        Some(kept)
    }

    fn tail(&self) -> Option<u32> {
        let Span { address, length } = self.page.span();
        let tail = (address + length - TAIL) as *const AtomicU32;
        // SAFETY: it is the end of the window and aligned; the window stays mapped until self is
        // dropped, and the kernel, the only writer, writes atomically.
        tail.is_aligned().then(|| unsafe { (*tail).load(Ordering::Acquire) })
    }

    fn is_over(&self) -> bool {
        self.tail().is_none_or(|tail| tail.wrapping_sub(self.last) as i32 >= 0)
    }

    // Closes the ring.
    fn let_go(self) {
        if !self.mark.is_own_process() {
            // Another mapping may be there by now.
            mem::forget(self.page);
        }
    }
}

/// The used fields of `struct io_uring_params` (linux/io_uring.h), and the fields around them.
#[repr(C)]
struct Layout {
    submission_entries: u32,
    completion_entries: u32,
    other: [u32; 8],
    submission_offsets: [u32; 10],
    completion_head: u32,
    completion_tail: u32,
    completion_offsets: [u32; 8],
}

impl Layout {
    fn of(ring: &IoUring) -> Layout {
        const { assert!(size_of::<Layout>() == 120 && size_of::<io_uring::Parameters>() == 120) };
        // SAFETY: Parameters is documented to be only the kernel's struct, which is part of its
        // ABI; every field of it, and of Layout, is an integer.
        unsafe { mem::transmute_copy(ring.params()) }
    }
}

/// Keeps a ring until `awaited` further completions have arrived; no others may arrive.  If it
/// cannot be kept, the kernel ends it as any other.
pub fn keep(ring: &IoUring, awaited: u32) {
    let Some(kept) = Kept::new(ring, awaited) else {
        return;
    };
    with_list(|list| {
        close_ended(list);
        if list.iter().all(Option::is_some) {
            close(&mut list[0]);
        }
        // The list begins with the oldest.
        let first_free = list.iter().position(Option::is_none).unwrap_or(0);
        list[first_free..].rotate_left(1);
        list[KEPT_MAX - 1] = Some(kept);
    });
}

/// Closes the rings whose notifications have all arrived.
pub fn reap() {
    with_list(close_ended);
}

/// Returns how many rings are kept.
pub fn count() -> u64 {
    let mut count = 0;
    with_list(|list| {
        close_ended(list);
        count = list.iter().flatten().count() as u64;
    });
    count
}

/// Closes all rings, before the library is unloaded.
pub fn close_all() {
    with_list(|list| list.iter_mut().for_each(close));
}

fn close_ended(list: &mut [Option<Kept>; KEPT_MAX]) {
    for kept in list {
        let is_open = |kept: &Kept| kept.mark.is_own_process() && !kept.is_over();
        if !kept.as_ref().is_some_and(is_open) {
            close(kept);
        }
    }
}

fn close(kept: &mut Option<Kept>) {
    if let Some(kept) = kept.take() {
        kept.let_go();
    }
}

fn with_list(body: impl FnOnce(&mut [Option<Kept>; KEPT_MAX])) {
    for _ in 0..TRIES {
        match KEPT.try_lock() {
            Ok(mut list) => return body(&mut list),
            Err(TryLockError::Poisoned(list)) => return body(&mut list.into_inner()),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
}
