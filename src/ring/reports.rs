// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completions on their way to the callers, handed over in batches so that one wake-up covers many.
#![forbid(unsafe_code)]

use crate::collections::memory;
use crate::handoff::completions::{Completions, Entry};
use crate::handoff::submissions::Answer;
use crate::types::completion::Completion;
use crate::types::errno::Result;
use std::sync::Arc;
use std::time::{Duration, Instant};

// The most reports in one batch.
const BATCH: usize = 64;
// So many reports, and none for so long, wait for others.
const COMPANY: usize = 16;
const WAITS_AT_MOST: Duration = Duration::from_micros(50);

/// The completions that are not handed over yet.
pub(super) struct Reports {
    batch: Vec<Entry>,
    /// Completions for callers that wait for one operation each.
    answers: Vec<(Arc<Answer>, Completion)>,
    /// Since when the first one of these waits.
    since: Option<Instant>,
    /// The bell must be rung for completions handed over.
    bell_due: bool,
}

impl Reports {
    pub(super) fn new() -> Result<Reports> {
        let (batch, answers) = (memory::list(BATCH)?, memory::list(BATCH)?);
        Ok(Reports { batch, answers, since: None, bell_due: false })
    }

    /// Adds a completion for the callers that poll.
    pub(super) fn push(
        &mut self,
        entry: Entry,
        completions: &Completions,
        now: impl FnOnce() -> Instant,
    ) {
        if self.batch.len() == BATCH {
            self.hand_over(completions);
        }
        self.since.get_or_insert_with(now);
        self.batch.push(entry);
    }

    /// Adds the completion for the one caller that waits for this operation.
    pub(super) fn answer(
        &mut self,
        answer: Arc<Answer>,
        completion: Completion,
        completions: &Completions,
        now: impl FnOnce() -> Instant,
    ) {
        if self.answers.len() == BATCH {
            self.hand_over(completions);
        }
        self.since.get_or_insert_with(now);
        self.answers.push((answer, completion));
    }

    /// Returns whether those that wait should not wait for others.
    pub(super) fn is_due(&self, now: impl FnOnce() -> Instant) -> bool {
        self.batch.len() + self.answers.len() >= COMPANY
            || self.since.is_some_and(|since| now() > since + WAITS_AT_MOST)
    }

    /// Hands over all completions.
    pub(super) fn hand_over(&mut self, completions: &Completions) {
        self.since = None;
        if !self.batch.is_empty() {
            self.bell_due |= completions.push(&mut self.batch);
        }
        // After the batch: a caller with its answer can then poll for the operations ahead of it.
        for (answer, completion) in self.answers.drain(..) {
            answer.give(Ok(completion));
        }
    }

    /// Returns whether the bell must be rung, and resets that.
    pub(super) fn take_bell_due(&mut self) -> bool {
        std::mem::take(&mut self.bell_due)
    }
}
