// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes from callers to the ring thread: submissions, questions, and the notices of both that
//! travel over the library's own socket.
#![forbid(unsafe_code)]

use crate::collections::{Line, memory};
use crate::decide::operation::Operation;
use crate::handoff::claims::Turn;
use crate::handoff::reply::Reply;
use crate::handoff::staging::Staged;
use crate::sys;
use crate::types::completion::Completion;
use crate::types::errno::{Errno, Result};
use crate::types::file::FileFacts;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// Where a caller waits for the completion of its operation alone.
pub(crate) type Answer = Reply<Result<Completion>>;

/// One operation on its way to the ring thread; its descriptors travel beside it.
#[derive(Debug)]
pub(crate) struct Submission {
    pub id: u64,
    pub cookie: u64,
    pub user_data: u64,
    /// Begun already if the calling thread has sent a part.
    pub operation: Operation,
    pub staged: Staged,
    pub file: Option<FileFacts>,
    pub deadline: Option<Instant>,
    pub reply: Option<Arc<Answer>>,
    /// Its place among those for the same socket.
    pub turn: Turn,
}

impl Submission {
    /// The descriptors that travel with it.
    pub fn descriptor_count(&self) -> u32 {
        1 + u32::from(self.file.is_some())
    }

    /// Whether room for a SNAPSHOT was taken with its permit, and is still held.
    pub fn owes_snapshot(&self) -> bool {
        self.operation.owes_snapshot()
    }
}

impl Drop for Submission {
    // Whatever happens to it, nobody waits for ever.
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply.give(Err(Errno(libc::ECANCELED)));
        }
    }
}

/// The most submissions that one message brings: two descriptors each, and SCM_MAX_FD is 253.
pub(crate) const GROUP_MAX: usize = sys::MESSAGE_FDS_MAX / 2;

/// How many submissions the hand-over takes before the ring thread must make way: one group.
const QUEUED_MAX: usize = 128;

/// The hand-over of a context for up to `max_ops` operations: both ends.
pub(crate) fn hand_over(max_ops: u32) -> Result<(Sender<Submission>, Arrivals)> {
    let (sender, channel) = bounded(QUEUED_MAX.min(GROUP_MAX + max_ops as usize));
    let mut waiting = Line::default();
    waiting.reserve(1)?;
    Ok((sender, Arrivals { channel, waiting }))
}

/// Submissions on their way, as the ring thread has them.
#[derive(Debug)]
pub(crate) struct Arrivals {
    channel: Receiver<Submission>,
    /// Those that others have handed over, whose message is still to come.
    waiting: Line<Submission>,
}

impl Arrivals {
    /// Takes the one with this id, which is the first as a rule.  Those ahead of it for which there
    /// is no memory go to `refuse`.
    pub fn take(&mut self, id: u64, mut refuse: impl FnMut(Submission)) -> Option<Submission> {
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
                Err(_) => refuse(submission),
            }
        }
    }

    /// Empties the channel; false: there is no memory for that.
    pub fn make_way(&mut self) -> bool {
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
        let _ = self.waiting.push(submission); // for which there is room
    }

    /// Gives memory back after a peak.
    pub fn shrink(&mut self) {
        self.waiting.shrink();
    }
}

/// A question to the ring thread.
#[derive(Debug)]
pub(crate) enum Question {
    Cancel(u64),
    CancelSocket(u64),
}

/// A question and where its answer goes; dropped unanswered it says that the context is dead.
#[derive(Debug)]
pub(crate) struct Asked {
    number: u64,
    pub question: Question,
    pub reply: Arc<Reply<Result<u32>>>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.reply.give(Err(Errno(libc::ECANCELED)));
    }
}

/// Questions on their way.  A notice says which one is meant, so that one whose notice could not
/// be sent does not take another's answer.
#[derive(Debug, Default)]
pub(crate) struct Questions(Mutex<QuestionState>);

#[derive(Debug, Default)]
struct QuestionState {
    waiting: Vec<Asked>,
    next: u64,
    closed: bool,
}

impl Questions {
    fn lock(&self) -> MutexGuard<'_, QuestionState> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Its number, and where the answer will be.  EBADF: nobody is there to answer; ENOMEM.
    pub fn put(&self, question: Question) -> Result<(u64, Arc<Reply<Result<u32>>>)> {
        let mut state = self.lock();
        if state.closed {
            return Err(Errno(libc::EBADF));
        }
        memory::check()?;
        memory::reserve(&mut state.waiting, 1)?;
        let (number, reply) = (state.next, Arc::new(Reply::default()));
        state.next += 1;
        state.waiting.push(Asked { number, question, reply: reply.clone() });
        Ok((number, reply))
    }

    /// Takes the one with this number out.
    pub fn take(&self, number: u64) -> Option<Asked> {
        let mut state = self.lock();
        let index = state.waiting.iter().position(|asked| asked.number == number)?;
        Some(state.waiting.swap_remove(index))
    }

    /// Nobody answers any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting = Vec::new();
    }
}

/// What a message on the library's own socket says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Notice {
    /// `count` submissions from id `first` on; their descriptors come with the message.
    Submitted = 1,
    /// The question with the number `first` waits.
    Asked = 2,
    /// A calling thread has released a socket: `first` is the cookie, `count` the number of the claim.
    Released = 3,
    /// Something else wants to be looked at.
    Look = 4,
}

pub(crate) const NOTICE_BYTES: usize = 16;

impl Notice {
    pub fn encode(self, count: u32, first: u64) -> [u8; NOTICE_BYTES] {
        let mut bytes = [0; NOTICE_BYTES];
        bytes[..4].copy_from_slice(&(self as u32).to_ne_bytes());
        bytes[4..8].copy_from_slice(&count.to_ne_bytes());
        bytes[8..].copy_from_slice(&first.to_ne_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; NOTICE_BYTES]) -> Option<(Notice, u32, u64)> {
        let word = |at: usize| bytes[at..at + 4].try_into().map(u32::from_ne_bytes);
        let notice = match word(0).ok()? {
            1 => Notice::Submitted,
            2 => Notice::Asked,
            3 => Notice::Released,
            4 => Notice::Look,
            _ => return None,
        };
        let first = bytes[8..].try_into().map(u64::from_ne_bytes).ok()?;
        Some((notice, word(4).ok()?, first))
    }
}
