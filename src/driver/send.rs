// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends, what comes of them, and waiting for slow peers.
#![forbid(unsafe_code)]

use super::job::{Buffer, Source};
use super::{Driver, ZeroCopyUse};
use crate::engine::{Engine, ZeroCopySend};
use crate::inline::{self, INLINE_MAX, Passed};
use crate::operation::{Portion, WAS_COPIED, WAS_ZEROCOPY};
use crate::plan::ZeroCopy;
use crate::staging::ZEROS;
use crate::stats::Counters;
use crate::sys::{self, Errno, Span};
use crate::timers::Alarm;
use crate::token::{Kind, Token};
use std::time::{Duration, Instant};

// How long data read for a peer that has become slow is kept before it is given up.
const LINGER: Duration = Duration::from_millis(50);

const RETRY: Duration = Duration::from_millis(10);

const TRY_AGAIN: Duration = Duration::from_millis(250);

const TRY_AGAIN_MAX: Duration = Duration::from_secs(32);

impl<E: Engine> Driver<E> {
    // A short range goes at once, the first time, if all of it is in memory and the socket has
    // room: that costs less than finding out which way would be best.  True: it was tried.
    pub(super) fn pass_at_once(&mut self, socket: usize, slot: usize, bytes: &mut u64) -> bool {
        let most = INLINE_MAX.min(self.shared.settings.chunk_bytes);
        let job = &mut self.jobs[slot];
        if std::mem::replace(&mut job.tried_at_once, true) || !job.is_short(most) {
            return false;
        }
        if self.zero_copy_state(socket, slot) != ZeroCopy::Useless {
            return false;
        }
        let job = &mut self.jobs[slot];
        let file = job.file.as_ref().map(|file| file.fd);
        let fd = self.sockets[socket].as_ref().map_or(-1, |socket| sys::number(&socket.fd));
        let pass =
            |scratch: &mut [u8]| inline::pass(fd, file, &job.staged, &mut job.operation, scratch);
        let Ok(Some(Passed { asked, sent })) = self.scratch.with(pass) else { return false };
        *bytes = asked;
        self.jobs[slot].asked = asked;
        self.sent(slot, sent.map_or_else(Errno::negative, |count| count as i32));
        true
    }

    // Sends the next portion if it is at hand.
    pub(super) fn send_next(&mut self, socket: usize, slot: usize, bytes: &mut u64) -> bool {
        let chunk = self.shared.settings.chunk_bytes;
        let job = &mut self.jobs[slot];
        let available = job.available();
        let Some(mut portion) = job.operation.want_send(available, chunk) else {
            return false;
        };
        *bytes = portion.len();
        if self.send_zero_copy(socket, slot, &portion) {
            return true;
        }
        let job = &mut self.jobs[slot];
        if job.zero_copy && portion.range.1 > 0 && portion.header.1 > 0 {
            // The header goes ahead alone, so that the data can go without a copy.
            portion.range.1 = 0;
            portion.zeros = 0;
            portion.trailer.1 = 0;
            portion.more = true;
        }
        let parts = [
            job.staged.header(portion.header),
            job.data(&self.pool, portion.range),
            Span::of(&ZEROS[..portion.zeros as usize]),
            job.staged.trailer(portion.trailer),
        ];
        job.operation.send_started();
        job.asked = parts.iter().map(|part| part.len() as u64).sum();
        let token = Token::new(Kind::Send, slot, job.id);
        let mut used = [parts[0]; sys::PARTS_MAX];
        let mut count = 0;
        for part in parts.into_iter().filter(|part| part.len() > 0) {
            used[count] = part;
            count += 1;
        }
        let flags = if portion.more { libc::MSG_MORE } else { 0 };
        let fd = sys::number(&self.socket(socket).fd);
        self.engine.send(token, fd, &used[..count], flags);
        true
    }

