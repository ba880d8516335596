// SPDX-License-Identifier: MIT OR Apache-2.0
//! Submissions on their way from calling threads to the ring thread.
//!
//! A submission goes through a channel, and then a notice with its descriptors over the library's
//! own socket: so everything that a notice names has arrived already.
//!
//! | event | transition |
//! |---|---|
//! | a calling thread hands one over | [`HandOver::push`], which asks for room if there is none |
//! | the notice cannot be sent | [`HandOver::withdraw`] |
//! | the ring thread reads the notice | [`Arrivals::each`] |
//! | the ring thread is asked for room | [`Arrivals::make_way`] |
//! | the ring thread begins a round | [`Arrivals::each_withdrawn`] |
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
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// The place where a caller waits for the completion of its operation alone.
pub(crate) type Answer = Reply<Result<Completion>>;

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
        1 + u32::from(self.file.is_some())
    }

    /// Returns whether room for a SNAPSHOT was taken with its permit, and is still held.
    pub fn owes_snapshot(&self) -> bool {
        self.operation.owes_snapshot()
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
    Ok((sender, Arrivals { channel, waiting }))
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

    fn take_withdrawn(&self) -> Vec<IdRange> {
        self.has_withdrawn.store(false, Ordering::SeqCst);
        std::mem::take(&mut self.withdrawn())
    }
}

/// A submission that has reached the ring thread.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// With the ring thread's copies of the descriptors of its socket and its file.
    Whole(Submission, Option<OwnedFd>, Option<OwnedFd>),
    /// There was no memory for it, so it is not known which descriptors are its own.
    Refused(Submission),
}

/// The ring thread's end.
#[derive(Debug)]
pub(crate) struct Arrivals {
    channel: Receiver<Submission>,
    /// Submissions of other threads whose notice has not arrived.
    waiting: Line<Submission>,
}

impl Arrivals {
    /// Takes the submissions that a notice names, with the descriptors that came with it.
    pub fn each(
        &mut self,
        ids: IdRange,
        mut descriptors: impl Iterator<Item = OwnedFd>,
        mut each: impl FnMut(Arrival),
    ) {
        let mut is_whole = true;
        for id in ids.all() {
            let Some(submission) = self.take(id, &mut each) else {
                is_whole = false;
                continue;
            };
            if !is_whole {
                // Those refused before had descriptors as well.
                each(Arrival::Refused(submission));
                continue;
            }
            let wants_file = submission.file.is_some();
            let socket = descriptors.next();
            let file = if wants_file { descriptors.next() } else { None };
            each(Arrival::Whole(submission, socket, file));
        }
    }

    /// Takes the submissions that have been withdrawn.
    pub fn each_withdrawn(&mut self, hand_over: &HandOver, mut each: impl FnMut(Arrival)) {
        for ids in hand_over.take_withdrawn() {
            for id in ids.all() {
                if let Some(submission) = self.take(id, &mut each) {
                    each(Arrival::Whole(submission, None, None));
                }
            }
        }
    }

    // Takes the submission with this id, usually the first one.  Those ahead of it are kept, or
    // refused if there is no memory for that.
    fn take(&mut self, id: u64, each: &mut impl FnMut(Arrival)) -> Option<Submission> {
        if let Some(found) = self.waiting.take(|submission| submission.id == id) {
            return Some(found);
        }
        loop {
            let submission = self.channel.try_recv().ok()?;
            if submission.id == id {
                return Some(submission);
            }
            match self.waiting.reserve(self.waiting.len() + 1) {
                Ok(()) => self.keep(submission),
                Err(_) => each(Arrival::Refused(submission)),
            }
        }
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
        let _ = self.waiting.push(submission); // there is room
    }

    /// Releases memory after a peak.
    pub fn shrink(&mut self) {
        self.waiting.shrink();
    }
}
