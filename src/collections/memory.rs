// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that may be refused.
#![forbid(unsafe_code)]

use crate::types::errno::{Errno, Result};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is known of the allocator's reserve.
#[derive(Debug)]
pub struct Reserve {
    taken: AtomicUsize,
    in_use: AtomicUsize,
}

/// The reserve of the allocator, see `ffi/allocator.rs`; always full where that is not compiled in.
pub static RESERVE: Reserve = Reserve::new();

// So many blocks are for what is under way already.
const LOW: usize = 16;

impl Reserve {
    /// One of which nothing is in use.
    pub const fn new() -> Reserve {
        Reserve { taken: AtomicUsize::new(0), in_use: AtomicUsize::new(0) }
    }

    /// A block has been taken out.
    pub fn took(&self) {
        self.in_use.fetch_add(1, Ordering::SeqCst);
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    /// A block has come back.
    pub fn gave_back(&self) {
        self.in_use.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether something of it is in use.
    pub fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::SeqCst) > 0
    }

    /// Whether much of it is in use.
    pub fn is_low(&self) -> bool {
        self.in_use.load(Ordering::SeqCst) > LOW
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

/// For a call that cannot do without small blocks: ENOMEM where the reserve is low.
pub fn check() -> Result<()> {
    if RESERVE.is_low() { Err(Errno(libc::ENOMEM)) } else { Ok(()) }
}

// What may be refused leaves the reserve to what may not.
fn unless_reserved<T>(make: impl FnOnce() -> Option<T>) -> Result<T> {
    let before = RESERVE.taken();
    let made = make().filter(|_| RESERVE.taken() == before);
    made.ok_or(Errno(libc::ENOMEM))
}

/// An empty list with room for `capacity` items, to the item.
pub fn list<T>(capacity: usize) -> Result<Vec<T>> {
    unless_reserved(|| {
        let mut list = Vec::new();
        list.try_reserve_exact(capacity).ok()?;
        Some(list)
    })
}

/// An empty queue with room for `capacity` items, to the item.
pub fn queue<T>(capacity: usize) -> Result<VecDeque<T>> {
    list(capacity).map(VecDeque::from)
}

/// Makes room for so many more.
#[inline]
pub fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    if list.capacity() - list.len() >= more { Ok(()) } else { grow(list, more.max(list.len())) }
}

// By moving: where realloc(3) would take from the reserve, there would be no way back.
#[cold]
fn grow<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    let mut larger = self::list(list.len() + more.max(4))?;
    larger.append(list);
    *list = larger;
    Ok(())
}

/// Makes room for so many more.
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

/// Makes room for so many more, and no more than that.
#[cold]
pub fn grow_heap<T: Ord>(heap: &mut BinaryHeap<T>, more: usize) -> Result<()> {
    let mut items = std::mem::take(heap).into_vec();
    let grown = grow(&mut items, more);
    *heap = items.into();
    grown
}

/// An array of defaults.
pub fn array<T: Default, const COUNT: usize>() -> Result<Box<[T; COUNT]>> {
    let mut items = list(COUNT)?;
    items.resize_with(COUNT, T::default);
    items.into_boxed_slice().try_into().map_err(|_| Errno(libc::ENOMEM))
}

/// So many equal items.
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
