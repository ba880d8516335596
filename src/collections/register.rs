// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables whose items are found by a number, by linear hashing.  The numbers are cookies, ids and
//! the like, which are distinct; an insertion splits at most one bucket, so no insertion is slow.
#![forbid(unsafe_code)]

use super::parts::Parts;
use super::table::{NONE, Table};
use crate::types::errno::Result;
use std::ops::{Index, IndexMut};

/// An item that has a number: a cookie or an id.
pub trait Numbered {
    /// Returns its number.
    fn number(&self) -> u64;
}

/// A table whose items are also found by their number (linear hashing: before an item is added, the
/// items of one bucket are divided between two).
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

// Spreads a number over all bits.  One multiplication does not suffice: the low bits of what it
// gives for numbers that follow each other form runs, in which a bucket has five items or more.
fn hash(number: u64) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = number.wrapping_mul(FACTOR);
    ((mixed ^ mixed >> 29).wrapping_mul(FACTOR) >> 32) as usize
}

// Returns the bucket of a number among `count` buckets, usually not a power of two.
fn bucket_of(number: u64, count: usize) -> usize {
    let mask = usize::MAX >> (count - 1).leading_zeros().min(usize::BITS - 1);
    let bucket = hash(number) & mask;
    if bucket < count { bucket } else { bucket & (mask >> 1) }
}

impl<T: Numbered> Register<T> {
    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns a bound: all slots in use are below it.
    pub fn end(&self) -> usize {
        self.table.end()
    }

    /// Returns the slot of the item with this number.
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

    /// Puts an item in a slot.  No other item may have its number.
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

    // Adds a bucket and moves to it its share of the items of an older one.
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

    /// Takes an item out; panics if the slot is not in use.
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

    /// Returns the item in a slot, if the slot is in use.
    pub fn get(&self, slot: usize) -> Option<&T> {
        self.table.get(slot)
    }

    /// Returns whether a slot is in use.
    pub fn contains(&self, slot: usize) -> bool {
        self.table.contains(slot)
    }

    /// Releases all memory if there are no items.
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
    /// The halves of the number: as a u64 it would take more room than small values need.
    number: [u32; 2],
    value: V,
}

impl<V> Pair<V> {
    fn new(number: u64, value: V) -> Pair<V> {
        Pair { number: [number as u32, (number >> 32) as u32], value }
    }
}

impl<V> Numbered for Pair<V> {
    fn number(&self) -> u64 {
        let [low, high] = self.number.map(u64::from);
        high << 32 | low
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
    /// Returns whether the map is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes room for one more, so that [`NumberMap::entry`] does not fail.
    pub fn reserve(&mut self) -> Result<()> {
        self.0.reserve()
    }

    /// Returns the value of a number.
    pub fn get(&self, number: u64) -> Option<V> {
        self.0.find(number).map(|slot| self.0[slot].value)
    }

    /// Returns the value of a number, for changes.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        let slot = self.0.find(number)?;
        Some(&mut self.0[slot].value)
    }

    /// Returns the value of a number, which is set to `value` if there was none.
    pub fn entry(&mut self, number: u64, value: V) -> Result<&mut V> {
        let slot = match self.0.find(number) {
            Some(slot) => slot,
            None => self.0.insert(Pair::new(number, value))?,
        };
        Ok(&mut self.0[slot].value)
    }

    /// Returns all values.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        (0..self.0.end()).filter_map(move |slot| self.0.get(slot).map(|pair| pair.value))
    }

    /// Takes out the value of a number.
    pub fn remove(&mut self, number: u64) -> Option<V> {
        self.0.find(number).map(|slot| self.0.remove(slot).value)
    }

    /// Releases all memory if the map is empty.
    pub fn shrink(&mut self) {
        self.0.shrink();
    }

    /// Keeps only the entries for which `keep` returns true.
    pub fn retain(&mut self, keep: impl Fn(u64, V) -> bool) {
        for slot in 0..self.0.end() {
            if self.0.get(slot).is_some_and(|pair| !keep(pair.number(), pair.value)) {
                self.0.remove(slot);
            }
        }
        self.0.shrink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn items_are_found_by_number_and_by_slot() {
        let (mut register, mut known) = (Register::<Pair<u64>>::default(), HashMap::new());
        for round in 0..2000u64 {
            let number = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 & 0xff;
            register.reserve().unwrap();
            let (table, buckets) = (&register.table, &register.buckets);
            assert!(buckets.len() > table.len() || buckets.get(buckets.len()).is_some());
            assert!(table.len() < table.end() || table.places.get(table.end()).is_some());
            match known.remove(&number) {
                Some(slot) => assert_eq!(register.remove(slot).number(), number),
                None => {
                    let slot = register.insert(Pair::new(number, round)).unwrap();
                    known.insert(number, slot);
                    register[slot].value += 1;
                    assert_eq!(register.get(slot).map(|pair| pair.value), Some(round + 1));
                }
            }
            assert_eq!((register.len(), register.is_empty()), (known.len(), known.is_empty()));
            assert!((0..256).all(|number| register.find(number) == known.get(&number).copied()));
            assert!(known.values().all(|&slot| slot < register.end() && register.contains(slot)));
            let in_use = (0..register.end() + 1).filter(|&slot| register.contains(slot));
            assert_eq!(in_use.count(), known.len());
        }
        register.shrink();
        assert!(register.end() > 0, "what is in use stays");
        for slot in known.into_values() {
            register.remove(slot);
        }
        register.shrink();
        assert_eq!((register.end(), register.buckets.len()), (0, 0));
    }

    // However many items there are, a search looks at 1.6 of them on average, as with random numbers.
    #[test]
    fn buckets_are_short() {
        const COUNT: u64 = 100_000;
        for step in [1, 2, 64, 4096, 1 << 32] {
            let mut register = Register::default();
            for index in 0..COUNT {
                register.insert(Pair::new(index * step, ())).unwrap();
            }
            let lengths = (0..register.buckets.len()).map(|bucket| {
                let first = register.buckets[bucket] as usize;
                let next = |&slot: &usize| Some(register.table.places.get(slot)?.next as usize);
                std::iter::successors(Some(first), next).count() as u64 - 1
            });
            let looks = lengths.map(|length| length * (length + 1) / 2).sum::<u64>();
            assert!(looks * 10 < COUNT * 17, "{looks} looks, numbers {step} apart");
        }
    }

    #[test]
    fn a_map_is_as_a_map_of_std() {
        let (mut map, mut known) = (NumberMap::<u32>::default(), HashMap::new());
        assert!(map.is_empty());
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
            assert_eq!(map.get_mut(number).copied(), known.get(&number).copied());
            assert_eq!(map.is_empty(), known.is_empty());
        }
        map.retain(|number, _| number % 3 == 0);
        known.retain(|number, _| number % 3 == 0);
        for number in 0..1024 {
            assert_eq!(map.get(number), known.get(&number).copied());
        }
        let (mut values, mut expected): (Vec<_>, Vec<_>) =
            (map.into_values().collect(), known.into_values().collect());
        values.sort_unstable();
        expected.sort_unstable();
        assert_eq!(values, expected);
    }
}
