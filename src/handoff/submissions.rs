// SPDX-License-Identifier: MIT OR Apache-2.0
//! Submissions on their way from calling threads to the ring thread.
//!
//! A submission goes through a channel, and then a notice with its descriptors over the library's
//! own socket: so everything that a notice names has arrived already.  One whose descriptors are all
//! registered needs no notice.
//!
//! A thread's submissions must be taken in its order, with a notice or without.  Every message
//! states the id that was next when it was sent.  A submission with a smaller id had its id by then,
//! so all messages that its thread had sent before it have been read: if it needs no notice, it is
//! taken.
//!
//! | event | transition |
//! |---|---|
//! | a calling thread hands one over | [`HandOver::push`], which asks for room if there is none |
//! | the notice cannot be sent | [`HandOver::withdraw`] |
//! | the ring thread reads the notice | [`Arrivals::each`] |
//! | the ring thread reads any message | [`Arrivals::catch_up`] |
//! | the ring thread looks for those without a notice | [`Arrivals::pop`] |
//! | the ring thread is asked for room | [`Arrivals::make_way`] |
//! | the ring thread begins a round | [`Arrivals::each_withdrawn`] |
//! | a calling thread registers a descriptor | [`HandOver::registers`], [`HandOver::not_registered`] |
//! | the ring thread receives it | [`Arrivals::registered`] |
#![forbid(unsafe_code)]

use crate::collections::{Line, memory};
use crate::decide::operation::Operation;
use crate::handoff::claims::Turn;
use crate::handoff::life::Life;
use crate::handoff::reply::Reply;
use crate::handoff::staging::Staged;
use crate::sys;
use crate::types::completion::Completion;
use crate::types::errno::{Errno, Result};
use crate::types::file::FileFacts;
use crate::types::handle::Handle;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// The place where a caller waits for the completion of its operation alone.
pub(crate) type Answer = Reply<Result<Completion>>;

/// The handles of an operation's descriptors; None: it is not registered, or there is none.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Handles {
    pub socket: Option<Handle>,
    pub file: Option<Handle>,
}

/// One operation in transit to the ring thread; its descriptors are sent beside it.
#[derive(Debug)]
pub(crate) struct Submission {
    pub id: u64,
    pub cookie: u64,
    pub user_data: u64,
    /// Begun already if the calling thread has sent a part.
    pub operation: Operation,
    pub staged: Staged,
    pub file: Option<FileFacts>,
    /// The handles of socket and file, if they are registered.
    pub registered: Handles,
    /// A notice follows, with the descriptors of those not registered.
    pub is_announced: bool,
    /// When the operation ends with ETIMEDOUT; None: never.
    pub deadline: Option<Instant>,
    /// Where one caller waits for the completion; None: it goes to the queue.
    pub reply: Option<Arc<Answer>>,
    /// Its place among the submissions for the same socket.
    pub turn: Turn,
}

impl Submission {
    /// Returns how many descriptors are sent with it.
    pub fn descriptor_count(&self) -> u32 {
        let Handles { socket, file } = self.registered;
        u32::from(socket.is_none()) + u32::from(self.file.is_some() && file.is_none())
    }
}

impl Drop for Submission {
    // Answers the caller that waits: whatever happens to a submission, no caller waits
    // indefinitely.
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply.give(Err(Errno(libc::ECANCELED)));
        }
    }
}

/// The most submissions of one message: two descriptors each, and SCM_MAX_FD is 253.
pub(crate) const GROUP_MAX: usize = sys::MESSAGE_FDS_MAX / 2;

/// How many submissions the channel holds before the ring thread must make room: one group.
const QUEUED_MAX: usize = 128;

/// Creates both ends of the channel of a context for up to `max_ops` operations.
pub(crate) fn channel(max_ops: u32) -> Result<(Sender<Submission>, Arrivals)> {
    let (sender, channel) = bounded(QUEUED_MAX.min(GROUP_MAX + max_ops as usize));
    let mut waiting = Line::default();
    waiting.reserve(1)?;
    Ok((sender, Arrivals { channel, waiting, unannounced: 0, registrations: 0 }))
}

/// Ids of consecutive submissions: the first, and how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IdRange {
    pub first: u64,
    pub count: u32,
}

impl IdRange {
    fn all(self) -> impl Iterator<Item = u64> {
        self.first..self.first + u64::from(self.count)
    }
}