    pub(super) fn send_zero_copy(&mut self, socket: usize, slot: usize, portion: &Portion) -> bool {
        let job = &mut self.jobs[slot];
        if !job.zero_copy || portion.header.1 > 0 || portion.range.1 == 0 {
            return false;
        }
        let Source::Buffers(buffers) = &job.source else {
            return false;
        };
        let Some(&Buffer { lease, .. }) = buffers.front() else {
            return false;
        };
        let span = job.data(&self.pool, portion.range);
        let rest = portion.zeros > 0 || portion.trailer.1 > 0;
        job.operation.send_started();
        self.generation += 1;
        let zero_copy = ZeroCopyUse {
            lease,
            slot: slot as u32,
            id: job.id,
            cookie: job.cookie,
            generation: self.generation,
            asked: portion.range.1,
            sent: 0,
        };
        self.pool.retain(lease);
        let send = ZeroCopySend {
            socket: sys::number(&self.socket(socket).fd),
            span,
            flags: if portion.more || rest { libc::MSG_MORE } else { 0 },
        };
        let index = self.zero_copies.insert(zero_copy);
        let state = &mut self.socket(socket).zero_copy;
        if *state == Some(ZeroCopy::Untried) {
            *state = Some(ZeroCopy::Trying);
        }
        self.engine.send_zero_copy(Token::new(Kind::ZeroCopy, index, self.generation), send);
        true
    }

    pub(super) fn on_sent(&mut self, token: Token, result: i32) {
        if let Some(slot) = self.slot_of(token) {
            self.sent(slot, result);
        }
    }

    fn sent(&mut self, slot: usize, result: i32) {
        if result >= 0 {
            let job = &mut self.jobs[slot];
            let before = job.operation.range_sent();
            let in_file = job.available_in_file();
            job.operation.sent(result as u64, WAS_COPIED, in_file);
            let file_bytes = job.operation.range_sent() - before;
            if job.operation.has_sent_staged() {
                // A slow peer may keep the rest waiting for long.
                self.shared.staging.release(std::mem::take(&mut job.staged));
            }
            let is_full = (result as u64) < job.asked && job.operation.ended().is_none();
            let counters = &self.shared.counters;
            Counters::add(&counters.wire_bytes, result as u64);
            Counters::add(&counters.file_bytes, file_bytes);
            Counters::add(&counters.bytes_copied, file_bytes);
            self.consume(slot);
            if is_full { self.wait_for_peer(slot) } else { self.proceed(slot) }
        } else {
            self.on_send_error(slot, result);
        }
    }

    pub(super) fn on_send_error(&mut self, slot: usize, result: i32) {
        let job = &mut self.jobs[slot];
        match -result {
            libc::EAGAIN => {
                job.operation.send_refused();
                self.wait_for_peer(slot);
            }
            libc::EINTR => {
                job.operation.send_refused();
                self.proceed(slot);
            }
            libc::EFAULT if matches!(job.source, Source::Window(_)) => {
                // The page is not there: the file was cut, or reading it failed; a read tells.
                let in_file = job.available_in_file();
                job.operation.sent(0, 0, in_file);
                job.source = Source::None;
                if let Some(file) = &mut job.file {
                    file.mappable = false;
                }
                self.proceed(slot);
            }
            libc::ENOBUFS | libc::ENOMEM => {
                job.operation.send_refused();
                let entry = (job.id, slot as u32, Alarm::Retry);
                self.timers.set(Instant::now() + RETRY, entry);
                self.settle(slot);
            }
            _ => {
                job.operation.send_failed(result);
                self.settle(slot);
            }
        }
    }

    pub(super) fn on_zero_copy_sent(&mut self, token: Token, result: i32, more: bool) {
        let index = token.slot();
        let Some(used) = self.zero_copies.get_mut(index) else {
            return;
        };
        if !token.is_of(used.generation) {
            return;
        }
        used.sent = result.max(0) as u64;
        let (slot, id, cookie, lease) = (used.slot as usize, used.id, used.cookie, used.lease);
        let asked = used.asked;
        if !more {
            self.zero_copies.remove(index);
            self.release_lease(lease);
        }
        if self.jobs.get(slot).is_none_or(|job| job.id != id) {
            return;
        }
        if result >= 0 {
            let job = &mut self.jobs[slot];
            job.operation.sent(result as u64, 0, u64::MAX);
            job.unresolved += result as u64;
            Counters::add(&self.shared.counters.wire_bytes, result as u64);
            Counters::add(&self.shared.counters.file_bytes, result as u64);
            self.consume(slot);
            if (result as u64) < asked {
                return self.wait_for_peer(slot);
            }
            return self.proceed(slot);
        }
        match -result {
            libc::EAGAIN | libc::EINTR => self.on_send_error(slot, result),
            // Not on this socket, or not with the memory that may be locked: copy instead.
            libc::EOPNOTSUPP | libc::EINVAL | libc::ENOMEM | libc::ENOBUFS | libc::EFAULT => {
                self.learn_zero_copy(cookie, false);
                self.jobs[slot].operation.send_refused();
                self.jobs[slot].zero_copy = false;
                self.proceed(slot);
            }
            _ => self.on_send_error(slot, result),
        }
    }

