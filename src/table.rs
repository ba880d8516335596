// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables and queues that grow by parts of a fixed size: nothing is ever moved to a larger place, so
//! that memory for each entry is the same at any number of them, and a single allocation is small.
//! Each allocation may be refused, with ENOMEM, and then nothing has changed.
#![forbid(unsafe_code)]

use crate::memory;
use crate::sys::Result;
use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

/// Entries in a part.
const PART: usize = 32;

const NONE: u32 = u32::MAX;

// ---- by slot -------------------------------------------------------------------------------

/// A list that grows by parts.  A place that is not in use holds the default.
#[derive(Debug)]
pub struct Parts<T> {
    parts: Vec<Box<[T; PART]>>,
    length: usize,
}

impl<T> Default for Parts<T> {
    fn default() -> Parts<T> {
        Parts { parts: Vec::new(), length: 0 }
    }
}

impl<T: Default> Parts<T> {
    /// How many entries it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Makes room for one more.
    #[inline]
    pub fn reserve(&mut self) -> Result<()> {
        if self.length < self.parts.len() * PART { Ok(()) } else { self.grow() }
    }

    #[cold]
    fn grow(&mut self) -> Result<()> {
        memory::reserve(&mut self.parts, 1)?;
        self.parts.push(memory::array()?);
        Ok(())
    }

    /// Adds one at the end.
    #[inline]
    pub fn push(&mut self, entry: T) -> Result<()> {
        self.reserve()?;
        self.parts[self.length / PART][self.length % PART] = entry;
        self.length += 1;
        Ok(())
    }

    /// The entry there, if there is one.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.parts.get(index / PART).map(|part| &part[index % PART])
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.parts.get_mut(index / PART).map(|part| &mut part[index % PART])
    }
}

impl<T> Index<usize> for Parts<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.parts[index / PART][index % PART]
    }
}

impl<T> IndexMut<usize> for Parts<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.parts[index / PART][index % PART]
    }
}

#[derive(Debug)]
struct Place<T> {
    item: Option<T>,
    /// The next free place, or the next one with the same hash.
    next: u32,
}

impl<T> Default for Place<T> {
    fn default() -> Place<T> {
        Place { item: None, next: NONE }
    }
}

/// Items in slots that stay the same as long as they are there.
#[derive(Debug)]
pub struct Table<T> {
    places: Parts<Place<T>>,
    free: u32,
    length: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { places: Parts::default(), free: NONE, length: 0 }
    }
}

impl<T> Table<T> {
    /// How many items there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All slots that are in use are smaller.
    pub fn end(&self) -> usize {
        self.places.len()
    }

    /// Makes room for one more, so that [`Table::insert`] does not fail.
    pub fn reserve(&mut self) -> Result<()> {
        if self.free == NONE { self.places.reserve() } else { Ok(()) }
    }

    /// Puts an item in a slot.
    pub fn insert(&mut self, item: T) -> Result<usize> {
        self.insert_linked(item, NONE)
    }

    #[inline]
    fn insert_linked(&mut self, item: T, next: u32) -> Result<usize> {
        let slot = self.free as usize;
        if self.free == NONE {
            self.places.push(Place { item: Some(item), next })?;
            self.length += 1;
            return Ok(self.places.len() - 1);
        }
        let place = &mut self.places[slot];
        self.free = std::mem::replace(&mut place.next, next);
        place.item = Some(item);
        self.length += 1;
        Ok(slot)
    }

    /// Takes an item out; panics when there is none.
    pub fn remove(&mut self, slot: usize) -> T {
        let place = &mut self.places[slot];
        let item = place.item.take().expect("the slot is in use");
        place.next = std::mem::replace(&mut self.free, slot as u32);
        self.length -= 1;
        item
    }

    /// The item in a slot, if it is in use.
    pub fn get(&self, slot: usize) -> Option<&T> {
        self.places.get(slot)?.item.as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.places.get_mut(slot)?.item.as_mut()
    }

