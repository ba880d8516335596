// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library's own socket, between calling threads and the ring thread: notices go one way, the
//! bell that makes the event descriptor readable goes the other.
//!
//! A host may close descriptors that are not its own, and reuse the numbers for files of its own.
//! So the cookie of the calling threads' end is checked before each use.
//!
//! | event | transition |
//! |---|---|
//! | a calling thread has something for the ring thread | [`Port::notify`], [`Port::wake`] |
//! | the ring thread takes messages | [`Intake::receive`] |
//! | the ring thread has completions | [`Intake::ring_bell`] |
//! | poll has taken the last completion | [`Port::clear_bell`] |
//! | the calling threads' end is found closed | [`Port::number`], [`Intake::receive`] |
//! | the ring thread ends | [`Intake::receive_last`] |
#![forbid(unsafe_code)]

use crate::collections::memory;
use crate::handoff::claims::{Claim, Claimed};
use crate::handoff::doorbell::Found;
use crate::handoff::questions::Question;
use crate::handoff::shared::Shared;
use crate::handoff::submissions::{Arrival, Arrivals, IdRange, Submission};
use crate::sys;
use crate::types::errno::{Errno, Result};
use crate::types::handle::Handle;
use crate::types::stats::Counters;
use crossbeam_channel::Sender;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// A message on the library's own socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Notice {
    /// These submissions are in the channel; their descriptors come with the message.
    Submitted(IdRange),
    /// The question with this number waits for its answer.
    Asked(u64),
    /// A calling thread has released a socket, and submissions are held back.
    Released(Claim),
    /// A descriptor has been registered, and comes with the message.
    Registered(Registration),
    /// It has been unregistered.
    Unregistered(Registration),
    /// Look for changes: room in the channel or the bell is wanted, or [`Shared`] has changed.
    Look,
}

/// The kind and the handle of a registered descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Registration {
    File(Handle),
    Socket(Handle),
}

impl Registration {
    fn encode(self) -> (u32, u32) {
        match self {
            Registration::File(handle) => (0, handle.number()),
            Registration::Socket(handle) => (1, handle.number()),
        }
    }

    fn decode(kind: u32, number: u64) -> Option<Registration> {
        let handle = Handle::from_number(number as i32).ok()?;
        Some(if kind == 0 { Registration::File(handle) } else { Registration::Socket(handle) })
    }
}

const NOTICE_BYTES: usize = 24;

impl Notice {
    // `next_id`: the id that the next submission gets.
    fn encode(self, next_id: u64) -> [u8; NOTICE_BYTES] {
        let (kind, small, large): (u32, u32, u64) = match self {
            Notice::Submitted(IdRange { first, count }) => (1, count, first),
            Notice::Asked(number) => (2, 0, number),
            Notice::Released(Claim { cookie, number }) => (3, number, cookie),
            Notice::Look => (4, 0, 0),
            Notice::Registered(registration) => {
                let (kind, number) = registration.encode();
                (5, kind, number.into())
            }
            Notice::Unregistered(registration) => {
                let (kind, number) = registration.encode();
                (6, kind, number.into())
            }
        };
        let mut bytes = [0; NOTICE_BYTES];
        bytes[..4].copy_from_slice(&kind.to_ne_bytes());
        bytes[4..8].copy_from_slice(&small.to_ne_bytes());
        bytes[8..16].copy_from_slice(&large.to_ne_bytes());
        bytes[16..].copy_from_slice(&next_id.to_ne_bytes());
        bytes
    }

    fn decode(bytes: &[u8; NOTICE_BYTES]) -> Option<(Notice, u64)> {
        let word = |at: usize| bytes[at..at + 4].try_into().map(u32::from_ne_bytes);
        let long = |at: usize| bytes[at..at + 8].try_into().map(u64::from_ne_bytes);
        let (kind, small) = (word(0).ok()?, word(4).ok()?);
        let (large, next_id) = (long(8).ok()?, long(16).ok()?);
        let notice = match kind {
            1 => Some(Notice::Submitted(IdRange { first: large, count: small })),
            2 => Some(Notice::Asked(large)),
            3 => Some(Notice::Released(Claim { cookie: large, number: small })),
            4 => Some(Notice::Look),
            5 => Registration::decode(small, large).map(Notice::Registered),
            6 => Registration::decode(small, large).map(Notice::Unregistered),
            _ => None,
        };
        Some((notice?, next_id))
    }
}

