// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that may be refused.
#![forbid(unsafe_code)]

use crate::sys::{Errno, Result};
use std::collections::{BinaryHeap, TryReserveError, VecDeque};

fn refused(_: TryReserveError) -> Errno {
    Errno(libc::ENOMEM)
}

/// An empty list with room for `capacity` items, to the item.
pub fn list<T>(capacity: usize) -> Result<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(capacity).map_err(refused)?;
    Ok(list)
}

/// Makes room for so many more.
pub fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    list.try_reserve(more).map_err(refused)
}

/// Makes room for so many more.
pub fn reserve_queue<T>(queue: &mut VecDeque<T>, more: usize) -> Result<()> {
    if queue.is_empty() {
        queue.try_reserve_exact(more).map_err(refused)
    } else {
        queue.try_reserve(more).map_err(refused)
    }
}

/// Makes room for so many more, and no more than that.
pub fn reserve_heap<T: Ord>(heap: &mut BinaryHeap<T>, more: usize) -> Result<()> {
    heap.try_reserve_exact(more).map_err(refused)
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