/// The state that both ends share beside the channel.
#[derive(Debug, Default)]
pub(crate) struct HandOver {
    /// The ring thread has no memory for more submissions than the channel holds.
    is_stuck: AtomicBool,
    /// Submissions whose notice could not be sent.
    withdrawn: Mutex<Vec<IdRange>>,
    has_withdrawn: AtomicBool,
    /// How many descriptors have been sent to be registered, or are about to be.
    registrations: AtomicU32,
}

impl HandOver {
    fn withdrawn(&self) -> MutexGuard<'_, Vec<IdRange>> {
        self.withdrawn.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Puts a submission in the channel.  If that is full, `ask_for_room` requests room from the
    /// ring thread.  Some: the submission that could not be handed over, and why: ENOMEM, or the
    /// error of an unusable context.
    #[must_use]
    pub fn push(
        &self,
        mut submission: Submission,
        channel: &Sender<Submission>,
        life: &Life,
        ask_for_room: impl Fn(),
    ) -> Option<(Errno, Submission)> {
        loop {
            submission = match channel.try_send(submission) {
                Ok(()) => return None,
                Err(TrySendError::Disconnected(back)) => {
                    life.die(libc::EBADF);
                    return Some((Errno(libc::EBADF), back));
                }
                Err(TrySendError::Full(back)) => back,
            };
            ask_for_room();
            if let Err(error) = life.alive() {
                return Some((error, submission));
            }
            if self.is_stuck.swap(false, Ordering::SeqCst) {
                return Some((Errno(libc::ENOMEM), submission));
            }
            std::thread::yield_now();
        }
    }

    /// Withdraws submissions that are in the channel.  This is not a notice, because it is needed
    /// when notices cannot be sent.  False: there is no memory until the ring thread has taken
    /// earlier ones.
    #[must_use]
    pub fn withdraw(&self, ids: IdRange) -> bool {
        let mut withdrawn = self.withdrawn();
        let has_room = memory::reserve(&mut withdrawn, 1).is_ok();
        if has_room {
            withdrawn.push(ids);
            self.has_withdrawn.store(true, Ordering::SeqCst);
        }
        has_room
    }

    /// Returns whether there are submissions for [`Arrivals::each_withdrawn`].
    pub fn has_withdrawn(&self) -> bool {
        self.has_withdrawn.load(Ordering::SeqCst)
    }

    /// Records that a descriptor is about to be sent to be registered: counted afterwards, the ring
    /// thread could take another thread's for it.
    pub fn registers(&self) {
        self.registrations.fetch_add(1, Ordering::SeqCst);
    }

    /// Records that a descriptor could not be sent.
    pub fn not_registered(&self) {
        self.registrations.fetch_sub(1, Ordering::SeqCst);
    }

    fn take_withdrawn(&self) -> Vec<IdRange> {
        self.has_withdrawn.store(false, Ordering::SeqCst);
        std::mem::take(&mut self.withdrawn())
    }
}

/// A submission that has reached the ring thread.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// With the ring thread's copies of the descriptors of its socket and its file, as far as they
    /// are not registered.
    Whole(Submission, Option<OwnedFd>, Option<OwnedFd>),
    /// Its notice could not be sent, and its caller knows.
    Withdrawn(Submission),
    /// There was no memory for it, so it is not known which descriptors are its own.
    Refused(Submission),
}

/// The ring thread's end.
#[derive(Debug)]
pub(crate) struct Arrivals {
    channel: Receiver<Submission>,
    /// Submissions of other threads whose notice has not arrived, and those popped behind them.
    waiting: Line<Submission>,
    /// How many of `waiting` need no notice.
    unannounced: usize,
    /// How many descriptors to be registered have been received.
    registrations: u32,
}

impl Arrivals {
    /// Takes the submissions that a notice names, with the descriptors that came with it, and before
    /// them those that need no notice and came before it.  `next_id`: what the message states.
    pub fn each(
        &mut self,
        ids: IdRange,
        next_id: u64,
        mut descriptors: impl Iterator<Item = OwnedFd>,
        mut each: impl FnMut(Arrival),
    ) {
        let mut is_whole = true;
        self.take_unannounced(next_id, &mut each);
        for id in ids.all() {
            let Some(submission) = self.take(id, next_id, &mut each) else {
                is_whole = false;
                continue;
            };
            if !is_whole {
                // Those refused before had descriptors as well.
                each(Arrival::Refused(submission));
                continue;
            }
            let wants_socket = submission.registered.socket.is_none();
            let wants_file = submission.file.is_some() && submission.registered.file.is_none();
            let socket = if wants_socket { descriptors.next() } else { None };
            let file = if wants_file { descriptors.next() } else { None };
            each(Arrival::Whole(submission, socket, file));
        }
    }