/// The calling threads' end.
#[derive(Debug)]
pub(crate) struct Port {
    shared: Arc<Shared>,
    /// The only descriptor in the host's table.  None only while this is dropped.
    own: Option<OwnedFd>,
    cookie: u64,
    /// None only in a forked child, while this is dropped.
    channel: Option<Sender<Submission>>,
}

impl Port {
    /// Creates the calling threads' end, from its ends of the socket and of the channel.
    pub fn new(shared: Arc<Shared>, own: OwnedFd, channel: Sender<Submission>) -> Result<Port> {
        let cookie = sys::socket_cookie(sys::number(&own))?;
        Ok(Port { shared, own: Some(own), cookie, channel: Some(channel) })
    }

    /// Returns the descriptor, for a caller that waits for completions.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_ref().expect("taken when the context is dropped").as_fd()
    }

    /// Returns the descriptor's number, if it is still the library's.  EBADF: the host has closed
    /// it, and the context is unusable.
    pub fn number(&self) -> Result<RawFd> {
        let number = self.own.as_ref().map_or(-1, sys::number);
        if sys::socket_cookie(number) == Ok(self.cookie) {
            return Ok(number);
        }
        self.die(libc::EBADF);
        Err(Errno(libc::EBADF))
    }

    /// Makes the context unusable, and wakes the ring thread.
    pub fn die(&self, errno: i32) {
        self.shared.life.die(errno);
        self.wake();
    }

    /// Wakes the ring thread, if it sleeps.  One that waits for the kernel needs a message.
    pub fn wake(&self) {
        if self.shared.link.doorbell.wake() {
            Counters::add(&self.shared.counters.wakeups, 1);
        }
    }

    /// Has the ring thread look for submissions without a notice.
    pub fn nudge(&self) {
        match self.shared.link.doorbell.ring() {
            Found::Awake => {}
            Found::Asleep => Counters::add(&self.shared.counters.wakeups, 1),
            Found::InKernel => self.notify_surely(Notice::Look),
        }
    }

    // Sends a notice that must not be lost: retried while there is no memory for the message.
    fn notify_surely(&self, notice: Notice) {
        for _ in 0..1000 {
            if self.notify(notice, &[]).is_ok() || self.shared.life.alive().is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends a notice with descriptors, and wakes the ring thread.
    pub fn notify(&self, notice: Notice, fds: &[RawFd]) -> Result<()> {
        let own = self.number()?;
        let message = notice.encode(self.shared.cuts.next_id());
        let sent = sys::send_descriptors(own, &message, fds);
        self.wake();
        sent
    }

    /// Puts a submission in the channel, by `HandOver::push`.
    #[must_use]
    pub fn push(&self, submission: Submission) -> Option<(Errno, Submission)> {
        let Some(channel) = &self.channel else {
            return Some((Errno(libc::EBADF), submission));
        };
        let Shared { link, life, .. } = &*self.shared;
        link.hand_over.push(submission, channel, life, || {
            let _ = self.notify(Notice::Look, &[]);
        })
    }

    /// Sends the notice of submissions that have been put in the channel, with those of their
    /// descriptors that are not registered.  If that fails, the ring thread gives back what they
    /// took.
    pub fn announce(&self, ids: IdRange, fds: &[RawFd]) -> Result<()> {
        let Err(error) = self.notify(Notice::Submitted(ids), fds) else { return Ok(()) };
        let Shared { link, life, .. } = &*self.shared;
        while !link.hand_over.withdraw(ids) && life.alive().is_ok() {
            self.wake();
            std::thread::yield_now();
        }
        let _ = self.notify(Notice::Look, &[]);
        // If the context is unusable, its own error counts, not the socket's.
        life.alive()?;
        Err(error)
    }

    /// Releases a socket, and sends the notice if submissions are held back.
    pub fn release(&self, claimed: Claimed) {
        if let Some(claim) = self.shared.claims.release(claimed) {
            self.notify_surely(Notice::Released(claim));
        }
    }

    /// Hands a registered descriptor over.
    pub fn register(&self, registration: Registration, number: RawFd) -> Result<()> {
        let hand_over = &self.shared.link.hand_over;
        hand_over.registers();
        let sent = self.notify(Notice::Registered(registration), &[number]);
        sent.inspect_err(|_| hand_over.not_registered())
    }

    /// Has the ring thread close a registered descriptor once no operation uses it.
    pub fn unregister(&self, registration: Registration) {
        self.notify_surely(Notice::Unregistered(registration));
    }

    /// Sends a question to the ring thread, and waits for its answer.
    pub fn ask(&self, question: Question) -> Result<u32> {
        let Shared { link, life, .. } = &*self.shared;
        life.alive()?;
        let answer = link.questions.ask(question, |number| self.notify(Notice::Asked(number), &[]));
        if answer.is_err() {
            life.alive()?;
        }
        answer
    }

    /// Sends a question to the ring thread without waiting for its answer.
    #[cfg(feature = "futures")]
    pub fn ask_only(&self, question: Question) -> Result<()> {
        let Shared { link, life, .. } = &*self.shared;
        life.alive()?;
        let notify = |number| self.notify(Notice::Asked(number), &[]);
        link.questions.ask_only(question, notify).map(|_| ())
    }

    /// Clears `count` bytes of the bell; those not written yet are owed.
    pub fn clear_bell(&self, count: u32) {
        if let Ok(own) = self.number() {
            let cleared = sys::clear_bell(own, count);
            self.shared.completions.owe_bell(count - cleared);
        }
    }

    /// Has the ring thread notice that the context is shut down.
    pub fn end(&self) {
        let _ = self.notify(Notice::Look, &[]);
    }

    /// Leaves everything to the parent, in a forked child: the ring thread exists only there, and
    /// its share of the memory stays in the state in which fork found it.
    pub fn leave_to_parent(&mut self) {
        std::mem::forget(self.channel.take());
        std::mem::forget(self.shared.clone());
    }
}

impl Drop for Port {
    // Closes the descriptor, unless its number is no longer the library's.
    fn drop(&mut self) {
        let Some(own) = self.own.take() else { return };
        if sys::socket_cookie(sys::number(&own)) != Ok(self.cookie) {
            sys::abandon(own);
        }
    }
}

/// The ring thread's end.
#[derive(Debug)]
pub(crate) struct Intake {
    shared: Arc<Shared>,
    own: OwnedFd,
    arrivals: Arrivals,
    /// Descriptors of the message that was received last, and the id that was next when it was
    /// sent.
    descriptors: Vec<OwnedFd>,
    next_id: u64,
    /// The calling threads' end has been closed, or is unusable.
    hung_up: bool,
    /// The bell must be rung, but the kernel had no memory for it.
    bell_owed: bool,
}

/// The result of [`Intake::receive`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Received {
    Notice(Notice),
    /// No message waits.
    Nothing,
    /// No message will follow.
    HungUp,
}

