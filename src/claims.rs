// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which sockets have operations in flight, and on which a calling thread sends by itself: it may
//! where nothing is in flight, and what comes meanwhile is held back until it has let go.
#![forbid(unsafe_code)]

use crate::schedule::NumberMap;
use std::sync::{Mutex, MutexGuard};

/// A calling thread's claim on a socket, told from those before and after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    pub cookie: u64,
    pub number: u32,
}

#[derive(Clone, Copy, Default, Debug)]
struct Use {
    operations: u32,
    claim: Option<u32>,
    /// Whether the claim holds somebody back.
    is_waited_for: bool,
}

// Each on a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Part {
    sockets: NumberMap<Use>,
    last_claim: u32,
}

impl Default for Part {
    // With room for some from the beginning: what is allocated in the middle of a peak keeps the
    // allocator from giving back what lies below it.
    fn default() -> Part {
        Part { sockets: NumberMap::with_capacity_and_hasher(14, Default::default()), last_claim: 0 }
    }
}

// So that threads with different sockets seldom want the same lock.
const PARTS: usize = 64;

/// All sockets of a context that are in use.
#[derive(Debug)]
pub(crate) struct Claims {
    parts: [Mutex<Part>; PARTS],
}

impl Default for Claims {
    fn default() -> Claims {
        Claims { parts: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Claims {
    fn part(&self, cookie: u64) -> MutexGuard<'_, Part> {
        let part = &self.parts[cookie as usize % PARTS];
        part.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// One more operation on this socket.  Some: it is held back by this claim.  The rest of what
    /// the claiming thread itself sends goes in `front` of others and is not.
    pub fn enter(&self, cookie: u64, front: bool) -> Option<Claim> {
        let mut part = self.part(cookie);
        let usage = part.sockets.entry(cookie).or_default();
        usage.operations += 1;
        let number = usage.claim.filter(|_| !front)?;
        usage.is_waited_for = true;
        Some(Claim { cookie, number })
    }

    /// One less; whether it was the last.
    pub fn leave(&self, cookie: u64) -> bool {
        let mut part = self.part(cookie);
        let Some(usage) = part.sockets.get_mut(&cookie) else { return true };
        usage.operations -= 1;
        let last = usage.operations == 0;
        if last && usage.claim.is_none() {
            part.sockets.remove(&cookie);
        }
        last
    }

    /// Claims a socket for the calling thread; false: it is in use.
    pub fn claim(&self, cookie: u64) -> bool {
        let mut part = self.part(cookie);
        if part.sockets.contains_key(&cookie) {
            return false;
        }
        part.last_claim = part.last_claim.wrapping_add(1);
        let claim = Some(part.last_claim);
        part.sockets.insert(cookie, Use { claim, ..Use::default() });
        true
    }

    /// Lets go of it.  Some: others wait for that, and [`LetGo`] is to be told.
    pub fn release(&self, cookie: u64) -> Option<Claim> {
        let mut part = self.part(cookie);
        let usage = part.sockets.get_mut(&cookie)?;
        let (number, waited_for) = (usage.claim.take()?, std::mem::take(&mut usage.is_waited_for));
        if usage.operations == 0 {
            part.sockets.remove(&cookie);
        }
        waited_for.then_some(Claim { cookie, number })
    }

    /// Whether no socket is in use.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        (0..PARTS as u64).all(|part| self.part(part).sockets.is_empty())
    }

    /// Whether operations are in flight there.
    pub fn has_operations(&self, cookie: u64) -> bool {
        self.part(cookie).sockets.get(&cookie).is_some_and(|usage| usage.operations > 0)
    }
}

/// Of which claims it is known that they are over: that may be heard before what they held back
/// arrives, and long after a later claim.
#[derive(Default, Debug)]
pub(crate) struct LetGo(NumberMap<u32>);

impl LetGo {
    /// This one is.  Only while its socket has operations, or there would be no end to them.
    pub fn note(&mut self, claim: Claim) {
        let latest = self.0.entry(claim.cookie).or_insert(claim.number);
        if is_later(claim.number, *latest) {
            *latest = claim.number;
        }
    }

    /// Whether it is known of this one.
    pub fn is_over(&self, claim: Claim) -> bool {
        self.0.get(&claim.cookie).is_some_and(|&latest| !is_later(claim.number, latest))
    }

    /// The socket's last operation has left.
    pub fn forget(&mut self, cookie: u64) {
        self.0.remove(&cookie);
    }

    /// Whether nothing is remembered.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// Numbers start again after the last one.
fn is_later(number: u32, than: u32) -> bool {
    number.wrapping_sub(than) as i32 > 0
}
