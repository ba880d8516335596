// SPDX-License-Identifier: MIT OR Apache-2.0
//! A first-in, first-out queue that grows by parts.  Besides its ends it supports what the ring
//! thread's queues need: taking an item from the middle, and moving the last items to the front.
#![forbid(unsafe_code)]

use super::memory;
use crate::types::errno::Result;
use std::collections::VecDeque;

/// A queue that grows by parts.
#[derive(Debug)]
pub struct Line<T> {
    /// Those up to `back` are in use; those after it are empty.
    parts: VecDeque<VecDeque<T>>,
    /// The index of the last part in use.
    back: usize,
    /// The number of items.
    length: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Line<T> {
        Line { parts: VecDeque::new(), back: 0, length: 0 }
    }
}

impl<T> Line<T> {
    // Parts are large, several pages each: memory that is reserved early and never touched costs no
    // pages.
    const PART: usize = (16 << 10) / size_of::<T>();

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns for how many items there is room, wherever in its part the first one stands.
    pub fn room(&self) -> usize {
        self.parts.len().saturating_sub(1) * Self::PART
    }

    /// Makes room for `length` items in all, which holds until an item is taken from the middle.
    pub fn reserve(&mut self, length: usize) -> Result<()> {
        while self.room() < length {
            self.grow()?;
        }
        Ok(())
    }

    fn grow(&mut self) -> Result<()> {
        memory::reserve_queue(&mut self.parts, 1)?;
        let mut part = VecDeque::new();
        memory::reserve_queue(&mut part, Self::PART)?;
        self.parts.push_back(part);
        Ok(())
    }

    // Ensures that there is an empty part after those in use.
    fn spare(&mut self) -> Result<()> {
        if self.parts.len() > self.back + 1 { Ok(()) } else { self.grow() }
    }

    // Returns the part that the next item goes into; it has room.
    fn open_part(&mut self) -> Result<&mut VecDeque<T>> {
        if self.parts.is_empty() {
            self.grow()?;
        } else if self.parts[self.back].len() == Self::PART {
            self.spare()?;
            self.back += 1;
        }
        Ok(&mut self.parts[self.back])
    }

    /// Adds an item at the end.
    pub fn push(&mut self, item: T) -> Result<()> {
        self.open_part()?.push_back(item);
        self.length += 1;
        Ok(())
    }

    /// Moves a batch to the end; items for which there is no memory stay in the batch.
    pub fn append<U: Into<T>>(&mut self, batch: &mut Vec<U>) {
        while !batch.is_empty() {
            let Ok(part) = self.open_part() else { return };
            let count = batch.len().min(Self::PART - part.len());
            part.extend(batch.drain(..count).map(Into::into));
            self.length += count;
        }
    }

