// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which sockets have operations in flight, and on which a calling thread sends by itself: it may
//! where nothing is in flight, and what comes meanwhile is held back until it has let go.
#![forbid(unsafe_code)]

use crate::collections::NumberMap;
use crate::types::errno::Result;
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
    /// The number of the claim on it, if there is one.
    number: u32,
    is_claimed: bool,
    /// Whether the claim holds somebody back.
    is_waited_for: bool,
}

// Each on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Part {
    sockets: NumberMap<Use>,
    last_claim: u32,
}

// So that threads with different sockets seldom want the same lock.
const PARTS: usize = 16;

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
    pub fn enter(&self, cookie: u64, front: bool) -> Result<Option<Claim>> {
        let mut part = self.part(cookie);
        let usage = part.sockets.entry(cookie, Use::default())?;
        usage.operations += 1;
        if !usage.is_claimed || front {
            return Ok(None);
        }
        usage.is_waited_for = true;
        Ok(Some(Claim { cookie, number: usage.number }))
    }

    /// One less; whether it was the last.
    pub fn leave(&self, cookie: u64) -> bool {
        let mut part = self.part(cookie);
        let Some(usage) = part.sockets.get_mut(cookie) else { return true };
        usage.operations -= 1;
        let last = usage.operations == 0;
        if last && !usage.is_claimed {
            part.sockets.remove(cookie);
        }
        last
    }

    /// Claims a socket for the calling thread; false: it is in use, or there is no memory.
    pub fn claim(&self, cookie: u64) -> bool {
        let mut part = self.part(cookie);
        let number = part.last_claim.wrapping_add(1);
        let free = Use::default();
        let Ok(usage) = part.sockets.entry(cookie, free) else { return false };
        if usage.is_claimed || usage.operations > 0 {
            return false;
        }
        *usage = Use { number, is_claimed: true, ..free };
        part.last_claim = number;
        true
    }

    /// Lets go of it.  Some: others wait for that, and [`LetGo`] is to be told.
    pub fn release(&self, cookie: u64) -> Option<Claim> {
        let mut part = self.part(cookie);
        let usage = part.sockets.get_mut(cookie)?;
        let (number, waited_for) = (usage.number, std::mem::take(&mut usage.is_waited_for));
        if !std::mem::take(&mut usage.is_claimed) {
            return None;
        }
        if usage.operations == 0 {
            part.sockets.remove(cookie);
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
        self.part(cookie).sockets.get(cookie).is_some_and(|usage| usage.operations > 0)
    }
}

/// Of which claims it is known that they are over: that may be heard before what they held back
/// arrives, and long after a later claim.
#[derive(Default, Debug)]
pub(crate) struct LetGo(NumberMap<u32>);

impl LetGo {
    /// This one is.  Only while its socket has operations, or there would be no end to them.
    pub fn note(&mut self, claim: Claim) -> Result<()> {
        let latest = self.0.entry(claim.cookie, claim.number)?;
        if is_later(claim.number, *latest) {
            *latest = claim.number;
        }
        Ok(())
    }

    /// Whether it is known of this one.
    pub fn is_over(&self, claim: Claim) -> bool {
        self.0.get(claim.cookie).is_some_and(|latest| !is_later(claim.number, latest))
    }

    /// The socket's last operation has left.
    pub fn forget(&mut self, cookie: u64) {
        self.0.remove(cookie);
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
