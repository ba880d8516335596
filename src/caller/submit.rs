// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hands submissions to the ring thread: assigns ids, pushes each into the channel and announces
//! them with one notice.  A failure gives back everything that was taken.
#![forbid(unsafe_code)]

use super::Caller;
use super::prepare::Prepared;
use crate::collections::memory;
use crate::handoff::submissions::{GROUP_MAX, Handles, IdRange, Submission};
use crate::types::errno::{Errno, Result};
use crate::types::request::Request;
use crate::types::stats::Counters;
use std::os::fd::RawFd;

/// The lists that submit_many() fills, kept so that they are not allocated anew.
#[derive(Debug, Default)]
pub(super) struct Group {
    submissions: Vec<Submission>,
    fds: Vec<RawFd>,
}

/// The descriptors that are sent with the submission of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fds([RawFd; 2], usize);

impl Fds {
    pub(super) fn of(prepared: &Prepared) -> Fds {
        let Handles { socket, file } = prepared.submission.registered;
        let socket = if socket.is_none() { Some(prepared.numbers.socket) } else { None };
        let file = if file.is_none() { prepared.numbers.file } else { None };
        match (socket, file) {
            (Some(socket), Some(file)) => Fds([socket, file], 2),
            (Some(one), None) | (None, Some(one)) => Fds([one, -1], 1),
            (None, None) => Fds([-1, -1], 0),
        }
    }

    pub(super) fn as_slice(&self) -> &[RawFd] {
        &self.0[..self.1]
    }
}

impl Caller {
    /// Queues an operation; `id` receives its id before a completion with it is visible.
    pub fn submit(&self, request: &Request<'_>, id: &mut dyn FnMut(u64)) -> Result<()> {
        let prepared = self.prepare(request)?;
        let fds = Fds::of(&prepared);
        self.enqueue(std::iter::once(prepared.submission), fds.as_slice(), id).map(|_| ())
    }

    /// Queues several operations, in order.  Returns how many were queued; an error if none was.
    pub fn submit_many(&self, requests: &[Request<'_>], ids: &mut dyn FnMut(u64)) -> Result<usize> {
        let mut queued = 0;
        for group in requests.chunks(GROUP_MAX) {
            let (count, error) = self.submit_group(group, ids);
            queued += count;
            match error {
                Some(error) if queued == 0 => return Err(error),
                Some(_) => break,
                None => {}
            }
        }
        Ok(queued)
    }

    fn submit_group(
        &self,
        requests: &[Request<'_>],
        ids: &mut dyn FnMut(u64),
    ) -> (usize, Option<Errno>) {
        // Never waits: a thread that forked may have left it locked in the child indefinitely.
        let mut kept = self.group.try_lock();
        let mut group = kept.as_deref_mut().map(std::mem::take).unwrap_or_default();
        drop(kept);
        let room = memory::reserve(&mut group.submissions, requests.len())
            .and_then(|()| memory::reserve(&mut group.fds, 2 * requests.len()));
        if let Err(error) = room {
            return (0, Some(error));
        }
        let mut error = None;
        for request in requests {
            match self.prepare(request) {
                Ok(prepared) => {
                    group.fds.extend_from_slice(Fds::of(&prepared).as_slice());
                    group.submissions.push(prepared.submission);
                }
                Err(refused) => {
                    error = Some(refused);
                    break;
                }
            }
        }
        let mut count = group.submissions.len();
        if count > 0 {
            match self.enqueue(group.submissions.drain(..), &group.fds, ids) {
                Ok(queued) if queued == count => {}
                Ok(queued) => (count, error) = (queued, Some(Errno(libc::ENOMEM))),
                Err(refused) => (count, error) = (0, Some(refused)),
            }
        }
        group.fds.clear();
        if let Ok(mut kept) = self.group.try_lock() {
            *kept = group;
        }
        (count, error)
    }

    /// Hands submissions over.  Returns how many: fewer than given, from the first on, if there is
    /// no memory for the others.
    pub(super) fn enqueue(
        &self,
        mut submissions: impl ExactSizeIterator<Item = Submission>,
        fds: &[RawFd],
        ids: &mut dyn FnMut(u64),
    ) -> Result<usize> {
        let shared = &self.shared;
        let wanted = submissions.len() as u32;
        let first = shared.cuts.take_ids(wanted);
        let (mut count, mut fds_count) = (0, 0);
        // Checked once they are in transit: a ring thread that ends waits for those.
        let mut refused = shared.life.alive().err();
        let is_announced = !fds.is_empty();
        while refused.is_none() {
            let Some(mut submission) = submissions.next() else { break };
            submission.is_announced = is_announced;
            let descriptors = submission.descriptor_count();
            refused = self.push(submission, first + u64::from(count), ids).err();
            if refused.is_none() {
                count += 1;
                fds_count += descriptors as usize;
            }
        }
        submissions.for_each(|mut rest| shared.give_back(&mut rest));
        shared.cuts.not_handed_over(wanted - count);
        match refused {
            Some(error) if count == 0 => return Err(error),
            _ => {}
        }
        match is_announced {
            true => self.port.announce(IdRange { first, count }, &fds[..fds_count])?,
            false => self.port.nudge(),
        }
        Counters::add(&shared.counters.submitted, count.into());
        Ok(count as usize)
    }

    // Pushes one submission.  On failure it gives back what the submission took.
    fn push(&self, mut submission: Submission, id: u64, ids: &mut dyn FnMut(u64)) -> Result<()> {
        let shared = &self.shared;
        let cookie = submission.cookie;
        submission.id = id;
        match shared.claims.enter(cookie, submission.turn) {
            Ok(turn) => submission.turn = turn,
            Err(error) => {
                shared.give_back(&mut submission);
                return Err(error);
            }
        }
        ids(id);
        let Some((error, mut submission)) = self.port.push(submission) else {
            return Ok(());
        };
        shared.claims.leave(cookie);
        shared.give_back(&mut submission);
        Err(error)
    }
}
