// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends, what comes of them, and waiting for slow peers.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::{Buffer, Source};
use super::sockets::Wait;
use super::zero_copies::ZeroCopyUse;
use crate::caller::inline::{self, INLINE_MAX, Passed};
use crate::decide::operation::Portion;
use crate::decide::pace::Found;
use crate::decide::plan::ZeroCopy;
use crate::decide::timers::Alarm;
use crate::decide::token::{Kind, Token};
use crate::engine::{Engine, ZeroCopySend};
use crate::handoff::staging::ZEROS;
use crate::sys::{self, Span};
use crate::types::completion::WAS_COPIED;
use crate::types::completion::WAS_ZEROCOPY;
use crate::types::errno::Errno;
use crate::types::stats::Counters;
use std::time::{Duration, Instant};

// How long data read for a peer that has become slow is kept before it is given up.
const LINGER: Duration = Duration::from_millis(50);

const COPIED_MAX: u32 = 4;

impl<E: Engine> Driver<E> {
    // A short range goes at once, the first time, if all of it is in memory and the socket has
    // room: that costs less than finding out which way would be best.  True: it was tried.
    pub(super) fn pass_at_once(&mut self, socket: usize, slot: usize, bytes: &mut u64) -> bool {
        let most = INLINE_MAX.min(self.shared.settings.chunk_bytes);
        let job = &mut self.jobs[slot];
        if std::mem::replace(&mut job.sending.tried_at_once, true) || !job.is_short(most) {
            return false;
        }
        if self.zero_copy_state(socket, slot) != ZeroCopy::Useless {
            return false;
        }
        let job = &mut self.jobs[slot];
        let file = job.file.as_ref().map(|file| (file.fd, file.facts));
        let known = &self.shared.known_files;
        if file.is_some_and(|(_, facts)| !known.is_direct(&facts)) {
            return false;
        }
        let fd = self.socket(socket).number();
        let job = &mut self.jobs[slot];
        let known = &self.shared.known_files;
        let pass = |scratch: &mut [u8]| {
            inline::pass(fd, file, &job.staged, &mut job.operation, known, scratch)
        };
        let Ok(Some(Passed { asked, sent })) = self.room.scratch.with(pass) else { return false };
        *bytes = asked;
        self.jobs[slot].sending.asked = asked as u32;
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
        let by_itself = job.data.zero_copy && self.zero_copies.allows(portion.range.1);
        if by_itself && portion.range.1 > 0 && portion.header.1 > 0 {
            // The header goes ahead alone, so that the data can go without a copy.
            portion.range.1 = 0;
            portion.zeros = 0;
            portion.trailer.1 = 0;
            portion.more = true;
        }
        let parts = [
            job.staged.header(portion.header),
            job.next_bytes(&self.room.pool, portion.range),
            Span::of(&ZEROS[..portion.zeros as usize]),
            job.staged.trailer(portion.trailer),
        ];
        job.operation.send_started(portion.more);
        job.sending.asked = parts.iter().map(|part| part.len() as u32).sum();
        let token = Token::new(Kind::Send, slot, job.id);
        let mut used = [parts[0]; sys::PARTS_MAX];
        let mut count = 0;
        for part in parts.into_iter().filter(|part| part.len() > 0) {
            used[count] = part;
            count += 1;
        }
        let fd = self.socket(socket).number();
        let flags = sys::more_flag(fd, portion.more);
        self.engine.send(token, fd, &used[..count], flags);
        true
    }

