// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completions on their way from the ring thread to the thread that polls, and the bell that makes
//! the event descriptor readable.
//!
//! | event | transition |
//! |---|---|
//! | a permit is taken | [`Completions::secure`] |
//! | the ring thread has a batch | [`Completions::push`] |
//! | a caller polls | [`Completions::look`], or [`Completions::take`], which waits |
//! | its wait is over | [`Completions::end_wait`] |
//! | its thread is cancelled while it waits | [`Completions::abandon_wait`] |
//! | it could not clear the bell | [`Completions::owe_bell`] |
//! | a caller asks for the event descriptor | [`Completions::want_bell`] |
//! | the ring thread is asked to look | [`Completions::ring_for_waiting`] |
//! | the ring thread has been idle for a while | [`Completions::shrink`] |
//! | the ring thread ends | [`Completions::close`] |
#![forbid(unsafe_code)]

use crate::collections::Line;
use crate::handoff::sync::{AtomicBool, AtomicU32, Mutex, MutexGuard, Ordering};
use crate::sys;
use crate::types::completion::{Completion, CompletionFlags, Event};
use crate::types::errno::{Errno, Result};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// A completion in the queue.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The completion as poll returns it.
    pub completion: Completion,
    /// The cookie of the socket whose stream it reports as cut.
    pub cut: Option<NonZeroU64>,
}

/// An entry as the queue keeps it: 48 bytes.
#[derive(Clone, Copy, Debug)]
struct Packed {
    id: u64,
    user_data: u64,
    file_bytes: u64,
    wire_bytes: u64,
    cut: Option<NonZeroU64>,
    status: i32,
    flags: u32,
}

// Bits of the flags: the event is SNAPSHOT, or SENT.
const IS_SNAPSHOT: u32 = 1 << 31;
const IS_SENT: u32 = 1 << 30;

impl From<Entry> for Packed {
    fn from(Entry { completion, cut }: Entry) -> Packed {
        let Completion { id, user_data, file_bytes, wire_bytes, status, event, flags } = completion;
        let event = match event {
            Event::Done => 0,
            Event::Snapshot => IS_SNAPSHOT,
            Event::Sent => IS_SENT,
        };
        let flags = flags.bits() | event;
        Packed { id, user_data, file_bytes, wire_bytes, cut, status, flags }
    }
}

impl From<Packed> for Entry {
    fn from(packed: Packed) -> Entry {
        let Packed { id, user_data, file_bytes, wire_bytes, cut, status, flags } = packed;
        let event = match flags & (IS_SNAPSHOT | IS_SENT) {
            IS_SNAPSHOT => Event::Snapshot,
            IS_SENT => Event::Sent,
            _ => Event::Done,
        };
        let flags = CompletionFlags::from_bits_retain(flags & !(IS_SNAPSHOT | IS_SENT));
        let completion = Completion { id, user_data, file_bytes, wire_bytes, status, event, flags };
        Entry { completion, cut }
    }
}

/// The number of bytes in the event descriptor, which is written only if it has none.  A poll may
/// have to clear a byte that the ring thread has not written yet: that is a debt, which a later
/// poll clears.
#[derive(Debug, Default)]
struct Bell {
    /// The event descriptor has been requested.
    wanted: bool,
    /// A byte waits in the event descriptor, or will soon.
    rung: bool,
    /// Bytes that a later poll must clear.
    debt: u32,
}

#[derive(Debug, Default)]
struct State {
    queue: Line<Packed>,
    bell: Bell,
}

/// The queue of one context.
#[derive(Debug, Default)]
pub struct Completions {
    state: Mutex<State>,
    /// The number of completions for which there is room.
    room: AtomicU32,
    sequence: AtomicU32, // changes with every batch; a waiting poll sleeps on it
    /// Callers that are announced as waiting.
    waiting: AtomicU32,
    closed: AtomicBool,
}

impl Completions {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Makes room for `count` completions, so that [`Completions::push`] needs no memory.
    pub fn secure(&self, count: u32) -> Result<()> {
        if count <= self.room.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut state = self.lock();
        let secured = state.queue.reserve(count as usize);
        self.room.store(state.queue.room() as u32, Ordering::SeqCst);
        secured
    }

    /// Hands over a batch and wakes the callers that wait for it; completions without room stay in
    /// the batch.  True: the bell must be rung.
    #[must_use]
    pub fn push(&self, batch: &mut Vec<Entry>) -> bool {
        let mut state = self.lock();
        let before = state.queue.len();
        state.queue.append(batch);
        let count = (state.queue.len() - before) as u32;
        let ring = state.bell.wanted && !state.bell.rung;
        state.bell.rung |= ring;
        self.sequence.fetch_add(1, Ordering::SeqCst);
        drop(state);
        self.wake(count);
        ring
    }