    /// Whether a slot is in use.
    pub fn contains(&self, slot: usize) -> bool {
        self.get(slot).is_some()
    }

    /// Gives memory back, if it is empty.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Table::default();
        }
    }
}

impl<T> Index<usize> for Table<T> {
    type Output = T;

    fn index(&self, slot: usize) -> &T {
        self.places[slot].item.as_ref().expect("the slot is in use")
    }
}

impl<T> IndexMut<usize> for Table<T> {
    fn index_mut(&mut self, slot: usize) -> &mut T {
        self.places[slot].item.as_mut().expect("the slot is in use")
    }
}

// ---- by number -----------------------------------------------------------------------------

/// Something that has a number: a cookie or an id.
pub trait Numbered {
    /// Its number.
    fn number(&self) -> u64;
}

/// A table whose items are found by their number, too (linear hashing: with each item more, the
/// items of one bucket are shared out between two).
#[derive(Debug)]
pub struct Register<T> {
    table: Table<T>,
    buckets: Parts<u32>,
}

impl<T> Default for Register<T> {
    fn default() -> Register<T> {
        Register { table: Table::default(), buckets: Parts::default() }
    }
}

// The numbers are distinct already: one multiplication spreads them.
fn hash(number: u64) -> usize {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

// Of `count` buckets, which is no power of two as a rule.
fn bucket_of(number: u64, count: usize) -> usize {
    let mask = usize::MAX >> (count - 1).leading_zeros().min(usize::BITS - 1);
    let bucket = hash(number) & mask;
    if bucket < count { bucket } else { bucket & (mask >> 1) }
}

impl<T: Numbered> Register<T> {
    /// How many items there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// All slots that are in use are smaller.
    pub fn end(&self) -> usize {
        self.table.end()
    }

    /// The slot of the item with this number.
    pub fn find(&self, number: u64) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let mut slot = self.buckets[bucket_of(number, self.buckets.len())];
        loop {
            let place = self.table.places.get(slot as usize)?;
            if place.item.as_ref()?.number() == number {
                return Some(slot as usize);
            }
            slot = place.next;
        }
    }

    /// Makes room for one more, so that [`Register::insert`] does not fail.
    pub fn reserve(&mut self) -> Result<()> {
        if self.buckets.len() <= self.table.len() {
            self.buckets.reserve()?;
        }
        self.table.reserve()
    }

    /// Puts an item in a slot; there is none with its number.
    pub fn insert(&mut self, item: T) -> Result<usize> {
        if self.buckets.len() <= self.table.len() {
            self.split()?;
        }
        let bucket = bucket_of(item.number(), self.buckets.len());
        let first = &mut self.buckets[bucket];
        let slot = self.table.insert_linked(item, *first)?;
        *first = slot as u32;
        Ok(slot)
    }

    // One bucket more.
    #[cold]
    fn split(&mut self) -> Result<()> {
        let new = self.buckets.len();
        self.buckets.push(NONE)?;
        if new == 0 {
            return Ok(());
        }
        let old = new - (1 << new.ilog2());
        let mut slot = std::mem::replace(&mut self.buckets[old], NONE);
        while slot != NONE {
            let place = &mut self.table.places[slot as usize];
            let number = place.item.as_ref().map_or(0, Numbered::number);
            let bucket = bucket_of(number, new + 1);
            let next = place.next;
            place.next = std::mem::replace(&mut self.buckets[bucket], slot);
            slot = next;
        }
        Ok(())
    }

    /// Takes an item out; panics when there is none.
    pub fn remove(&mut self, slot: usize) -> T {
        let next = self.table.places[slot].next;
        let item = self.table.remove(slot);
        let bucket = bucket_of(item.number(), self.buckets.len());
        let first = &mut self.buckets[bucket];
        if *first == slot as u32 {
            *first = next;
            return item;
        }
        let mut at = *first as usize;
        while self.table.places[at].next != slot as u32 {
            at = self.table.places[at].next as usize;
        }
        self.table.places[at].next = next;
        item
    }

    /// The item in a slot, if it is in use.
    pub fn get(&self, slot: usize) -> Option<&T> {
        self.table.get(slot)
    }

    /// Whether a slot is in use.
    pub fn contains(&self, slot: usize) -> bool {
        self.table.contains(slot)
    }

    /// Gives memory back, if it is empty.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Register::default();
        }
    }
}