    pub(super) fn on_released(&mut self, token: Token, copied: bool) {
        let index = token.slot();
        if self.zero_copies.get(index).is_none_or(|used| !token.is_of(used.generation)) {
            return;
        }
        let used = self.zero_copies.remove(index);
        self.release_lease(used.lease);
        if used.sent == 0 {
            return;
        }
        let counters = &self.shared.counters;
        Counters::add(&counters.zerocopy_notified, 1);
        if copied {
            Counters::add(&counters.zerocopy_copied_anyway, 1);
            Counters::add(&counters.bytes_copied, used.sent);
        } else {
            Counters::add(&counters.bytes_zerocopy, used.sent);
        }
        self.learn_zero_copy(used.cookie, !copied);
        let slot = used.slot as usize;
        if self.jobs.get(slot).is_some_and(|job| job.id == used.id) {
            let job = &mut self.jobs[slot];
            job.unresolved = job.unresolved.saturating_sub(used.sent);
            job.operation.mark(if copied { WAS_COPIED } else { WAS_ZEROCOPY });
        }
    }

    pub(super) fn learn_zero_copy(&mut self, cookie: u64, real: bool) {
        self.zero_copy_useless = if real { 0 } else { self.zero_copy_useless.saturating_add(1) };
        self.zero_copy_was_real |= real;
        if let Some(socket) = self.schedule.find(cookie) {
            let state = if real { ZeroCopy::Real } else { ZeroCopy::Useless };
            self.socket(socket).zero_copy = Some(state);
        }
    }

    pub(super) fn on_writable(&mut self, token: Token) {
        let socket = token.slot();
        let Some(Some(state)) = self.sockets.get_mut(socket) else {
            return;
        };
        if !state.armed || !token.is_of(state.generation) {
            return;
        }
        state.armed = false;
        state.disarming = false;
        if let Some(slot) = self.schedule.first(socket) {
            self.proceed(slot);
        }
    }

    pub(super) fn wait_for_peer(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        self.generation += 1;
        let generation = self.generation;
        let state = self.socket(socket);
        if !state.armed {
            let fd = sys::number(&state.fd);
            if !state.was_armed && sys::socket_domain(fd) == Ok(libc::AF_UNIX) {
                state.try_again = TRY_AGAIN;
            }
            state.armed = true;
            state.was_armed = true;
            state.generation = generation;
            let try_again = state.try_again;
            self.engine.arm(Token::new(Kind::Writable, socket, generation), fd);
            if !try_again.is_zero() {
                let entry = (self.jobs[slot].id, slot as u32, Alarm::TryAgain);
                self.timers.set(Instant::now() + try_again, entry);
            }
        }
        let job = &mut self.jobs[slot];
        match &job.source {
            Source::Buffers(buffers) if !buffers.is_empty() => {
                if !job.is_held() && !job.lingers {
                    job.lingers = true;
                    let entry = (job.id, slot as u32, Alarm::Linger);
                    self.timers.set(Instant::now() + LINGER, entry);
                }
            }
            _ => job.source = Source::None,
        }
        self.settle(slot);
    }

    // Looks whether a socket that poll(2) calls full can be sent on at all, ever more rarely.
    pub(super) fn try_full_socket(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        let state = self.socket(socket);
        if !state.armed || state.disarming || self.schedule.first(socket) != Some(slot) {
            return;
        }
        let state = self.socket(socket);
        state.try_again = (state.try_again * 2).min(TRY_AGAIN_MAX);
        let at = Instant::now() + state.try_again;
        let fd = sys::number(&state.fd);
        self.timers.set(at, (self.jobs[slot].id, slot as u32, Alarm::TryAgain));
        // Sending nothing fails if sending something would fail for good.
        if let Err(error) = sys::send_parts(fd, &[], 0) {
            if error.0 != libc::EAGAIN {
                self.end(slot, error.negative());
            }
        }
    }
}
