// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes completions from the queue, and clears the event descriptor after the last one.
#![forbid(unsafe_code)]

use super::Caller;
use crate::handoff::completions::Taken;
#[cfg(feature = "c-interface")]
use crate::handoff::completions::{Completions, Look};
use crate::handoff::port::Notice;
use crate::types::completion::Completion;
use crate::types::errno::{Errno, Result};
use std::os::fd::RawFd;
use std::time::Duration;

/// The result of [`Caller::poll_step`].
#[cfg(feature = "c-interface")]
pub(crate) enum PollStep {
    /// This many were taken, or the caller does not wait.
    Taken(usize),
    /// There are none, and the caller has been announced as waiting.
    Wait {
        /// See [`Look::Empty`].
        sequence: u32,
    },
}

impl Caller {
    /// Takes up to `max` completions and waits for the first up to `timeout` (None: indefinitely).
    pub fn poll(
        &self,
        max: usize,
        timeout: Option<Duration>,
        mut each: impl FnMut(Completion),
    ) -> Result<usize> {
        let shared = &self.shared;
        self.begin_poll(max, timeout != Some(Duration::ZERO))?;
        let taken = shared.completions.take(max, timeout, |entry| each(shared.taken(entry)))?;
        self.end_poll(taken)
    }

    /// Polls in steps, for callers that wait by themselves on [`Completions::sequence`].
    #[cfg(feature = "c-interface")]
    pub fn poll_step(
        &self,
        max: usize,
        waits: bool,
        mut each: impl FnMut(Completion),
    ) -> Result<PollStep> {
        let shared = &self.shared;
        self.begin_poll(max, waits)?;
        match shared.completions.look(max, waits, |entry| each(shared.taken(entry))) {
            Look::Taken(taken) => self.end_poll(taken).map(PollStep::Taken),
            Look::Empty { sequence } => Ok(PollStep::Wait { sequence }),
        }
    }

    /// Returns the completions, for the waits between [`Caller::poll_step`] calls.
    #[cfg(feature = "c-interface")]
    pub fn completions(&self) -> &Completions {
        &self.shared.completions
    }

    fn begin_poll(&self, max: usize, waits: bool) -> Result<()> {
        if max == 0 {
            return Err(Errno(libc::EINVAL));
        }
        if waits && self.shared.completions.is_empty() {
            // Before the wait: if the host has closed the descriptor and only a forked child holds
            // it, nothing else would report that to the ring thread.
            let _ = self.port.number();
        }
        Ok(())
    }

    fn end_poll(&self, taken: Taken) -> Result<usize> {
        if taken.bell > 0 {
            self.port.clear_bell(taken.bell);
        }
        if taken.count == 0 && self.shared.completions.is_closed() {
            self.shared.life.alive()?;
        }
        Ok(taken.count)
    }

    /// Returns the descriptor that is readable, from now on, while completions wait.
    pub fn event_fd(&self) -> Result<RawFd> {
        let own = self.port.number()?;
        if self.shared.completions.want_bell() {
            self.port.notify(Notice::Look, &[])?;
        }
        Ok(own)
    }
}
