// SPDX-License-Identifier: MIT OR Apache-2.0
//! A first-in, first-out queue for what rarely has more than one item: a single item needs no
//! allocation.
#![forbid(unsafe_code)]

use super::memory;
use crate::types::errno::Result;
use std::collections::VecDeque;

/// A queue whose single item is stored in place.
#[derive(Debug)]
pub enum ShortQueue<T> {
    /// A single item that has had no others beside it.
    One(T),
    /// Any number of items.
    Many(VecDeque<T>),
}

impl<T> Default for ShortQueue<T> {
    fn default() -> ShortQueue<T> {
        ShortQueue::Many(VecDeque::new())
    }
}

impl<T> ShortQueue<T> {
    /// Returns whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.front().is_none()
    }

    /// Returns the first item.
    pub fn front(&self) -> Option<&T> {
        match self {
            ShortQueue::One(item) => Some(item),
            ShortQueue::Many(items) => items.front(),
        }
    }

    /// Returns the last item.
    pub fn back(&self) -> Option<&T> {
        match self {
            ShortQueue::One(item) => Some(item),
            ShortQueue::Many(items) => items.back(),
        }
    }

    /// Makes room for one more, so that [`ShortQueue::push_back`] allocates nothing.
    pub fn reserve(&mut self) -> Result<()> {
        match self {
            ShortQueue::Many(items) if items.capacity() == 0 => Ok(()), // it will be in place
            ShortQueue::Many(items) => memory::reserve_queue(items, 1),
            ShortQueue::One(_) => {
                let mut items = memory::queue(2)?;
                items.extend(self.pop_front());
                *self = ShortQueue::Many(items);
                Ok(())
            }
        }
    }

    /// Adds an item at the end; [`ShortQueue::reserve`] has made room.
    pub fn push_back(&mut self, item: T) {
        match self {
            ShortQueue::Many(items) if items.capacity() == 0 => *self = ShortQueue::One(item),
            ShortQueue::Many(items) => items.push_back(item),
            ShortQueue::One(_) => unreachable!("no room was made"),
        }
    }

    /// Takes the first item.
    pub fn pop_front(&mut self) -> Option<T> {
        match self {
            ShortQueue::Many(items) => items.pop_front(),
            ShortQueue::One(_) => match std::mem::take(self) {
                ShortQueue::One(item) => Some(item),
                ShortQueue::Many(_) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocated(queue: &ShortQueue<u64>) -> usize {
        match queue {
            ShortQueue::One(_) => 0,
            ShortQueue::Many(items) => items.capacity(),
        }
    }

    #[test]
    fn a_single_item_is_in_place() {
        let mut queue = ShortQueue::default();
        for round in 0..3 {
            assert!(queue.is_empty() && queue.pop_front().is_none());
            queue.reserve().unwrap();
            queue.push_back(round);
            assert_eq!(
                (queue.front(), queue.back(), allocated(&queue)),
                (Some(&round), Some(&round), 0)
            );
            assert_eq!(queue.pop_front(), Some(round));
        }
    }

    #[test]
    fn items_come_in_their_order_and_have_the_room_that_was_made() {
        let (mut queue, mut known) = (ShortQueue::default(), VecDeque::new());
        for round in 0..1000u64 {
            // Up to 30 at a time, again and again none.
            if round / 30 % 2 == 0 {
                queue.reserve().unwrap();
                let room = allocated(&queue);
                queue.push_back(round);
                known.push_back(round);
                assert_eq!(allocated(&queue), room, "the addition allocated");
            } else {
                assert_eq!(queue.pop_front(), known.pop_front());
            }
            assert_eq!((queue.front(), queue.back()), (known.front(), known.back()));
            assert_eq!(queue.is_empty(), known.is_empty());
        }
    }
}
