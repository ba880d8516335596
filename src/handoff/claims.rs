// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides who sends on a socket: a calling thread that has claimed it, or the ring thread.
//!
//! A calling thread may claim a socket that has no operation in flight, and then sends on it by
//! itself.  Submissions for the socket that arrive in between are held back until the claim has
//! been released; only the rest of the claiming thread's own operation goes ahead of them.
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

/// The place of a submission among those for its socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// Behind those before it.
    InOrder,
    /// Ahead of all: it is the rest of an operation that the claiming thread has begun.
    Ahead,
    /// Behind those before it, once this claim has been released.
    HeldBack(Claim),
}

#[derive(Clone, Copy, Default, Debug)]
struct Use {
    /// Operations handed over and not ended.
    operations: u32,
    /// The number of the claim on it; None: it is not claimed.
    number: u32,
    is_claimed: bool,
    /// Whether the claim holds a submission back.
    is_waited_for: bool,
}

// Each on its own cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Part {
    sockets: NumberMap<Use>,
    /// The number of the latest claim in this part.
    last_claim: u32,
}

// So that threads with different sockets rarely need the same lock.
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

    /// Counts one more operation on a socket, before it is handed over.  `turn` is the place
    /// requested; returns the place that it gets.
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

    /// Counts one operation less.  True: it was the last one.
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

    /// Releases a socket.  The rest, if there is one, was handed over before, so that it goes ahead
    /// of the submissions held back.  Some: the ring thread needs a notice, for
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

    /// Returns whether no socket is in use.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        (0..PARTS as u64).all(|part| self.part(part).sockets.is_empty())
    }
}

/// The ring thread's knowledge of claims.  The notice of a release may arrive before the
/// submissions that the claim held back, and long after a later claim.
#[derive(Debug)]
pub(crate) struct HeldBack {
    claims: Arc<Claims>,
    /// Only sockets that have operations.
    sockets: NumberMap<Known>,
}

/// Numbers of claims on one socket.
#[derive(Clone, Copy, Default, Debug)]
struct Known {
    /// The latest claim known to have been released.
    released: Option<u32>,
    /// The claim that holds the socket back.
    waits_for: Option<u32>,
}

impl HeldBack {
    /// Creates the state, with no claim known yet.
    pub fn new(claims: Arc<Claims>) -> HeldBack {
        HeldBack { claims, sockets: NumberMap::default() }
    }

    /// Records the arrival of a submission.  True: nothing is sent on its socket until
    /// [`HeldBack::released`] returns true for it.  ENOMEM.
    pub fn arrived(&mut self, turn: Turn) -> Result<bool> {
        let Turn::HeldBack(Claim { cookie, number }) = turn else { return Ok(false) };
        let known = self.sockets.entry(cookie, Known::default())?;
        if known.released.is_some_and(|released| !is_later(number, released)) {
            return Ok(false);
        }
        known.waits_for = Some(number);
        Ok(true)
    }

    /// Records the notice of a release.  True: the socket was held back by this claim, and is no
    /// longer.  ENOMEM: submissions still to arrive would be held back indefinitely.
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

    /// Records the end of an operation.  Called before its DONE is reported, so that the caller may
    /// claim the socket after it.
    pub fn left(&mut self, cookie: u64) {
        if self.claims.leave(cookie) {
            self.sockets.remove(cookie);
        }
    }

    /// Forgets sockets whose last operation never arrived, and releases memory.
    pub fn shrink(&mut self) {
        let claims = &self.claims;
        self.sockets.retain(|cookie, _| claims.has_operations(cookie));
    }

    /// Returns whether nothing is remembered.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }
}

// Compares numbers of claims, which start again after the last one.
fn is_later(number: u32, than: u32) -> bool {
    number.wrapping_sub(than) as i32 > 0
}
