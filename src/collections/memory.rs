// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocation that can fail.  What grows with the load is allocated here, with ENOMEM instead of
//! the end of the process, and never from the allocator's reserve (`ffi/allocator.rs`): the reserve
//! is for small allocations inside the standard library, which cannot fail.
#![forbid(unsafe_code)]

use crate::types::errno::{Errno, Result};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The use of an allocator's reserve, in blocks.
#[derive(Debug)]
pub struct Reserve {
    taken: AtomicUsize,
    in_use: AtomicUsize,
}

/// The use of the reserve in `ffi/allocator.rs`; none where that is not compiled in.
pub static RESERVE: Reserve = Reserve::new();

// With more blocks than this in use, new work is refused: the rest is for operations in flight.
const LOW: usize = 16;

impl Reserve {
    /// Returns a reserve with no block in use.
    pub const fn new() -> Reserve {
        Reserve { taken: AtomicUsize::new(0), in_use: AtomicUsize::new(0) }
    }

    /// Counts a block taken.
    pub fn took(&self) {
        self.in_use.fetch_add(1, Ordering::SeqCst);
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a block given back.
    pub fn gave_back(&self) {
        self.in_use.fetch_sub(1, Ordering::SeqCst);
    }

    /// Returns whether a block is in use.
    pub fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::SeqCst) > 0
    }

    /// Returns whether so many blocks are in use that new work must be refused.
    pub fn is_low(&self) -> bool {
        self.in_use.load(Ordering::SeqCst) > LOW
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

/// Returns ENOMEM if the reserve is low.  Called before work that needs small allocations.
pub fn check() -> Result<()> {
    if RESERVE.is_low() { Err(Errno(libc::ENOMEM)) } else { Ok(()) }
}

// Treats an allocation that took a block of the reserve as failed.
fn unless_reserved<T>(make: impl FnOnce() -> Option<T>) -> Result<T> {
    let before = RESERVE.taken();
    let made = make().filter(|_| RESERVE.taken() == before);
    made.ok_or(Errno(libc::ENOMEM))
}

/// Returns an empty list with room for exactly `capacity` items.
pub fn list<T>(capacity: usize) -> Result<Vec<T>> {
    unless_reserved(|| {
        let mut list = Vec::new();
        list.try_reserve_exact(capacity).ok()?;
        Some(list)
    })
}

/// Gives up what an empty list has beyond room for `capacity` items.
pub fn shrink<T>(kept: &mut Vec<T>, capacity: usize) {
    if kept.is_empty() && kept.capacity() > capacity {
        if let Ok(smaller) = list(capacity) {
            *kept = smaller;
        }
    }
}

/// Returns an empty queue with room for exactly `capacity` items.
pub fn queue<T>(capacity: usize) -> Result<VecDeque<T>> {
    list(capacity).map(VecDeque::from)
}

/// Makes room for `more` items.
#[inline]
pub fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    if list.capacity() - list.len() >= more { Ok(()) } else { grow(list, more.max(list.len())) }
}

// Moves the items to a new list: realloc(3) could move them into a block of the reserve, and that
// could not be undone.
#[cold]
fn grow<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    let mut larger = self::list(list.len() + more.max(4))?;
    larger.append(list);
    *list = larger;
    Ok(())
}

/// Makes room for `more` items.
#[inline]
pub fn reserve_queue<T>(queue: &mut VecDeque<T>, more: usize) -> Result<()> {
    if queue.capacity() - queue.len() >= more {
        return Ok(());
    }
    let mut larger = self::queue(queue.len() + more.max(queue.len()).max(4))?;
    larger.append(queue);
    *queue = larger;
    Ok(())
}

/// Makes room for `more` items, or for four if that is more.
#[cold]
pub fn grow_heap<T: Ord>(heap: &mut BinaryHeap<T>, more: usize) -> Result<()> {
    let mut items = std::mem::take(heap).into_vec();
    let grown = grow(&mut items, more);
    *heap = items.into();
    grown
}

/// Returns an array of default items.
pub fn array<T: Default, const COUNT: usize>() -> Result<Box<[T; COUNT]>> {
    let mut items = list(COUNT)?;
    items.resize_with(COUNT, T::default);
    items.into_boxed_slice().try_into().map_err(|_| Errno(libc::ENOMEM))
}

/// Returns `count` copies of `value`.
pub fn filled<T: Clone>(value: T, count: usize) -> Result<Box<[T]>> {
    let mut list = list(count)?;
    list.resize(count, value);
    Ok(list.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_low_once_more_than_the_first_blocks_are_in_use() {
        let reserve = Reserve::new();
        assert!(!reserve.is_in_use());
        (0..LOW).for_each(|_| reserve.took());
        assert!(reserve.is_in_use() && !reserve.is_low());
        reserve.took();
        assert!(reserve.is_low() && reserve.taken() == LOW + 1);
        (0..=LOW).for_each(|_| reserve.gave_back());
        assert!(!reserve.is_in_use() && !reserve.is_low());
    }

    #[test]
    fn what_there_is_no_memory_for_is_refused() {
        assert_eq!(unless_reserved(|| None::<()>), Err(Errno(libc::ENOMEM)));
        assert!(list::<u64>(usize::MAX / 8).is_err());
        assert!(queue::<u64>(usize::MAX / 8).is_err());
    }

    // Adds items one by one, with room made for each: how many times everything was moved.
    fn growths(mut add: impl FnMut(usize) -> (usize, usize)) -> usize {
        let mut sizes: Vec<usize> = Vec::new();
        for count in 0..1000 {
            let (room, capacity) = add(count);
            assert!(room > 0, "no room for item {count}");
            sizes.push(capacity);
        }
        sizes.dedup();
        sizes.len()
    }

    #[test]
    fn room_is_made_before_it_is_needed_and_seldom() {
        let mut list = Vec::new();
        let moved = growths(|count| {
            reserve(&mut list, 1).unwrap();
            let room = list.capacity() - list.len();
            list.push(count);
            (room, list.capacity())
        });
        assert!(moved <= 10 && list.iter().copied().eq(0..1000), "{moved}");
        let mut line = VecDeque::new();
        let moved = growths(|count| {
            reserve_queue(&mut line, 1).unwrap();
            let room = line.capacity() - line.len();
            line.push_back(count);
            (room, line.capacity())
        });
        assert!(moved <= 10 && line.iter().copied().eq(0..1000), "{moved}");
    }

    #[test]
    fn room_is_made_for_as_many_as_asked_for() {
        let (mut list, mut line) = (vec![1, 2, 3], VecDeque::from([1, 2, 3]));
        let mut heap = BinaryHeap::from([1, 2, 3]);
        reserve(&mut list, 500).unwrap();
        reserve_queue(&mut line, 500).unwrap();
        grow_heap(&mut heap, 500).unwrap();
        assert!(list.capacity() >= 503 && line.capacity() >= 503 && heap.capacity() >= 503);
        assert_eq!((list, line), (vec![1, 2, 3], VecDeque::from([1, 2, 3])));
        assert_eq!(heap.into_sorted_vec(), [1, 2, 3]);
    }

    #[test]
    fn what_is_made_is_as_long_as_asked_for() {
        assert_eq!(*array::<u8, 3>().unwrap(), [0; 3]);
        assert_eq!(*filled(7, 3).unwrap(), [7; 3]);
        assert_eq!(self::list::<u8>(9).unwrap().capacity(), 9);
        assert!(self::queue::<u8>(9).unwrap().capacity() >= 9);
    }
}
