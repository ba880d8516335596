// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zero-copy sends: from the pool, and of lent pages.  A lease is released only after the
//! notification, and pages are lent until then.  Sockets on which the kernel copies anyway get plain
//! sends.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::{Handling, Source};
use super::zero_copies::ZeroCopyUse;
use crate::decide::operation::{Phase, Portion};
use crate::decide::plan::{self, Known, PageCache, Way, ZeroCopy};
use crate::decide::token::{Kind, Token};
use crate::engine::kernel::Kernel;
use crate::engine::{Engine, ZeroCopySend};
use crate::sys::{LENT_MAX, Span};
use crate::types::completion::CompletionFlags;
use crate::types::stats::Counters;

// After this many copies in a row, zero-copy is given up on a socket where it was real.
const COPIED_MAX: u32 = 4;

/// The outcome of a send for one of the operations in it.
struct Taken {
    /// Bytes of the operation that the socket took.
    sent: u64,
    asked: u64,
    /// They are pages of the file itself, which a notification will give back.
    is_lent: bool,
}

impl<E: Engine> Driver<E> {
    /// Sends the bytes of a portion at hand with zero-copy, and lent pages of the operations behind in
    /// the same send.  Returns the bytes; None: that is not possible now.
    pub(super) fn send_zero_copy(
        &mut self,
        socket: usize,
        slot: usize,
        portion: &Portion,
    ) -> Option<u64> {
        let job = &self.jobs[slot];
        if portion.header.1 > 0 || portion.range.1 == 0 {
            return None;
        }
        let lease = match &job.data.source {
            Source::Lent { .. } => None,
            Source::Buffers(buffers) if job.data.handling == Handling::ZeroCopy => {
                Some(buffers.front()?.lease)
            }
            _ => return None,
        };
        let now = || self.engine.kernel().now();
        let is_allowed = self.zero_copies.allows(portion.range.1, now);
        if !is_allowed || self.zero_copies.reserve().is_err() {
            return None;
        }
        if let Some(lease) = lease {
            self.room.pool.retain(lease);
        }
        let job = &mut self.jobs[slot];
        let mut parts = [job.next_bytes(&self.room.pool, portion.range); LENT_MAX];
        let mut more = portion.more || portion.zeros > 0 || portion.trailer.1 > 0;
        job.operation.send_started(more);
        let first = ZeroCopyUse::new(lease, (slot, job), portion.range.1);
        let (index, generation) = self.zero_copies.begin(first);
        let is_whole = portion.zeros == 0 && portion.trailer.1 == 0;
        let (mut count, mut length) = (1, portion.range.1);
        if lease.is_none() && is_whole {
            (count, length, more) = self.join(socket, slot, index, &mut parts, more);
        }
        self.zero_copies.pin(index, length);
        let state = &mut self.socket(socket).zero_copy;
        if *state == Some(ZeroCopy::Untried) {
            *state = Some(ZeroCopy::Trying);
        }
        let flags = if more { libc::MSG_MORE } else { 0 };
        let number = self.socket(socket).number();
        let send = ZeroCopySend { socket: number, parts: &parts[..count], flags };
        self.engine.send_zero_copy(Token::new(Kind::ZeroCopy, index, generation), send);
        Some(length)
    }

    // Adds the operations behind to a send, as long as all their bytes are lent pages at hand.
    // Returns how many parts there are, their bytes, and whether more follows.
    fn join(
        &mut self,
        socket: usize,
        slot: usize,
        index: usize,
        parts: &mut [Span; LENT_MAX],
        mut more: bool,
    ) -> (usize, u64, bool) {
        let most = self.shared.settings.chunk_bytes;
        let (mut count, mut length) = (1, parts[0].len() as u64);
        let (mut last, mut part) = (slot, index);
        while count < LENT_MAX && self.is_last_piece(last, parts[count - 1]) {
            let Some(next) = self.schedule.behind(last) else { break };
            let room = most.saturating_sub(length);
            if self.zero_copies.reserve().is_err() {
                break;
            }
            let Some(portion) = self.join_next(socket, next, room) else { break };
            // Only a short send is a trial that a low limit may allow.
            if !self.zero_copies.fits(length + portion.range.1) {
                self.leave_send(next);
                break;
            }
            let job = &self.jobs[next];
            parts[count] = job.next_bytes(&self.room.pool, portion.range);
            let behind = ZeroCopyUse::new(None, (next, job), portion.range.1);
            part = self.zero_copies.append(part, behind);
            (last, more) = (next, portion.more);
            count += 1;
            length += portion.range.1;
        }
        (count, length, more)
    }

    // Returns whether these bytes at hand are the last ones of an operation.
    fn is_last_piece(&self, slot: usize, piece: Span) -> bool {
        let operation = &self.jobs[slot].operation;
        operation.range_sent() + piece.len() as u64 == operation.file_length()
            && operation.task().trailer == 0
    }

