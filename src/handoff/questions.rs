// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions of callers that the ring thread answers: cancellations of an operation or of a socket.
//!
//! | event | transition |
//! |---|---|
//! | a caller asks | [`Questions::ask`], which sends a notice and waits; [`Questions::ask_only`] |
//! | the ring thread reads the notice | [`Questions::answer`] |
//! | the ring thread ends | [`Questions::close`] |
#![forbid(unsafe_code)]

use crate::collections::memory;
use crate::handoff::reply::Reply;
use crate::types::errno::{Errno, Result};
use std::sync::{Arc, Mutex, MutexGuard};

/// A question to the ring thread.
#[derive(Debug)]
pub(crate) enum Question {
    Cancel(u64),
    CancelSocket(u64),
}

pub(crate) type Answer = Reply<Result<u32>>;

/// A question and its reply, which is ECANCELED if the question is dropped unanswered.
#[derive(Debug)]
struct Asked {
    number: u64,
    question: Question,
    reply: Arc<Answer>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.reply.give(Err(Errno(libc::ECANCELED)));
    }
}

/// The questions that wait.  A notice names its question, so that one whose notice could not be
/// sent does not take another's answer.
#[derive(Debug, Default)]
pub(crate) struct Questions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Asked>,
    next: u64,
    closed: bool,
}

impl Questions {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Queues a question and waits for the answer; `notify` sends the notice with its number.
    /// EBADF: the ring thread has ended; ECANCELED: it ended before it answered; ENOMEM; others as
    /// `notify` returns them.
    pub fn ask(&self, question: Question, notify: impl FnOnce(u64) -> Result<()>) -> Result<u32> {
        self.ask_only(question, notify)?.wait()
    }

    /// Queues a question; returns where the answer will be.
    pub fn ask_only(
        &self,
        question: Question,
        notify: impl FnOnce(u64) -> Result<()>,
    ) -> Result<Arc<Answer>> {
        let (number, reply) = self.put(question)?;
        if let Err(error) = notify(number) {
            drop(self.take(number));
            return Err(error);
        }
        Ok(reply)
    }

    fn put(&self, question: Question) -> Result<(u64, Arc<Answer>)> {
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

    fn take(&self, number: u64) -> Option<Asked> {
        let mut state = self.lock();
        let index = state.waiting.iter().position(|asked| asked.number == number)?;
        Some(state.waiting.swap_remove(index))
    }

    /// Answers the question with this number.
    pub fn answer(&self, number: u64, answer: impl FnOnce(&Question) -> u32) {
        if let Some(asked) = self.take(number) {
            asked.reply.give(Ok(answer(&asked.question)));
        }
    }

    /// Refuses further questions, and drops those that wait.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting = Vec::new();
    }
}
