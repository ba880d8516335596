// SPDX-License-Identifier: MIT OR Apache-2.0
//! A list that grows by parts of a fixed size, the base of [`Table`](super::Table) and
//! [`Register`](super::Register).  It only grows; places are reused by its owner.
#![forbid(unsafe_code)]

use super::memory;
use crate::types::errno::Result;
use std::ops::{Index, IndexMut};

/// Entries of one part.
pub(super) const PART: usize = 32;

/// A list that grows by parts.  Places that are not in use hold the default.
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
    /// Returns the number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Makes room for one more entry.
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

    /// Adds an entry at the end.
    #[inline]
    pub fn push(&mut self, entry: T) -> Result<()> {
        self.reserve()?;
        self.parts[self.length / PART][self.length % PART] = entry;
        self.length += 1;
        Ok(())
    }

    /// Returns the entry at `index`, if its part exists.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.parts.get(index / PART).map(|part| &part[index % PART])
    }

    /// Returns the entry at `index`, for changes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_grows_by_a_part_when_it_is_full() {
        let mut list = Parts::<usize>::default();
        assert_eq!((list.len(), list.get(0)), (0, None));
        for index in 0..3 * PART {
            list.reserve().unwrap();
            let parts = list.parts.len();
            assert_eq!(parts, index / PART + 1);
            list.push(index).unwrap();
            assert_eq!((list.len(), list.parts.len()), (index + 1, parts));
        }
        for index in 0..3 * PART {
            *list.get_mut(index).unwrap() += 1;
            list[index] += 1;
            assert_eq!((list[index], list.get(index)), (index + 2, Some(&(index + 2))));
        }
        assert!(list.get(3 * PART).is_none() && list.get_mut(3 * PART).is_none());
    }
}