    // Begins an operation whose turn has not come, if all its bytes are lent pages, at most `most`.
    fn join_next(&mut self, socket: usize, slot: usize, most: u64) -> Option<Portion> {
        let job = &self.jobs[slot];
        let task = job.operation.task();
        let may_go = job.lends() || job.operation.is_frozen();
        if !may_go || task.header > 0 || task.trailer > 0 || task.length > most {
            return None;
        }
        let is_new = matches!(job.operation.phase(), Phase::Queued | Phase::Running)
            && matches!(job.data.source, Source::None)
            && job.operation.wire() == 0
            && !job.operation.is_reading()
            && !job.operation.is_sending();
        if !is_new {
            return None;
        }
        self.begin(slot);
        if !self.jobs[slot].can_lend_all() {
            return None;
        }
        let zero_copy = self.zero_copy_state(socket, slot);
        let known = self.facts_for_plan(slot, zero_copy, false)?;
        let lent = Known { resident: true, ..known };
        if plan::choose(&lent) != Way::PageCache || !self.take_piece(slot, most) {
            return None;
        }
        let job = &mut self.jobs[slot];
        let available = job.available();
        let portion = job.operation.want_send(available, available)?;
        if portion.range.1 < job.operation.file_length() || portion.zeros > 0 {
            // A part of it has to wait for its own turn.
            self.drop_source_of(slot);
            return None;
        }
        job.operation.send_started(portion.more);
        Some(portion)
    }

    pub(super) fn on_zero_copy_sent(&mut self, token: Token, result: i32, more: bool) {
        let Some(&mut ZeroCopyUse { cookie, .. }) = self.zero_copies.get_mut(token) else {
            return;
        };
        let refused = matches!(-result, libc::ENOMEM | libc::ENOBUFS);
        if refused {
            // A notification may follow all the same.
            self.zero_copies.unpin(token.slot());
            self.zero_copies.refused(self.engine.kernel().now());
        } else {
            // Also if the socket took nothing: the kernel counts the memory before it sends.
            self.zero_copies.fitted();
        }
        if result < 0 {
            if let Some(socket) = self.schedule.find(cookie) {
                // No notification will report the outcome of the trial.
                let state = &mut self.socket(socket).zero_copy;
                *state =
                    state.filter(|state| *state != ZeroCopy::Trying).or(Some(ZeroCopy::Untried));
            }
        }
        let mut left = result.max(0) as u64;
        let mut next = Some(token.slot());
        while let Some(index) = next {
            next = self.zero_copies.behind(index);
            let used = self.zero_copies.part(index);
            used.sent = left.min(used.asked);
            left -= used.sent;
            let (slot, id, is_first) = (used.slot as usize, used.id, index == token.slot());
            let Some(job) = self.jobs.get(slot).filter(|job| job.id == id) else { continue };
            // Content that cannot change is not waited for.
            let is_lent = used.lease.is_none() && more && !job.operation.is_frozen();
            let taken = Taken { sent: used.sent, asked: used.asked, is_lent };
            match result {
                0.. if taken.sent > 0 || is_first => self.on_taken(slot, taken),
                0.. => self.leave_send(slot),
                _ if is_first => self.on_zero_copy_failed(slot, result),
                _ => self.leave_send(slot),
            }
        }
        if !more {
            self.end_zero_copy(token, |_, _| {});
        }
    }

    // Records what the socket has taken of an operation.
    fn on_taken(&mut self, slot: usize, Taken { sent, asked, is_lent }: Taken) {
        let job = &mut self.jobs[slot];
        if is_lent && sent > 0 {
            job.operation.lend();
        }
        job.operation.sent(sent, CompletionFlags::empty(), u64::MAX);
        job.sending.unresolved += sent;
        Counters::add(&self.shared.counters.wire_bytes, sent);
        Counters::add(&self.shared.counters.file_bytes, sent);
        self.progressed(slot);
        self.consume(slot);
        if sent < asked { self.wait_for_peer(slot) } else { self.proceed(slot) }
    }

    // Puts an operation back of which the send took nothing: its turn is still to come.
    fn leave_send(&mut self, slot: usize) {
        self.jobs[slot].operation.send_refused();
        self.drop_source_of(slot);
        self.settle(slot);
    }

    fn on_zero_copy_failed(&mut self, slot: usize, result: i32) {
        let job = &self.jobs[slot];
        let is_lent = matches!(job.data.source, Source::Lent { .. });
        match -result {
            libc::EAGAIN | libc::EINTR => self.on_send_error(slot, result),
            libc::EFAULT if is_lent => self.on_send_error(slot, result),
            // Not supported on this socket: copy instead.
            libc::EOPNOTSUPP | libc::EINVAL | libc::EFAULT => {
                self.learn_zero_copy(job.cookie, false);
                self.send_copy(slot);
            }
            // Not with the memory that may be pinned now, which says nothing about the socket.
            libc::ENOMEM | libc::ENOBUFS => self.send_copy(slot),
            _ => self.on_send_error(slot, result),
        }
    }