    /// Takes the submissions that have been withdrawn.
    pub fn each_withdrawn(&mut self, hand_over: &HandOver, mut each: impl FnMut(Arrival)) {
        for ids in hand_over.take_withdrawn() {
            for id in ids.all() {
                if let Some(submission) = self.take(id, 0, &mut each) {
                    each(Arrival::Withdrawn(submission));
                }
            }
        }
    }

    // Takes the submission with this id, usually the first one.  Those ahead of it are taken if they
    // need no notice and have an id below `next_id`; otherwise they are kept, or refused if there is
    // no memory for that.
    fn take(
        &mut self,
        id: u64,
        next_id: u64,
        each: &mut impl FnMut(Arrival),
    ) -> Option<Submission> {
        if let Some(found) = self.waiting.take(|submission| submission.id == id) {
            return Some(found);
        }
        loop {
            let submission = self.channel.try_recv().ok()?;
            if submission.id == id {
                return Some(submission);
            }
            match !submission.is_announced && submission.id < next_id {
                true => each(Arrival::Whole(submission, None, None)),
                false => self.keep_or_refuse(submission, each),
            }
        }
    }

    fn keep_or_refuse(&mut self, submission: Submission, each: &mut impl FnMut(Arrival)) {
        match self.waiting.reserve(self.waiting.len() + 1) {
            Ok(()) => self.keep(submission),
            Err(_) => each(Arrival::Refused(submission)),
        }
    }

    /// Takes those that need no notice and came before a message that states this id.
    pub fn catch_up(&mut self, next_id: u64, mut each: impl FnMut(Arrival)) {
        while let Ok(submission) = self.channel.try_recv() {
            self.keep_or_refuse(submission, &mut each);
        }
        self.take_unannounced(next_id, &mut each);
    }

    fn take_unannounced(&mut self, next_id: u64, each: &mut impl FnMut(Arrival)) {
        while self.unannounced > 0 {
            let is_due = |waiting: &Submission| !waiting.is_announced && waiting.id < next_id;
            let Some(submission) = self.waiting.take(is_due) else { return };
            self.unannounced -= 1;
            each(Arrival::Whole(submission, None, None));
        }
    }

    /// Records that a descriptor to be registered has been received.
    pub fn registered(&mut self) {
        self.registrations = self.registrations.wrapping_add(1);
    }

    /// Returns whether submissions that need no notice may wait.
    pub fn has_unannounced(&self) -> bool {
        self.unannounced > 0 || !self.channel.is_empty()
    }

    /// Takes those that need no notice and cannot be behind an unread message.  True: others wait
    /// until all messages that have been sent so far are read.
    pub fn pop(&mut self, hand_over: &HandOver, mut each: impl FnMut(Arrival)) -> bool {
        while let Ok(submission) = self.channel.try_recv() {
            let is_first = !submission.is_announced
                && self.waiting.is_empty()
                && hand_over.registrations.load(Ordering::SeqCst) == self.registrations;
            match is_first {
                true => each(Arrival::Whole(submission, None, None)),
                false => self.keep_or_refuse(submission, &mut each),
            }
        }
        self.unannounced > 0
    }

    /// Empties the channel into `waiting`, or reports that there is no memory for it.
    pub fn make_way(&mut self, hand_over: &HandOver) {
        let is_empty = self.empty_channel();
        hand_over.is_stuck.store(!is_empty, Ordering::SeqCst);
    }

    fn empty_channel(&mut self) -> bool {
        while !self.channel.is_empty() {
            if self.waiting.reserve(self.waiting.len() + 1).is_err() {
                return false;
            }
            if let Ok(submission) = self.channel.try_recv() {
                self.keep(submission);
            }
        }
        true
    }

    fn keep(&mut self, submission: Submission) {
        self.unannounced += usize::from(!submission.is_announced);
        let _ = self.waiting.push(submission); // there is room
    }

    /// Releases memory after a peak.
    pub fn shrink(&mut self) {
        self.waiting.shrink();
    }
}
