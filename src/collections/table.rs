// SPDX-License-Identifier: MIT OR Apache-2.0
//! A table of items by slot.  A slot stays the same until its item is taken out; free slots form a
//! list through their places, so that inserting and removing take constant time.
#![forbid(unsafe_code)]

use super::parts::Parts;
use crate::types::errno::Result;
use std::ops::{Index, IndexMut};

pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Place<T> {
    pub(super) item: Option<T>,
    /// The next free place, or the next place of the same bucket.
    pub(super) next: u32,
}

impl<T> Default for Place<T> {
    fn default() -> Place<T> {
        Place { item: None, next: NONE }
    }
}

/// Items in slots, which stay the same until the item is taken out.
#[derive(Debug)]
pub struct Table<T> {
    pub(super) places: Parts<Place<T>>,
    /// The first free place; NONE: there is none.
    free: u32,
    /// The number of items.
    length: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { places: Parts::default(), free: NONE, length: 0 }
    }
}

impl<T> Table<T> {
    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns a bound: all slots in use are below it.
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
    pub(super) fn insert_linked(&mut self, item: T, next: u32) -> Result<usize> {
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

    /// Takes an item out; panics if the slot is not in use.
    pub fn remove(&mut self, slot: usize) -> T {
        let place = &mut self.places[slot];
        let item = place.item.take().expect("the slot is in use");
        place.next = std::mem::replace(&mut self.free, slot as u32);
        self.length -= 1;
        item
    }

    /// Returns the item in a slot, if the slot is in use.
    pub fn get(&self, slot: usize) -> Option<&T> {
        self.places.get(slot)?.item.as_ref()
    }

    /// Returns the item in a slot, for changes.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.places.get_mut(slot)?.item.as_mut()
    }

    /// Returns whether a slot is in use.
    pub fn contains(&self, slot: usize) -> bool {
        self.get(slot).is_some()
    }

    /// Releases all memory if there are no items.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_stay_and_are_used_again() {
        let (mut table, mut known) = (Table::default(), vec![None; 100]);
        for round in 0..1000usize {
            let slot = round * 37 % 100;
            table.reserve().unwrap();
            let has_room = table.free != NONE || table.places.get(table.end()).is_some();
            assert!(has_room, "no room was made");
            match known[slot] {
                Some(item) => {
                    assert_eq!((table.remove(slot), known[slot].take()), (item, Some(item)))
                }
                None => known[table.insert(round).unwrap()] = Some(round),
            }
            let length = known.iter().flatten().count();
            assert_eq!((table.len(), table.is_empty()), (length, length == 0));
            assert!(table.end() <= known.len() && known[table.end()..].iter().all(Option::is_none));
            for (slot, item) in known.iter_mut().enumerate() {
                assert_eq!(
                    (table.get(slot), table.contains(slot)),
                    (item.as_ref(), item.is_some())
                );
                assert_eq!(table.get_mut(slot), item.as_mut());
            }
        }
        table.shrink();
        assert!(table.end() > 0, "what is in use stays");
        for slot in (0..100).filter(|&slot| known[slot].is_some()) {
            table.remove(slot);
        }
        table.shrink();
        assert_eq!((table.end(), table.free), (0, NONE));
    }
}