    pub(super) fn send_zero_copy(&mut self, socket: usize, slot: usize, portion: &Portion) -> bool {
        let job = &mut self.jobs[slot];
        if !job.data.zero_copy || portion.header.1 > 0 || portion.range.1 == 0 {
            return false;
        }
        let Source::Buffers(buffers) = &job.data.source else {
            return false;
        };
        let Some(&Buffer { lease, .. }) = buffers.front() else {
            return false;
        };
        let is_allowed = self.zero_copies.allows(portion.range.1);
        if !is_allowed || self.zero_copies.reserve().is_err() {
            return false;
        }
        let span = job.next_bytes(&self.room.pool, portion.range);
        let more = portion.more || portion.zeros > 0 || portion.trailer.1 > 0;
        job.operation.send_started(more);
        let begun = ZeroCopyUse::new(lease, (slot, job.id), job.cookie, portion.range.1);
        self.room.pool.retain(lease);
        let send = ZeroCopySend {
            socket: self.socket(socket).number(),
            span,
            flags: if more { libc::MSG_MORE } else { 0 },
        };
        let (index, generation) = self.zero_copies.begin(begun);
        let state = &mut self.socket(socket).zero_copy;
        if *state == Some(ZeroCopy::Untried) {
            *state = Some(ZeroCopy::Trying);
        }
        self.engine.send_zero_copy(Token::new(Kind::ZeroCopy, index, generation), send);
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
            let is_full = result < job.sending.asked as i32 && job.operation.ended().is_none();
            let counters = &self.shared.counters;
            Counters::add(&counters.wire_bytes, result as u64);
            Counters::add(&counters.file_bytes, file_bytes);
            Counters::add(&counters.bytes_copied, file_bytes);
            self.progressed(slot);
            self.consume(slot);
            if is_full { self.wait_for_peer(slot) } else { self.proceed(slot) }
        } else {
            self.on_send_error(slot, result);
        }
    }

    // The socket has taken something.
    fn progressed(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        let state = self.socket(socket);
        state.has_looked = false;
        state.pace.progressed();
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
            libc::EFAULT if matches!(job.data.source, Source::Window(_)) => {
                // The page is not there: the file was cut, or reading it failed; a read tells.
                let in_file = job.available_in_file();
                job.operation.sent(0, 0, in_file);
                job.data.source = Source::None;
                if let Some(file) = &mut job.file {
                    file.mappable = false;
                }
                self.proceed(slot);
            }
            libc::ENOBUFS | libc::ENOMEM => {
                // Nothing tells when there is memory again.
                job.operation.send_refused();
                self.look_later(slot, Found::Refusal);
                self.settle(slot);
            }
            _ => {
                job.operation.send_failed(result);
                self.settle(slot);
            }
        }
    }

    pub(super) fn on_zero_copy_sent(&mut self, token: Token, result: i32, more: bool) {
        let Some(used) = self.zero_copies.get_mut(token) else {
            return;
        };
        used.sent = result.max(0) as u64;
        let (slot, id, cookie, asked) = (used.slot as usize, used.id, used.cookie, used.asked);
        let refused = matches!(-result, libc::ENOMEM | libc::ENOBUFS);
        if refused {
            // A notification may follow all the same.
            self.zero_copies.unpin(token);
        }
        if !more {
            if let Some(used) = self.zero_copies.end(token) {
                self.room.release(used.lease);
            }
        }
        if refused {
            self.zero_copies.refused();
        } else if result >= 0 {
            self.zero_copies.fitted();
        }
        if self.jobs.get(slot).is_none_or(|job| job.id != id) {
            return;
        }
        if result >= 0 {
            let job = &mut self.jobs[slot];
            job.operation.sent(result as u64, 0, u64::MAX);
            job.sending.unresolved += result as u64;
            Counters::add(&self.shared.counters.wire_bytes, result as u64);
            Counters::add(&self.shared.counters.file_bytes, result as u64);
            self.progressed(slot);
            self.consume(slot);
            if (result as u64) < asked {
                return self.wait_for_peer(slot);
            }
            return self.proceed(slot);
        }
        if let Some(socket) = self.schedule.find(cookie) {
            // No notification will say what became of it.
            let state = &mut self.socket(socket).zero_copy;
            *state = state.filter(|state| *state != ZeroCopy::Trying).or(Some(ZeroCopy::Untried));
        }
        match -result {
            libc::EAGAIN | libc::EINTR => self.on_send_error(slot, result),
            // Not on this socket: copy instead.
            libc::EOPNOTSUPP | libc::EINVAL | libc::EFAULT => {
                self.learn_zero_copy(cookie, false);
                self.send_copy(slot);
            }
            // Not with the memory that may be pinned now, which says nothing of the socket.
            libc::ENOMEM | libc::ENOBUFS => self.send_copy(slot),
            _ => self.on_send_error(slot, result),
        }
    }

    // The next bytes are there, but not to be sent without a copy.
    fn send_copy(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        job.operation.send_refused();
        job.data.zero_copy = false;
        self.proceed(slot);
    }

    pub(super) fn on_released(&mut self, token: Token, copied: bool) {
        let Some(used) = self.zero_copies.end(token) else {
            return;
        };
        self.room.release(used.lease);
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
        if !copied || !self.was_copied_once(used.cookie) {
            self.learn_zero_copy(used.cookie, !copied);
        }
        let slot = used.slot as usize;
        if self.jobs.get(slot).is_some_and(|job| job.id == used.id) {
            let job = &mut self.jobs[slot];
            job.sending.unresolved = job.sending.unresolved.saturating_sub(used.sent);
            job.operation.mark(if copied { WAS_COPIED } else { WAS_ZEROCOPY });
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

    // Where zero-copy has been real the kernel may copy now and then, a packet that is sent again for
    // one: a few copies in a row are no reason to give it up.
    fn was_copied_once(&mut self, cookie: u64) -> bool {
        let Some(socket) = self.schedule.find(cookie) else {
            return false;
        };
        let socket = self.socket(socket);
        socket.copied += 1;
        socket.zero_copy == Some(ZeroCopy::Real) && socket.copied < COPIED_MAX
    }

    pub(super) fn on_writable(&mut self, token: Token, result: i32, more: bool) {
        let socket = token.slot();
        let Some(state) = self.sockets.get_mut(socket) else {
            return;
        };
        if state.wait == Wait::None || !token.is_of(state.generation.into()) {
            return;
        }
        let was_disarmed = !more && state.wait == Wait::Disarming;
        if !more {
            state.wait = Wait::None;
        }
        let waiting = state.waiting;
        let Some(slot) = self.schedule.first(socket) else {
            return;
        };
        if self.jobs[slot].operation.ended().is_some() {
            return self.settle(slot);
        }
        let state = self.socket(socket);
        state.pace.reported();
        if !waiting {
            if !state.pace.listens() {
                self.disarm(socket);
            }
        } else if result > 0 && result & i32::from(libc::POLLOUT) != 0 {
            self.try_again(socket, slot);
        } else if result < 0 && !was_disarmed {
            // It cannot be watched: a look now and then has to do.
            self.look_later(slot, Found::Refusal);
            self.settle(slot);
        } else if !was_disarmed {
            self.look(socket, slot);
        } else if state.pace.listens() {
            // The next wait has begun meanwhile.
            self.arm(socket);
        }
    }

    // The socket says that it has room.
    fn try_again(&mut self, socket: usize, slot: usize) {
        let state = self.socket(socket);
        state.waiting = false;
        state.has_looked = true;
        self.proceed(slot);
    }

    // Something has been reported that is not room, or nothing for long: looks whether there is room,
    // or a failure that poll(2) does not tell, without any data in hand.
    fn look(&mut self, socket: usize, slot: usize) {
        let fd = self.socket(socket).number();
        if sys::is_ready(fd, libc::POLLOUT) {
            return self.try_again(socket, slot);
        }
        // Sending nothing fails if sending something would fail for good.
        match sys::send_parts(fd, &[], 0) {
            Err(error) if error.0 != libc::EAGAIN => self.end(slot, error.negative()),
            _ => {
                self.look_later(slot, Found::Full);
                self.settle(slot);
            }
        }
    }

    // The time for a look has come.
    pub(super) fn pause_over(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        let first = self.schedule.first(socket).unwrap_or(slot);
        let has_ended = self.jobs[first].operation.ended().is_some();
        let state = self.socket(socket);
        // It may have been put off since.
        let is_due = state.look_at.is_some_and(|at| at <= Instant::now());
        if is_due && state.waiting && !has_ended {
            state.look_at = None;
            state.pace.paused();
            self.look(socket, first);
        }
    }

    // A look was in vain.  The next comes with a change that the kernel reports, or after a pause.
    // The operation is to be settled: it has failed if there is no memory for the pause.
    fn look_later(&mut self, slot: usize, found: Found) {
        let socket = self.schedule.socket_of(slot);
        let state = self.socket(socket);
        state.waiting = true;
        let at = Instant::now() + state.pace.in_vain(found);
        state.look_at = Some(at);
        let listens = state.pace.listens();
        self.set_alarm(slot, at, Alarm::Look);
        if listens { self.arm(socket) } else { self.disarm(socket) }
    }

    fn arm(&mut self, socket: usize) {
        if self.socket(socket).wait != Wait::None {
            return;
        }
        let generation = self.sockets.next_generation();
        let state = self.socket(socket);
        state.wait = Wait::Armed;
        state.generation = generation as u32;
        let (fd, changes) = (state.number(), state.pace.wants_changes());
        self.engine.arm(Token::new(Kind::Writable, socket, generation), fd, changes);
    }

    pub(super) fn disarm(&mut self, socket: usize) {
        let state = self.socket(socket);
        if state.wait == Wait::Armed {
            state.wait = Wait::Disarming;
            let token = Token::new(Kind::Writable, socket, state.generation.into());
            let fd = state.number();
            self.engine.disarm(token, fd);
        }
    }

    pub(super) fn wait_for_peer(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        if std::mem::take(&mut self.socket(socket).has_looked) {
            self.look_later(slot, Found::Refusal);
        } else {
            self.wait_for_room(socket, slot);
        }
        let job = &mut self.jobs[slot];
        match &job.data.source {
            Source::Buffers(buffers) if !buffers.is_empty() => {
                if !job.is_held() && !job.sending.lingers {
                    job.sending.lingers = true;
                    self.set_alarm(slot, Instant::now() + LINGER, Alarm::Linger);
                }
            }
            _ => job.data.source = Source::None,
        }
        self.settle(slot);
    }

    fn wait_for_room(&mut self, socket: usize, slot: usize) {
        let state = self.socket(socket);
        state.waiting = true;
        state.look_at = None;
        let fd = state.number();
        let is_unix = || sys::socket_domain(fd) == Ok(libc::AF_UNIX);
        // Where changes are waited for, that of room may have been reported while data was on its way.
        if state.pace.wants_changes() && sys::is_ready(fd, libc::POLLOUT) {
            return self.try_again(socket, slot);
        }
        // When the own side of an AF_UNIX socket is shut down for writing, poll(2) does not say so.
        let state = self.socket(socket);
        if *state.is_unix.get_or_insert_with(is_unix) || state.pace.wants_changes() {
            self.look_later(slot, Found::Full);
        } else {
            self.arm(socket);
        }
    }
}
