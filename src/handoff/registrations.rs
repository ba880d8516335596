// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registered descriptors: what calling threads know of them, and the ring thread's word on those
//! that it could not keep.
//!
//! A notice carries the descriptor to the ring thread.  It follows submissions in order, so that
//! operations submitted before a descriptor is unregistered still find it.
//!
//! | event | transition |
//! |---|---|
//! | a caller registers a descriptor | [`Registrations::add`], then a notice |
//! | its notice cannot be sent | [`Registrations::remove`] |
//! | a caller prepares an operation | [`Registrations::find`] |
//! | the ring thread takes the descriptor | [`Registrations::facts`] |
//! | it cannot keep the descriptor | [`Registrations::fail`] |
//! | a caller unregisters it | [`Registrations::retire`], then a notice |
//! | the ring thread has read that notice, and closed the descriptor if nothing uses it | [`Registrations::remove`] |
//! | the ring thread has been idle for a while | [`Registrations::shrink`] |
#![forbid(unsafe_code)]

use crate::collections::NumberMap;
use crate::types::errno::{Errno, Result};
use crate::types::handle::Handle;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

/// A registered descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registered<Facts> {
    /// Its number in the caller's table.
    pub number: i32,
    /// What submit would have found out.
    pub facts: Facts,
    /// 0, or the errno of operations that name it: EBADF once it is unregistered, or why the ring
    /// thread does not have it.
    errno: i32,
}

// So that threads with different descriptors rarely need the same lock.
const PARTS: usize = 16;

#[derive(Debug)]
#[repr(align(64))]
struct Part<Facts>(Mutex<NumberMap<Registered<Facts>>>);

/// The registered files, or sockets, of a context.
#[derive(Debug)]
pub(crate) struct Registrations<Facts> {
    parts: [Part<Facts>; PARTS],
    /// Those that are retired, and not removed.
    leaving: AtomicU32,
}

impl<Facts> Default for Registrations<Facts> {
    fn default() -> Registrations<Facts> {
        let parts = std::array::from_fn(|_| Part(Mutex::new(NumberMap::default())));
        Registrations { parts, leaving: AtomicU32::new(0) }
    }
}

// How many handles the process has had.  Contexts share the numbers, so that none accepts another's.
static COUNT: AtomicU32 = AtomicU32::new(0);

impl<Facts: Copy> Registrations<Facts> {
    fn part(&self, handle: Handle) -> MutexGuard<'_, NumberMap<Registered<Facts>>> {
        let part = &self.parts[handle.number() as usize % PARTS];
        part.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Adds a descriptor; returns its handle.  ENOMEM.
    pub fn add(&self, number: i32, facts: Facts) -> Result<Handle> {
        loop {
            let handle = Handle::numbered(COUNT.fetch_add(1, Ordering::Relaxed));
            let mut part = self.part(handle);
            let key = u64::from(handle.number());
            // After a thousand million registrations a number may still be in use.
            if part.get(key).is_none() {
                part.entry(key, Registered { number, facts, errno: 0 })?;
                return Ok(handle);
            }
        }
    }

    /// Returns a descriptor for a new operation.  EBADF: the handle is none of this context's, or
    /// was unregistered; others: the ring thread does not have the descriptor.
    pub fn find(&self, handle: Handle) -> Result<Registered<Facts>> {
        let found = self.part(handle).get(handle.number().into()).ok_or(Errno(libc::EBADF))?;
        if found.errno == 0 { Ok(found) } else { Err(Errno(found.errno)) }
    }

