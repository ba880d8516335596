// SPDX-License-Identifier: MIT OR Apache-2.0
//! First in, first out.
#![forbid(unsafe_code)]

use super::memory;
use crate::types::errno::Result;
use std::collections::VecDeque;

/// A queue that grows by parts.
#[derive(Debug)]
pub struct Line<T> {
    /// All up to `back` are in use; those behind it are empty.
    parts: VecDeque<VecDeque<T>>,
    back: usize,
    length: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Line<T> {
        Line { parts: VecDeque::new(), back: 0, length: 0 }
    }
}

impl<T> Line<T> {
    // Large parts, some pages each: they may be there long before they are used, and what has not been
    // touched is not yet memory.
    const PART: usize = (16 << 10) / size_of::<T>();

    /// How many stand in it.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// For how many there is room, wherever in a part the first one stands.
    pub fn room(&self) -> usize {
        self.parts.len().saturating_sub(1) * Self::PART
    }

    /// Makes room for `length` in all, if none is taken out of the middle.
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

    // Makes sure of an empty part behind the others.
    fn spare(&mut self) -> Result<()> {
        if self.parts.len() > self.back + 1 { Ok(()) } else { self.grow() }
    }

    // The part that the next one goes into, which has room.
    fn open_part(&mut self) -> Result<&mut VecDeque<T>> {
        if self.parts.is_empty() {
            self.grow()?;
        } else if self.parts[self.back].len() == Self::PART {
            self.spare()?;
            self.back += 1;
        }
        Ok(&mut self.parts[self.back])
    }

    /// Adds one behind the others.
    pub fn push(&mut self, item: T) -> Result<()> {
        self.open_part()?.push_back(item);
        self.length += 1;
        Ok(())
    }

    /// Adds all of a batch, and leaves in it what there is no memory for.
    pub fn append<U: Into<T>>(&mut self, batch: &mut Vec<U>) {
        while !batch.is_empty() {
            let Ok(part) = self.open_part() else { return };
            let count = batch.len().min(Self::PART - part.len());
            part.extend(batch.drain(..count).map(Into::into));
            self.length += count;
        }
    }

    /// Takes up to `most` out; how many.
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

    /// The first.
    pub fn first(&self) -> Option<&T> {
        self.parts.front()?.front()
    }

    /// Takes the first out.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.parts.front_mut()?.pop_front()?;
        self.length -= 1;
        if self.back > 0 && self.parts[0].is_empty() {
            self.parts.rotate_left(1);
            self.back -= 1;
        }
        Some(item)
    }

    /// Puts the last `count` ahead of all others, in the order they have.
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

    // A part that has become empty goes behind the others.
    fn close_gap(&mut self, part: usize) {
        if self.back > 0 && self.parts[part].is_empty() {
            let empty = self.parts.remove(part).unwrap_or_default();
            self.parts.push_back(empty);
            self.back -= 1;
        }
    }

    /// Takes the first one out that `wanted` says yes of.
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

    /// Keeps only those that `keep` says yes of.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        for part in (0..self.parts.len()).rev() {
            self.parts[part].retain(&keep);
            if part <= self.back {
                self.close_gap(part);
            }
        }
        self.length = self.parts.iter().map(VecDeque::len).sum();
    }

    /// Gives memory back, if it is empty.
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
        // With 32 in a part.
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
