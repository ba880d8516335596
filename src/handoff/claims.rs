// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who sends on a socket: a calling thread that has claimed it, or the ring thread.
//!
//! A calling thread may claim a socket that has no operation in flight, and then sends on it by
//! itself.  Submissions for the socket that come meanwhile are held back until the claim has been
//! released; only the rest of what the claiming thread could not send goes ahead of them.
//!
//! | event | transition |
//! |---|---|
//! | a calling thread wants to send by itself | [`Claims::claim`] |
//! | a submission is about to be handed over | [`Claims::enter`] |
//! | it could not be handed over | [`Claims::leave`] |
//! | the claiming thread is done, and its rest has been handed over | [`Claims::release`] |
//! | the ring thread takes a submission | [`HeldBack::arrived`] |
//! | the ring thread reads the notice of a release | [`HeldBack::released`] |
//! | the ring thread is done with an operation | [`HeldBack::left`] |
#![forbid(unsafe_code)]

use crate::collections::NumberMap;
use crate::handoff::sync::{Mutex, MutexGuard};
use crate::types::errno::Result;
use std::sync::Arc;

/// A calling thread's claim on a socket, distinguished from those before and after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    pub cookie: u64,
    pub number: u32,
}

/// A socket that the calling thread has claimed.
#[derive(Debug)]
#[must_use = "the socket stays claimed until Claims::release() has this"]
pub(crate) struct Claimed {
    cookie: u64,
}

/// Where a submission stands among those for its socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// Behind those before it.
    InOrder,
    /// Ahead of all: it is the rest of what the claiming thread has begun.
    Ahead,
    /// Behind those before it, once this claim has been released.
    HeldBack(Claim),
}

#[derive(Clone, Copy, Default, Debug)]
struct Use {
    operations: u32,
    /// The number of the claim on it, if there is one.
    number: u32,
    is_claimed: bool,
    /// Whether the claim holds a submission back.
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

    /// Claims a socket for the calling thread.  None: it is in use, or there is no memory.
    pub fn claim(&self, cookie: u64) -> Option<Claimed> {
        let mut part = self.part(cookie);
        let number = part.last_claim.wrapping_add(1);
        let free = Use::default();
        let usage = part.sockets.entry(cookie, free).ok()?;
        if usage.is_claimed || usage.operations > 0 {
            return None;
        }
        *usage = Use { number, is_claimed: true, ..free };
        part.last_claim = number;
        Some(Claimed { cookie })
    }

    /// Counts one operation more on a socket, before it is handed over.  `turn` is as wanted, the
    /// result as it is.
    pub fn enter(&self, cookie: u64, turn: Turn) -> Result<Turn> {
        let mut part = self.part(cookie);
        let usage = part.sockets.entry(cookie, Use::default())?;
        usage.operations += 1;
        if !usage.is_claimed || turn == Turn::Ahead {
            return Ok(turn);
        }
        usage.is_waited_for = true;
        Ok(Turn::HeldBack(Claim { cookie, number: usage.number }))
    }

    /// Counts one less.  True: it was the last.
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

    /// Releases a socket.  The rest, if there is one, has been handed over before, so that it goes
    /// ahead of those held back.  Some: the ring thread needs a notice, for
    /// [`HeldBack::released`].
    #[must_use]
    pub fn release(&self, Claimed { cookie }: Claimed) -> Option<Claim> {
        let mut part = self.part(cookie);
        let usage = part.sockets.get_mut(cookie)?;
        let (number, waited_for) = (usage.number, std::mem::take(&mut usage.is_waited_for));
        usage.is_claimed = false;
        if usage.operations == 0 {
            part.sockets.remove(cookie);
        }
        waited_for.then_some(Claim { cookie, number })
    }

    fn has_operations(&self, cookie: u64) -> bool {
        self.part(cookie).sockets.get(cookie).is_some_and(|usage| usage.operations > 0)
    }

    /// Whether no socket is in use.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        (0..PARTS as u64).all(|part| self.part(part).sockets.is_empty())
    }
}

/// What the ring thread knows of claims.  The notice of a release may come before what the claim
/// held back, and long after a later claim.
#[derive(Debug)]
pub(crate) struct HeldBack {
    claims: Arc<Claims>,
    /// Only sockets that have operations.
    sockets: NumberMap<Known>,
}

/// Numbers of claims on one socket.
#[derive(Clone, Copy, Default, Debug)]
struct Known {
    /// The latest one known to have been released.
    released: Option<u32>,
    /// The one that holds the socket back.
    waits_for: Option<u32>,
}

impl HeldBack {
    /// None is known yet of these.
    pub fn new(claims: Arc<Claims>) -> HeldBack {
        HeldBack { claims, sockets: NumberMap::default() }
    }

    /// A submission has arrived.  True: nothing is sent on its socket until
    /// [`HeldBack::released`] says so.  ENOMEM.
    pub fn arrived(&mut self, turn: Turn) -> Result<bool> {
        let Turn::HeldBack(Claim { cookie, number }) = turn else { return Ok(false) };
        let known = self.sockets.entry(cookie, Known::default())?;
        if known.released.is_some_and(|released| !is_later(number, released)) {
            return Ok(false);
        }
        known.waits_for = Some(number);
        Ok(true)
    }

    /// The notice of a release has arrived.  True: the socket was held back by this claim, and is
    /// no longer.  ENOMEM: what is still to arrive would be held back indefinitely.
    pub fn released(&mut self, claim: Claim) -> Result<bool> {
        if !self.claims.has_operations(claim.cookie) {
            return Ok(false); // It can hold back nothing, and would never be forgotten.
        }
        let known = self.sockets.entry(claim.cookie, Known::default())?;
        if known.released.is_none_or(|released| is_later(claim.number, released)) {
            known.released = Some(claim.number);
        }
        let was_awaited = known.waits_for == Some(claim.number);
        if was_awaited {
            known.waits_for = None;
        }
        Ok(was_awaited)
    }

    /// An operation has ended; called before its DONE is reported, so that the caller may claim the
    /// socket then.
    pub fn left(&mut self, cookie: u64) {
        if self.claims.leave(cookie) {
            self.sockets.remove(cookie);
        }
    }

    /// Forgets sockets whose last operation never arrived, and gives memory back.
    pub fn shrink(&mut self) {
        let claims = &self.claims;
        self.sockets.retain(|cookie, _| claims.has_operations(cookie));
    }

    /// Whether nothing is remembered.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }
}

// Numbers start again after the last one.
fn is_later(number: u32, than: u32) -> bool {
    number.wrapping_sub(than) as i32 > 0
}