    /// Refuses new operations with a descriptor.  EBADF: as for [`Registrations::find`].
    pub fn retire(&self, handle: Handle) -> Result<()> {
        let mut part = self.part(handle);
        let entry = part.get_mut(handle.number().into());
        let entry = entry.filter(|entry| entry.errno != libc::EBADF).ok_or(Errno(libc::EBADF))?;
        entry.errno = libc::EBADF;
        self.leaving.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether the ring thread is about to close what was unregistered.
    pub fn is_any_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire) > 0
    }

    /// Returns the facts about a descriptor, unregistered or not.
    pub fn facts(&self, handle: Handle) -> Option<Facts> {
        self.part(handle).get(handle.number().into()).map(|found| found.facts)
    }

    /// Changes the facts about a descriptor, of which the ring thread has learnt more.
    pub fn update(&self, handle: Handle, change: impl FnOnce(&mut Facts)) {
        if let Some(found) = self.part(handle).get_mut(handle.number().into()) {
            change(&mut found.facts);
        }
    }

    /// Records why the ring thread does not have a descriptor; after EBADF the handle is none.
    pub fn fail(&self, handle: Handle, error: Errno) {
        let mut part = self.part(handle);
        match part.get_mut(handle.number().into()) {
            Some(entry) if entry.errno == 0 && error.0 != libc::EBADF => entry.errno = error.0,
            // Otherwise it could not be unregistered, and would be remembered indefinitely.
            Some(entry) if entry.errno == 0 => drop(part.remove(handle.number().into())),
            _ => {}
        }
    }

    /// Returns the error of an operation whose descriptor the ring thread does not have.
    pub fn error(&self, handle: Handle) -> Errno {
        let errno = self.part(handle).get(handle.number().into()).map_or(0, |found| found.errno);
        Errno(if errno == 0 { libc::EBADF } else { errno })
    }

    /// Forgets a descriptor.
    pub fn remove(&self, handle: Handle) {
        let removed = self.part(handle).remove(handle.number().into());
        if removed.is_some_and(|entry| entry.errno == libc::EBADF) {
            self.leaving.fetch_sub(1, Ordering::Release);
        }
    }

    /// Releases memory after a peak.
    pub fn shrink(&self) {
        for part in &self.parts {
            part.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).shrink();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EBADF: Errno = Errno(libc::EBADF);

    fn found(table: &Registrations<u64>, handle: Handle) -> Result<(i32, u64)> {
        table.find(handle).map(|found| (found.number, found.facts))
    }

    #[test]
    fn a_handle_is_good_until_it_is_unregistered() {
        let table = Registrations::default();
        let (one, other) = (table.add(5, 50).unwrap(), table.add(5, 51).unwrap());
        assert_ne!(one, other);
        assert_eq!(found(&table, one), Ok((5, 50)));
        assert_eq!(table.retire(one), Ok(()));
        assert_eq!(found(&table, one), Err(EBADF));
        assert_eq!(table.retire(one), Err(EBADF));
        // The ring thread still needs the facts, until it has read the notice.
        assert_eq!((table.facts(one), table.error(one)), (Some(50), EBADF));
        assert!(table.is_any_leaving());
        table.remove(one);
        assert!(!table.is_any_leaving());
        assert_eq!((table.facts(one), table.error(one)), (None, EBADF));
        assert_eq!((found(&table, one), table.retire(one)), (Err(EBADF), Err(EBADF)));
        assert_eq!(found(&table, other), Ok((5, 51)));
    }

    #[test]
    fn a_descriptor_that_was_lost_gives_its_error_until_it_is_unregistered() {
        let table = Registrations::default();
        let handle = table.add(5, 50).unwrap();
        table.fail(handle, Errno(libc::EMFILE));
        table.fail(handle, Errno(libc::ENOMEM));
        assert_eq!(found(&table, handle), Err(Errno(libc::EMFILE)));
        assert_eq!(table.error(handle), Errno(libc::EMFILE));
        assert_eq!(table.retire(handle), Ok(()));
        table.fail(handle, Errno(libc::ENOMEM));
        assert_eq!((found(&table, handle), table.error(handle)), (Err(EBADF), EBADF));
    }

    #[test]
    fn a_handle_of_another_table_is_none() {
        let (ours, others) = (Registrations::default(), Registrations::default());
        let handle = others.add(5, 50).unwrap();
        assert_eq!((found(&ours, handle), ours.retire(handle)), (Err(EBADF), Err(EBADF)));
        assert_eq!((ours.facts(handle), ours.error(handle)), (None, EBADF));
        assert_ne!(ours.add(6, 60).unwrap(), handle);
    }

    #[test]
    fn a_descriptor_that_turned_out_to_be_another_has_no_handle() {
        let table = Registrations::default();
        let handle = table.add(5, 50).unwrap();
        table.fail(handle, EBADF);
        assert_eq!((found(&table, handle), table.retire(handle)), (Err(EBADF), Err(EBADF)));
        assert_eq!(table.facts(handle), None);
    }

    #[test]
    fn numbers_in_use_are_passed_over_when_they_start_again() {
        let table = Registrations::default();
        // Far from the numbers that other tests use at the same time.
        let before = COUNT.fetch_add(1 << 29, Ordering::Relaxed);
        let first = table.add(5, 50).unwrap();
        for _ in 0..10 {
            COUNT.store(before + (1 << 29), Ordering::Relaxed);
            assert_ne!(table.add(6, 60).unwrap(), first);
        }
        COUNT.store(before + 1000, Ordering::Relaxed);
        assert_eq!(found(&table, first), Ok((5, 50)));
        assert_eq!(Handle::numbered(u32::MAX).number() + 1, 1 << 31);
        assert_eq!(Handle::numbered(0), Handle::numbered(1 << 30));
    }
}