impl<T> Index<usize> for Register<T> {
    type Output = T;

    fn index(&self, slot: usize) -> &T {
        &self.table[slot]
    }
}

impl<T> IndexMut<usize> for Register<T> {
    fn index_mut(&mut self, slot: usize) -> &mut T {
        &mut self.table[slot]
    }
}

#[derive(Clone, Copy, Debug)]
struct Pair<V> {
    number: u64,
    value: V,
}

impl<V> Numbered for Pair<V> {
    fn number(&self) -> u64 {
        self.number
    }
}

/// A map keyed by cookies or ids.
#[derive(Debug)]
pub struct NumberMap<V>(Register<Pair<V>>);

impl<V> Default for NumberMap<V> {
    fn default() -> NumberMap<V> {
        NumberMap(Register::default())
    }
}

impl<V: Copy> NumberMap<V> {
    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is there for a number.
    pub fn get(&self, number: u64) -> Option<V> {
        self.0.find(number).map(|slot| self.0[slot].value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        let slot = self.0.find(number)?;
        Some(&mut self.0[slot].value)
    }

    /// What is there for a number; `value` if there was nothing.
    pub fn entry(&mut self, number: u64, value: V) -> Result<&mut V> {
        let slot = match self.0.find(number) {
            Some(slot) => slot,
            None => self.0.insert(Pair { number, value })?,
        };
        Ok(&mut self.0[slot].value)
    }

    /// All that is there.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        (0..self.0.end()).filter_map(move |slot| self.0.get(slot).map(|pair| pair.value))
    }

    /// Takes out what is there for a number.
    pub fn remove(&mut self, number: u64) -> Option<V> {
        self.0.find(number).map(|slot| self.0.remove(slot).value)
    }

    /// Keeps only what `keep` says yes of.
    pub fn retain(&mut self, keep: impl Fn(u64, V) -> bool) {
        for slot in 0..self.0.end() {
            if self.0.get(slot).is_some_and(|pair| !keep(pair.number, pair.value)) {
                self.0.remove(slot);
            }
        }
        self.0.shrink();
    }
}

// ---- first in, first out -------------------------------------------------------------------

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
    use std::collections::HashMap;

    #[test]
    fn a_map_is_as_a_map_of_std() {
        let (mut map, mut known) = (NumberMap::<u32>::default(), HashMap::new());
        let mut state = 1u64;
        for round in 0..20_000u32 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let number = state >> 33 & 0x3ff;
            match round / 4000 % 2 == 0 || state >> 60 < 4 {
                true => assert_eq!(
                    *map.entry(number, round).unwrap(),
                    *known.entry(number).or_insert(round)
                ),
                false => assert_eq!(map.remove(number), known.remove(&number)),
            }
            assert_eq!(map.get(number), known.get(&number).copied());
        }
        map.retain(|number, _| number % 3 == 0);
        known.retain(|number, _| number % 3 == 0);
        for number in 0..1024 {
            assert_eq!(map.get(number), known.get(&number).copied());
        }
    }

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
        }
        line.retain(|item| item[0] % 2 == 0);
        known.retain(|item| item[0] % 2 == 0);
        while let Some(item) = known.pop_front() {
            assert_eq!(line.pop(), Some(item));
        }
        assert!(line.pop().is_none() && line.room() >= 32);
    }
}