    /// Takes up to `most` items from the front and passes them to `each`; returns how many.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(T)) -> usize {
        let count = most.min(self.length);
        let mut left = count;
        while left > 0 {
            let part = &mut self.parts[0];
            let now = left.min(part.len());
            left -= now;
            self.length -= now;
            part.drain(..now).for_each(&mut each);
            self.close_gap(0);
        }
        count
    }

    /// Returns the first item.
    pub fn first(&self) -> Option<&T> {
        self.parts.front()?.front()
    }

    /// Takes the first item.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.parts.front_mut()?.pop_front()?;
        self.length -= 1;
        if self.back > 0 && self.parts[0].is_empty() {
            self.parts.rotate_left(1);
            self.back -= 1;
        }
        Some(item)
    }

    /// Moves the last `count` items to the front and keeps their order.
    pub fn bring_forward(&mut self, count: usize) -> Result<()> {
        for _ in 0..count.min(self.length) {
            if self.parts[0].len() == Self::PART {
                self.spare()?;
                let empty = self.parts.pop_back().unwrap_or_default();
                self.parts.push_front(empty);
                self.back += 1;
            }
            if let Some(item) = self.parts[self.back].pop_back() {
                self.parts[0].push_front(item);
            }
            self.close_gap(self.back);
        }
        Ok(())
    }

    // Moves a part that has become empty behind the others.
    fn close_gap(&mut self, part: usize) {
        if self.back > 0 && self.parts[part].is_empty() {
            let empty = self.parts.remove(part).unwrap_or_default();
            self.parts.push_back(empty);
            self.back -= 1;
        }
    }

    /// Takes the first item for which `wanted` returns true.
    pub fn take(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        if self.first().is_some_and(&wanted) {
            return self.pop();
        }
        for part in 0..self.parts.len() {
            if let Some(index) = self.parts[part].iter().position(&wanted) {
                let item = self.parts[part].remove(index);
                self.length -= 1;
                self.close_gap(part);
                return item;
            }
        }
        None
    }

    /// Keeps only the items for which `keep` returns true.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        for part in (0..self.parts.len()).rev() {
            self.parts[part].retain(&keep);
            if part <= self.back {
                self.close_gap(part);
            }
        }
        self.length = self.parts.iter().map(VecDeque::len).sum();
    }

    /// Releases all memory if the queue is empty.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Line::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn a_line_keeps_its_order_and_its_room() {
        // A part holds 32 such items.
        let item = |number: u32| [number; 128];
        let (mut line, mut known) = (Line::default(), VecDeque::new());
        for round in 0..4000u32 {
            line.push(item(round)).unwrap();
            known.push_back(item(round));
            if round % 3 == 0 {
                assert_eq!(line.pop(), known.pop_front());
            }
            if round % 7 == 0 {
                let wanted = item(round / 2);
                let index = known.iter().position(|&item| item == wanted);
                assert_eq!(line.take(|&item| item == wanted), index.and_then(|i| known.remove(i)));
            }
            if round % 5 == 0 && known.len() > 80 {
                line.bring_forward(70).unwrap();
                known.rotate_right(70);
            }
            assert_eq!((line.len(), line.first()), (known.len(), known.front()));
            assert!(line.parts.iter().all(|part| part.len() <= 32), "a part was enlarged");
        }
        line.retain(|item| item[0] % 2 == 0);
        known.retain(|item| item[0] % 2 == 0);
        while let Some(item) = known.pop_front() {
            assert_eq!(line.pop(), Some(item));
        }
        assert!(line.pop().is_none() && line.room() >= 32);
    }

    #[test]
    fn a_batch_goes_in_and_out_at_once() {
        // With 32 in a part.
        let item = |number: u32| [number; 128];
        let (mut line, mut known, mut next) = (Line::default(), VecDeque::new(), 0);
        for round in 0..200usize {
            let mut batch: Vec<_> = (next..next + (round * 7 % 50) as u32).map(item).collect();
            next += batch.len() as u32;
            known.extend(batch.iter().copied());
            line.append(&mut batch);
            assert!(batch.is_empty());
            let (mut taken, most) = (Vec::new(), round * 11 % 60);
            let count = line.drain(most, |item| taken.push(item));
            assert_eq!(count, most.min(known.len()));
            assert!(taken.iter().copied().eq(known.drain(..count)));
            assert_eq!((line.len(), line.first()), (known.len(), known.front()));
            assert_eq!(line.is_empty(), known.is_empty());
            assert!(line.parts.iter().all(|part| part.len() <= 32), "a part was enlarged");
        }
        // Whole parts of those ahead go.
        let last = *known.back().unwrap();
        line.retain(|item| *item == last);
        assert_eq!((line.len(), line.first()), (1, Some(&last)));
    }

    #[test]
    fn room_that_was_made_is_enough_and_stays_until_it_is_given_back() {
        let mut line = Line::<[u32; 128]>::default();
        assert_eq!(line.room(), 0);
        line.reserve(96).unwrap();
        assert_eq!((line.room(), line.parts.len()), (96, 4), "a part in vain");
        line.reserve(100).unwrap();
        let parts = line.parts.len();
        assert!(line.room() >= 100 && parts <= 6, "{parts} parts for 100");
        // Wherever in a part the first one stands.
        for number in 0..1000 {
            line.push([number; 128]).unwrap();
            if line.len() > 100 {
                line.pop();
            }
            assert_eq!(line.parts.len(), parts);
        }
        line.bring_forward(70).unwrap();
        assert!(line.parts.len() <= parts + 1, "parts with few in them");
        line.shrink();
        assert!(line.len() == 100 && line.parts.len() >= parts);
        line.retain(|_| false);
        assert!(line.is_empty() && line.parts.len() >= parts);
        line.shrink();
        assert_eq!((line.room(), line.parts.len()), (0, 0));
    }
}