impl Intake {
    /// Creates the ring thread's end, from its ends of the socket and of the channel.
    pub fn new(shared: Arc<Shared>, own: OwnedFd, arrivals: Arrivals) -> Result<Intake> {
        let descriptors = memory::list(sys::MESSAGE_FDS_MAX + 1)?;
        let (next_id, hung_up, bell_owed) = (0, false, false);
        Ok(Intake { shared, own, arrivals, descriptors, next_id, hung_up, bell_owed })
    }

    /// Returns the descriptor's number.
    pub fn number(&self) -> RawFd {
        sys::number(&self.own)
    }

    /// Returns whether the calling threads' end was found closed.
    pub fn has_hung_up(&self) -> bool {
        self.hung_up
    }

    /// Takes the next message.
    pub fn receive(&mut self) -> Received {
        loop {
            self.descriptors.clear();
            let mut bytes = [0u8; NOTICE_BYTES];
            match sys::receive_descriptors(self.number(), &mut bytes, &mut self.descriptors) {
                Ok(true) => {
                    if let Some((notice, next_id)) = Notice::decode(&bytes) {
                        self.next_id = next_id;
                        return Received::Notice(notice);
                    }
                }
                Err(Errno(libc::EINTR)) => {}
                Err(Errno(libc::EAGAIN)) => return Received::Nothing,
                Ok(false) | Err(_) => {
                    self.hung_up = true;
                    self.shared.life.die(libc::EBADF);
                    return Received::HungUp;
                }
            }
        }
    }