    // Sends bytes at hand as a copy instead of with zero-copy.
    pub(super) fn send_copy(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        job.operation.send_refused();
        job.data.handling = Handling::Copied;
        if matches!(job.data.source, Source::Lent { .. }) {
            self.drop_source_of(slot);
        }
        self.proceed(slot);
    }

    // Releases what a send used; `each` receives its parts.
    fn end_zero_copy(&mut self, token: Token, mut each: impl FnMut(&mut Self, ZeroCopyUse)) {
        self.zero_copies.unpin(token.slot());
        let mut next = Some(token.slot());
        while let Some(index) = next {
            next = self.zero_copies.behind(index);
            let used = self.zero_copies.remove(index);
            if let Some(lease) = used.lease {
                self.room.release(lease);
            }
            each(self, used);
        }
    }

    pub(super) fn on_released(&mut self, token: Token, copied: bool) {
        let Some(&mut ZeroCopyUse { cookie, sent, .. }) = self.zero_copies.get_mut(token) else {
            return;
        };
        let copied = sent > 0 && self.zero_copies.was_copied(cookie, copied);
        self.end_zero_copy(token, |driver, used| driver.on_part_released(used, copied));
        if sent == 0 {
            return;
        }
        let counters = &self.shared.counters;
        Counters::add(&counters.zerocopy_notified, 1);
        Counters::add(&counters.zerocopy_copied_anyway, copied.into());
        if !copied || !self.was_copied_once(cookie) {
            self.learn_zero_copy(cookie, !copied);
        }
    }

    fn on_part_released(&mut self, used: ZeroCopyUse, copied: bool) {
        let counters = &self.shared.counters;
        if copied {
            Counters::add(&counters.bytes_copied, used.sent);
        } else {
            Counters::add(&counters.bytes_zerocopy, used.sent);
            let lent = if used.lease.is_none() { used.sent } else { 0 };
            Counters::add(&counters.bytes_page_cache, lent);
            Counters::add(&counters.bytes_frozen, if used.is_frozen { lent } else { 0 });
        }
        let slot = used.slot as usize;
        let is_there = self.jobs.get(slot).is_some_and(|job| job.id == used.id);
        if !is_there || used.sent == 0 {
            return;
        }
        let job = &mut self.jobs[slot];
        job.sending.unresolved = job.sending.unresolved.saturating_sub(used.sent);
        job.operation.mark(if copied {
            CompletionFlags::WAS_COPIED
        } else {
            CompletionFlags::WAS_ZEROCOPY
        });
        if used.lease.is_none() && !used.is_frozen {
            job.operation.give_back();
            self.settle(slot);
        }
    }

    pub(super) fn learn_zero_copy(&mut self, cookie: u64, real: bool) {
        self.zero_copies.learn(real);
        if let Some(socket) = self.schedule.find(cookie) {
            let state = if real { ZeroCopy::Real } else { ZeroCopy::Useless };
            let socket = self.socket(socket);
            socket.zero_copy = Some(state);
            socket.copied = 0;
        }
    }

    // Returns whether a copy is to be ignored: where zero-copy has been real, the kernel may still
    // copy occasionally, for example a retransmitted packet.
    pub(super) fn was_copied_once(&mut self, cookie: u64) -> bool {
        let Some(socket) = self.schedule.find(cookie) else {
            return false;
        };
        let socket = self.socket(socket);
        socket.copied += 1;
        socket.zero_copy == Some(ZeroCopy::Real) && socket.copied < COPIED_MAX
    }

    pub(super) fn zero_copy_state(&mut self, socket: usize, slot: usize) -> ZeroCopy {
        let remaining = {
            let operation = &self.jobs[slot].operation;
            operation.file_length().saturating_sub(operation.range_sent())
        };
        let least = match self.page_cache(slot) {
            PageCache::Mapped => plan::PAGE_CACHE_MAPPED_MIN,
            PageCache::NotMapped => plan::PAGE_CACHE_MIN,
            PageCache::Excluded => plan::ZERO_COPY_MIN,
        };
        if remaining < least || !self.engine.has_zero_copy() {
            return ZeroCopy::Useless;
        }
        if let Some(state) = self.socket(socket).known_zero_copy() {
            return state;
        }
        let fd = self.socket(socket).number();
        let is_local = !self.engine.kernel().leaves_the_machine(fd);
        self.socket(socket).is_local = is_local;
        let state = if is_local || self.zero_copies.is_hopeless() {
            ZeroCopy::Useless
        } else if self.zero_copies.has_enough_trials() && least == plan::ZERO_COPY_MIN {
            return ZeroCopy::Useless;
        } else {
            ZeroCopy::Untried
        };
        self.socket(socket).zero_copy = Some(state);
        state
    }
}
