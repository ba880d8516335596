// SPDX-License-Identifier: MIT OR Apache-2.0
//! One answer from the ring thread to the one caller that waits for it.
#![forbid(unsafe_code)]

use super::sync::{Condvar, Mutex};

/// The place where a call waits for the one answer meant for it alone.
#[derive(Debug)]
pub struct Reply<T> {
    answer: Mutex<Option<T>>,
    there: Condvar,
}

impl<T> Default for Reply<T> {
    fn default() -> Reply<T> {
        Reply { answer: Mutex::new(None), there: Condvar::new() }
    }
}

impl<T> Reply<T> {
    /// Gives the answer; a later one is ignored.
    pub fn give(&self, answer: T) {
        let mut slot = self.answer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        slot.get_or_insert(answer);
        self.there.notify_one();
    }

    /// Waits for the answer; signal handlers do not end the wait.
    pub fn wait(&self) -> T {
        let mut slot = self.answer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        loop {
            if let Some(answer) = slot.take() {
                return answer;
            }
            slot = self.there.wait(slot).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}
