// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes completions from the queue, and the bell with the last.
#![forbid(unsafe_code)]

use super::Caller;
use crate::handoff::completions::{Completions, Look, Taken};
use crate::handoff::port::Notice;
use crate::types::completion::Completion;
use crate::types::errno::{Errno, Result};
#[cfg(feature = "c-interface")]
use std::os::fd::RawFd;
use std::time::Duration;

/// What [`Caller::poll_step`] did.
#[cfg(feature = "c-interface")]
pub(crate) enum PollStep {
    /// So many were taken, or nobody waits for more.
    Taken(usize),
    /// There are none: the caller has been announced as waiting.
    Wait {
        /// See [`Look::Empty`].
        sequence: u32,
    },
}

impl Caller {
    /// Takes up to `max` completions; waits for the first up to `timeout` (None: indefinitely).
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

    /// A poll in steps, for callers that wait by themselves, on [`Completions::sequence`].
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

    /// See [`Caller::poll_step`].
    #[cfg(feature = "c-interface")]
    pub fn completions(&self) -> &Completions {
        &self.shared.completions
    }

    fn begin_poll(&self, max: usize, waits: bool) -> Result<()> {
        if max == 0 {
            return Err(Errno(libc::EINVAL));
        }
        if waits && self.shared.completions.is_empty() {
            // About to wait: where the host has closed the descriptor and only a forked child holds
            // it still, nothing else would tell the ring thread.
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

    /// The descriptor that is readable while completions wait, from here on.
    pub fn event_fd(&self) -> Result<RawFd> {
        let own = self.port.number()?;
        if self.shared.completions.want_bell() {
            self.port.notify(Notice::Look, &[])?;
        }
        Ok(own)
    }
}
