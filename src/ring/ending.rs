// SPDX-License-Identifier: MIT OR Apache-2.0
//! How operations end: cancelled, failed or done.  An operation releases what it holds before its
//! DONE is visible, and DONE waits until the kernel no longer uses its socket.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::{Job, Source};
use super::slow::Close;
use super::sockets::Wait;
use crate::decide::operation::Phase;
use crate::engine::Engine;
use crate::engine::kernel::Kernel;
use crate::handoff::questions::Question;
use crate::types::completion::{CompletionFlags, Event as Report};
use std::num::NonZeroU64;

impl<E: Engine> Driver<E> {
    /// Answers a caller's question; returns how many operations it concerned.
    pub fn answer(&mut self, question: &Question) -> u32 {
        match *question {
            Question::Cancel(id) => match self.jobs.find(id) {
                Some(slot) => {
                    self.end(slot, -libc::ECANCELED);
                    1
                }
                None => 0,
            },
            Question::CancelSocket(cookie) => {
                let Some(socket) = self.schedule.find(cookie) else {
                    return 0;
                };
                let mut next = self.schedule.oldest(socket);
                let count = std::iter::successors(next, |&slot| self.schedule.behind(slot)).count();
                // If one that ends leaves the stream cut, those behind it end with it.
                while let Some(slot) = next.filter(|&slot| self.jobs.contains(slot)) {
                    next = self.schedule.behind(slot);
                    self.end(slot, -libc::ECANCELED);
                }
                count as u32
            }
        }
    }

    /// Ends everything in flight with this status.
    pub fn fail_all(&mut self, status: i32) {
        for slot in 0..self.jobs.end() {
            if self.jobs.contains(slot) {
                self.end(slot, status);
            }
        }
    }

    /// Reports everything in flight as ended, in any state, because the engine has failed.
    pub fn abandon(&mut self, status: i32) {
        self.report_all_unclosed();
        for slot in 0..self.jobs.end() {
            if !self.jobs.contains(slot) {
                continue;
            }
            let mut job = self.jobs.remove(slot);
            job.operation.fail(status);
            let socket = self.schedule.find(job.cookie);
            // It is not known what a send has done that is with the kernel.
            let is_lending = job.operation.is_sending()
                && matches!(job.data.source, Source::Lent { .. })
                && !job.operation.is_frozen();
            if job.operation.is_lent() || is_lending {
                // Nothing will report that the kernel has given the pages back.
                job.operation.was_reset();
                if let Some(socket) = socket {
                    self.disconnect(socket);
                }
                job.operation.forget_lent();
            } else if job.operation.take_held_back() {
                let socket = socket.and_then(|socket| self.sockets.get(socket));
                socket.inspect(|socket| self.engine.kernel().push(socket.number()));
            }
            // The kernel may still read from windows.
            if let Source::Window(window) = std::mem::replace(&mut job.data.source, Source::None) {
                std::mem::forget(window);
            }
            self.report_done(job);
        }
    }

    pub(super) fn end(&mut self, slot: usize, status: i32) {
        self.jobs[slot].operation.fail(status);
        self.settle(slot);
    }

    // Reports the snapshot when it is due, and finishes the operation once the kernel has no
    // request of it.
    pub(super) fn settle(&mut self, slot: usize) {
        self.settle_lent(slot);
        self.report_progress(slot);
        self.push_held_back(slot);
        let is_ending = matches!(self.jobs[slot].operation.phase(), Phase::Ending(_));
        if is_ending && self.leave_file(slot) {
            return;
        }
        if self.jobs[slot].operation.ended().is_none() {
            return;
        }
        let socket = self.schedule.socket_of(slot);
        let alone =
            self.schedule.oldest(socket) == Some(slot) && self.schedule.behind(slot).is_none();
        if alone && self.socket(socket).wait != Wait::None {
            // DONE waits until the kernel has released the socket.
            return self.disarm(socket);
        }
        self.finish(slot, socket);
    }

    // Lets go out what a cut operation has sent with MSG_MORE: its end may wait for a read.
    fn push_held_back(&mut self, slot: usize) {
        if self.jobs[slot].operation.take_held_back() {
            let number = self.socket(self.schedule.socket_of(slot)).number();
            self.engine.kernel().push(number);
        }
    }

    // Reports SNAPSHOT and SENT when they are due.
    fn report_progress(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        if job.reply.is_some() {
            return;
        }
        if job.operation.take_snapshot_event(job.is_held()) {
            let completion = job.completion(0, Report::Snapshot);
            self.report(completion, None);
        }
        let job = &mut self.jobs[slot];
        if job.operation.take_sent_event() {
            let completion = job.completion(0, Report::Sent);
            self.report(completion, None);
        }
    }

