// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports on their way to the callers, handed over in batches.
#![forbid(unsafe_code)]

use crate::collections::memory;
use crate::handoff::completions::{Completions, Entry};
use crate::handoff::submissions::Answer;
use crate::types::completion::Completion;
use crate::types::errno::Result;
use std::sync::Arc;

// The most reports that one batch has.
const BATCH: usize = 64;

/// What is to be reported.
pub(super) struct Reports {
    batch: Vec<Entry>,
    /// Completions for callers that wait for one operation each.
    answers: Vec<(Arc<Answer>, Completion)>,
    /// The bell must be rung for what has been handed over.
    bell_due: bool,
}

impl Reports {
    pub(super) fn new() -> Result<Reports> {
        let (batch, answers) = (memory::list(BATCH)?, memory::list(BATCH)?);
        Ok(Reports { batch, answers, bell_due: false })
    }

    /// Reports to the callers that poll.
    pub(super) fn push(&mut self, entry: Entry, completions: &Completions) {
        if self.batch.len() == BATCH {
            self.hand_over(completions);
        }
        self.batch.push(entry);
    }

    /// Reports to the one caller that waits for this operation.
    pub(super) fn answer(
        &mut self,
        answer: Arc<Answer>,
        completion: Completion,
        completions: &Completions,
    ) {
        if self.answers.len() == BATCH {
            self.hand_over(completions);
        }
        self.answers.push((answer, completion));
    }

    /// Hands over what has gathered.
    pub(super) fn hand_over(&mut self, completions: &Completions) {
        if !self.batch.is_empty() {
            self.bell_due |= completions.push(&mut self.batch);
        }
        // After the batch: a caller that has its answer can poll for the operations ahead of it.
        for (answer, completion) in self.answers.drain(..) {
            answer.give(Ok(completion));
        }
    }

    /// Whether the bell must be rung; true once for each time.
    pub(super) fn take_bell_due(&mut self) -> bool {
        std::mem::take(&mut self.bell_due)
    }
}