    fn wake(&self, count: u32) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            sys::futex_wake(&self.sequence, count);
        }
    }

    /// Has the bell rung from now on.  True: completions wait already, so ring it now.
    pub fn want_bell(&self) -> bool {
        let mut state = self.lock();
        state.bell.wanted = true;
        !state.queue.is_empty() && !state.bell.rung
    }

    /// Returns to the ring thread whether the bell must be rung for completions that wait already.
    #[must_use]
    pub fn ring_for_waiting(&self) -> bool {
        let mut state = self.lock();
        let ring = state.bell.wanted && !state.bell.rung && !state.queue.is_empty();
        state.bell.rung |= ring;
        ring
    }

    /// Marks the end of completions, so that no caller waits for more.
    pub fn close(&self) {
        // Under the lock, or it could come between a poll's look at it and its announcement.
        let state = self.lock();
        self.closed.store(true, Ordering::SeqCst);
        self.sequence.fetch_add(1, Ordering::SeqCst);
        drop(state);
        self.wake(u32::MAX >> 1);
    }

    /// Returns whether [`Completions::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Takes up to `max` entries and waits for the first up to the timeout (None: indefinitely).
    /// Returns the count; EINTR: a signal handler ran.
    pub fn take(
        &self,
        max: usize,
        timeout: Option<Duration>,
        mut each: impl FnMut(Entry),
    ) -> Result<Taken> {
        let deadline = timeout.and_then(|time| Instant::now().checked_add(time));
        let mut waits = timeout != Some(Duration::ZERO);
        loop {
            let sequence = match self.look(max, waits, &mut each) {
                Look::Taken(taken) => return Ok(taken),
                Look::Empty { sequence } => sequence,
            };
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let woken = sys::futex_wait(&self.sequence, sequence, left);
            self.end_wait();
            match woken {
                Ok(()) => {}
                Err(Errno(libc::ETIMEDOUT)) => waits = deadline.is_none(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes up to `max` entries.  If there are none and the caller `waits`, it is announced as
    /// waiting: it sleeps while [`Completions::sequence`] has the given value, and then calls
    /// [`Completions::end_wait`].
    pub fn look(&self, max: usize, waits: bool, each: impl FnMut(Entry)) -> Look {
        let state = self.lock();
        if !state.queue.is_empty() || !waits || self.is_closed() {
            return Look::Taken(take_from(state, max, each));
        }
        // Announced before the lock is released, so that the next push sees it.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Look::Empty { sequence: self.sequence.load(Ordering::SeqCst) }
    }

    /// Returns the word that an announced caller sleeps on.
    pub fn sequence(&self) -> &AtomicU32 {
        &self.sequence
    }

    /// Ends the announcement of a caller that no longer sleeps.
    pub fn end_wait(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Ends the announcement of a caller whose thread was cancelled.  It may have been woken before
    /// in place of another, which is woken now.
    pub fn abandon_wait(&self) {
        self.end_wait();
        self.wake(1);
    }

    /// Records bytes of the bell that a poll could not clear, because they have not been written
    /// yet.
    pub fn owe_bell(&self, count: u32) {
        if count > 0 {
            self.lock().bell.debt += count;
        }
    }

    /// Returns whether no completion waits.
    pub fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Returns the number of completions for which there is room.
    #[cfg(test)]
    pub fn room(&self) -> u32 {
        self.room.load(Ordering::SeqCst)
    }

    /// Releases memory after a peak, unless operations rely on it.
    pub fn shrink(&self, secured: impl FnOnce() -> bool) {
        let mut state = self.lock();
        // A caller that secures room from here on finds none and waits for the lock.
        self.room.store(0, Ordering::SeqCst);
        if !secured() {
            state.queue.shrink();
        }
        self.room.store(state.queue.room() as u32, Ordering::SeqCst);
    }
}

/// The result of [`Completions::look`].
#[derive(Debug, Clone, Copy)]
pub enum Look {
    /// Entries were taken; or there were none, and the caller does not wait.
    Taken(Taken),
    /// There were no entries.
    Empty {
        /// The value of the word to sleep on.
        sequence: u32,
    },
}

/// The result of [`Completions::take`].
#[derive(Debug, Default, Clone, Copy)]
pub struct Taken {
    /// The number of entries.
    pub count: usize,
    /// The number of bytes of the bell to clear now.
    pub bell: u32,
}

fn take_from(mut state: MutexGuard<'_, State>, max: usize, mut each: impl FnMut(Entry)) -> Taken {
    let count = state.queue.drain(max, |packed| each(packed.into()));
    let mut bell = 0;
    if state.queue.is_empty() {
        bell = u32::from(state.bell.rung) + state.bell.debt;
        state.bell.rung = false;
        state.bell.debt = 0;
    }
    Taken { count, bell }
}