    pub(super) fn finish(&mut self, slot: usize, socket: usize) {
        let is_cut = self.jobs[slot].operation.is_cut();
        let was_first = self.schedule.first(socket) == Some(slot);
        let next = self.schedule.behind(slot);
        self.schedule.remove(slot);
        let mut job = self.jobs.remove(slot);
        // Without operations that keep their data, those behind may take room already.
        let had_kept = self.socket(socket).kept > 0;
        self.socket(socket).kept -= u32::from(job.is_kept());
        // The first one always may, even if the operation ahead did not reach that state.
        let may_hold = job.data.may_hold || self.schedule.first(socket) == next;
        let lets = had_kept && may_hold && !is_cut && !job.sending.passed_on;
        if let Some(next) = next.filter(|_| lets) {
            self.let_begin(next);
        }
        let closing = self.release(&mut job);
        if is_cut {
            self.shared.life.or_die(self.shared.cuts.record(job.cookie));
        }
        if self.schedule.is_vacant(socket) {
            self.leave_socket(socket);
        } else if self.schedule.first(socket).is_some() {
            // The operation that is first now tries for itself: a due look may have been its
            // predecessor's.
            let state = self.socket(socket);
            state.waiting &= !was_first && state.look_at.is_none();
            self.ready(socket);
        }
        self.sockets.held_back.left(job.cookie);
        match closing {
            Some(close) => self.report_when_closed(close, job),
            None => self.report_done(job),
        }
        if is_cut {
            self.cancel_behind(next);
        }
    }

    // Lets an operation take room in the pool, and those behind it as far as it has its room.
    pub(super) fn let_begin(&mut self, slot: usize) {
        self.jobs[slot].data.may_hold = true;
        // Data that passes is read when the operation has its turn.
        if self.jobs[slot].is_held() {
            self.read_ahead(slot);
        }
        self.let_hold(slot);
    }

    // Cancels all operations from this one on, except those whose bytes are all in the socket.
    pub(super) fn cancel_behind(&mut self, first: Option<usize>) {
        let mut next = first;
        while let Some(slot) = next {
            let job = &mut self.jobs[slot];
            if !job.sending.passed_on {
                job.operation.fail(-libc::ECANCELED);
            }
            next = self.schedule.behind(slot);
        }
        next = first;
        // The first one may be cut itself, and end those behind it.
        while let Some(slot) = next.filter(|&slot| self.jobs.contains(slot)) {
            next = self.schedule.behind(slot);
            self.settle(slot);
        }
    }

    // Closes a socket without operations, unless it is registered.
    fn leave_socket(&mut self, socket: usize) {
        let state = self.socket(socket);
        if state.registrations == 0 {
            return self.close_socket(socket);
        }
        (state.waiting, state.has_looked, state.look_at) = (false, false, None);
        // The claim that held back what has ended is forgotten with it, and its release is ignored.
        self.schedule.unpark(socket);
    }

    pub(super) fn close_socket(&mut self, socket: usize) {
        if let Some(state) = self.sockets.close(socket) {
            if state.generation != 0 {
                self.engine.released(state.number());
            }
            self.shared.descriptors.give_back(1);
        }
        self.schedule.close(socket);
    }

    // Releases everything that the operation holds, before its DONE is visible.  Some: the file
    // is closed later.
    pub(super) fn release(&mut self, job: &mut Job) -> Option<Close> {
        while let Some(lease) = job.take_lease() {
            self.room.release(lease);
        }
        if let Some(bytes) = job.reserved() {
            self.room.unreserve(bytes);
            job.data.reserved_pages = None;
        }
        self.drop_source(job);
        let file = job.file.take();
        debug_assert_eq!(job.data.charged_pages, 0);
        self.shared.staging.release(std::mem::take(&mut job.staged));
        file.and_then(|file| self.close_file(file.entry as usize))
    }

    pub(super) fn report_done(&mut self, mut job: Job) {
        let status = job.operation.ended().unwrap_or(-libc::EIO);
        if job.sending.unresolved > 0 {
            job.operation.mark(CompletionFlags::WAS_ZEROCOPY);
        }
        self.shared.counters.count_done(status);
        self.shared.permits.missed(job.operation.owed_events());
        let completion = job.completion(status, Report::Done);
        if let Some(reply) = job.reply.take() {
            let now = || self.engine.kernel().now();
            return self.reports.answer(reply, completion, &self.shared.completions, now);
        }
        let cut = NonZeroU64::new(job.cookie).filter(|_| job.operation.is_cut());
        self.report(completion, cut);
    }
}
