// SPDX-License-Identifier: MIT OR Apache-2.0
//! try_send and send: sends on the calling thread what needs no waiting, and queues the rest ahead
//! of later operations on the socket.
#![forbid(unsafe_code)]

use super::prepare::Prepared;
use super::submit::Fds;
use super::{Caller, inline};
use crate::collections::memory;
use crate::decide::operation::Operation;
use crate::engine::kernel::System;
use crate::handoff::claims::{Claimed, Turn};
use crate::handoff::reply::Reply;
use crate::sys;
use crate::types::completion::{Completion, CompletionFlags, Event};
use crate::types::errno::Result;
use crate::types::request::Request;
use crate::types::stats::Counters;
use std::sync::Arc;

/// The outcome of a send on the calling thread.
enum Inline {
    /// The operation has ended.
    Done(Completion),
    /// All or the rest must be queued; after that the socket is released, if it is claimed.
    Rest(Option<Claimed>),
}

impl Caller {
    /// Completes the operation if it needs no waiting.  None: the rest has been queued, under the
    /// id that `id` received.
    pub fn try_send(
        &self,
        request: &Request<'_>,
        id: &mut dyn FnMut(u64),
    ) -> Result<Option<Completion>> {
        let mut prepared = self.prepare(request)?;
        match self.send_inline(&mut prepared) {
            Inline::Done(completion) => Ok(Some(completion)),
            Inline::Rest(claimed) => self.enqueue_rest(prepared, claimed, id),
        }
    }

    /// Carries out the whole operation, and waits while the ring thread does the rest.
    pub fn send(&self, request: &Request<'_>) -> Result<Completion> {
        memory::check()?;
        let mut prepared = self.prepare(request)?;
        let claimed = match self.send_inline(&mut prepared) {
            Inline::Done(completion) => return Ok(completion),
            Inline::Rest(claimed) => claimed,
        };
        let reply = Arc::new(Reply::default());
        prepared.submission.reply = Some(reply.clone());
        let cookie = prepared.submission.cookie;
        let ended = self.enqueue_rest(prepared, claimed, &mut |_| {})?;
        if let Some(completion) = ended {
            return Ok(completion);
        }
        let completion = reply.wait()?;
        self.shared.permits.give_back(0);
        if completion.status < 0 && completion.wire_bytes > 0 {
            self.shared.cuts.done_taken(cookie);
        }
        Ok(completion)
    }

    // Sends on the calling thread.  If the operation is done, everything that the submission took
    // has been given back.
    fn send_inline(&self, prepared: &mut Prepared) -> Inline {
        let shared = &self.shared;
        let chunk = shared.settings.chunk_bytes;
        let Prepared { numbers, ref mut submission } = *prepared;
        let known = &shared.known_files;
        if !inline::is_suitable(&System, numbers, submission, known, chunk) {
            return Inline::Rest(None);
        }
        let cookie = submission.cookie;
        let Some(claimed) = shared.claims.claim(cookie) else { return Inline::Rest(None) };
        if shared.cuts.is_unreported(cookie) {
            self.port.release(claimed);
            return Inline::Rest(None);
        }
        // Without a buffer nothing is done, and the ring thread does it all.
        let by_reference = self
            .scratch
            .with(|scratch| inline::run(&System, numbers, submission, known, chunk, scratch));
        let by_reference = by_reference.unwrap_or(0);
        let operation = &mut submission.operation;
        let counters = &shared.counters;
        Counters::add(&counters.bytes_inline, operation.range_sent());
        Counters::add(&counters.bytes_copied, operation.range_sent() - by_reference);
        Counters::add(&counters.bytes_zerocopy, by_reference);
        Counters::add(&counters.bytes_frozen, by_reference);
        Counters::add(&counters.file_bytes, operation.range_sent());
        Counters::add(&counters.wire_bytes, operation.wire());
        let Some(status) = operation.ended() else {
            submission.turn = Turn::Ahead;
            return Inline::Rest(Some(claimed));
        };
        if operation.take_held_back() {
            sys::push_tcp(numbers.socket);
        }
        let completion = self.done_here(cookie, submission.user_data, operation, status);
        shared.give_back(submission);
        self.port.release(claimed);
        Inline::Done(completion)
    }

    // Queues the rest.  Some: it could not be queued after a part was sent, which is a DONE and not
    // a refusal.
    fn enqueue_rest(
        &self,
        prepared: Prepared,
        claimed: Option<Claimed>,
        id: &mut dyn FnMut(u64),
    ) -> Result<Option<Completion>> {
        let fds = Fds::of(&prepared);
        let Prepared { submission, numbers } = prepared;
        let cookie = submission.cookie;
        let (user_data, mut operation) = (submission.user_data, submission.operation.clone());
        let queued = match self.enqueue(std::iter::once(submission), fds.as_slice(), id) {
            Err(error) if operation.wire() > 0 => {
                operation.fail(error.negative());
                if operation.take_held_back() {
                    sys::push_tcp(numbers.socket);
                }
                Ok(Some(self.done_here(cookie, user_data, &operation, error.negative())))
            }
            queued => queued.map(|_| None),
        };
        if let Some(claimed) = claimed {
            self.port.release(claimed);
        }
        queued
    }

    // Reports the end of an operation to this caller alone, without the ring thread.
    fn done_here(
        &self,
        cookie: u64,
        user_data: u64,
        operation: &Operation,
        status: i32,
    ) -> Completion {
        let shared = &self.shared;
        Counters::add(&shared.counters.submitted, 1);
        shared.counters.count_done(status);
        if operation.is_cut() {
            shared.life.or_die(shared.cuts.record_taken(cookie));
        }
        Completion {
            id: shared.cuts.take_id_here(),
            user_data,
            file_bytes: operation.range_sent(),
            wire_bytes: operation.wire(),
            status,
            event: Event::Done,
            flags: operation.was() | CompletionFlags::WAS_INLINE,
        }
    }
}