    /// Makes later notices fail.
    pub fn refuse(&self) {
        sys::refuse_messages(self.number());
    }

    /// Takes the next message after [`Intake::refuse`]; None: there are no more.
    pub fn receive_last(&mut self) -> Option<Notice> {
        loop {
            self.descriptors.clear();
            let mut bytes = [0u8; NOTICE_BYTES];
            let own = self.number();
            match sys::receive_descriptors(own, &mut bytes, &mut self.descriptors) {
                Err(Errno(libc::EINTR)) => continue,
                Ok(true) => {}
                Ok(false) => return None,
                // There is no memory, for descriptors for example; the DONE is owed all the same.
                Err(_) if sys::read_message(own, &mut bytes) => {}
                Err(_) => return None,
            }
            if let Some((notice, next_id)) = Notice::decode(&bytes) {
                self.next_id = next_id;
                return Some(notice);
            }
        }
    }

    /// Takes the submissions that the last notice names.
    pub fn each_submitted(&mut self, ids: IdRange, each: impl FnMut(Arrival)) {
        self.arrivals.each(ids, self.next_id, self.descriptors.drain(..), each);
    }

    /// Takes the submissions that need no notice and came before the last message.
    pub fn catch_up(&mut self, each: impl FnMut(Arrival)) {
        self.arrivals.catch_up(self.next_id, each);
    }

    /// Takes the submissions without a notice that came until now; all messages have been read.
    pub fn catch_up_with_all(&mut self, next_id: u64, each: impl FnMut(Arrival)) {
        self.arrivals.catch_up(next_id, each);
    }

    /// See [`Arrivals::has_unannounced`].
    pub fn has_unannounced(&self) -> bool {
        self.arrivals.has_unannounced()
    }

    /// Takes submissions without a notice, see [`Arrivals::pop`].  Some: others wait until all
    /// messages have been read; the id is for [`Intake::catch_up_with_all`].
    pub fn pop(&mut self, each: impl FnMut(Arrival)) -> Option<u64> {
        let some_wait = self.arrivals.pop(&self.shared.link.hand_over, each);
        some_wait.then(|| self.shared.cuts.next_id())
    }

    /// Takes the descriptor that came with the last message, to be registered.
    pub fn take_registered(&mut self) -> Option<OwnedFd> {
        self.arrivals.registered();
        self.descriptors.pop()
    }

    /// Takes the submissions whose notice could not be sent.
    pub fn each_withdrawn(&mut self, each: impl FnMut(Arrival)) {
        if self.shared.link.hand_over.has_withdrawn() {
            self.arrivals.each_withdrawn(&self.shared.link.hand_over, each);
        }
    }

    /// Carries out [`Notice::Look`].
    pub fn look(&mut self) {
        self.arrivals.make_way(&self.shared.link.hand_over);
        if self.shared.completions.ring_for_waiting() {
            self.ring_bell();
        }
    }

    /// Makes the event descriptor readable.
    pub fn ring_bell(&mut self) {
        self.bell_owed = !self.hung_up && !sys::ring_bell(self.number());
    }

    /// Returns whether the bell could not be rung and must be tried again.
    pub fn is_bell_owed(&self) -> bool {
        self.bell_owed
    }

    /// Releases memory after a peak.
    pub fn shrink(&mut self) {
        self.arrivals.shrink();
    }
}
