// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits for peers that take nothing for a while: arms and disarms the kernel's reports, looks at
//! sockets in between, and limits how long data is kept for a slow peer.  How often to look is
//! decided in `decide::pace`.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::{Handling, Source};
use super::sockets::Wait;
use crate::decide::pace::Found;
use crate::decide::timers::Alarm;
use crate::decide::token::{Kind, Token};
use crate::engine::Engine;
use crate::engine::kernel::Kernel;
use std::time::Duration;

// How long data is kept that was read for a peer that has become slow.
const LINGER: Duration = Duration::from_millis(50);

impl<E: Engine> Driver<E> {
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
        let has_ended = |slot: &usize| self.jobs[*slot].operation.ended().is_some();
        let ended = self.schedule.oldest(socket).filter(has_ended);
        let Some(slot) = ended.or(self.schedule.first(socket)) else {
            return;
        };
        if ended.is_some() || has_ended(&slot) {
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
            // It cannot be watched, so it is looked at from time to time.
            self.look_later(slot, Found::Refusal);
            self.settle(slot);
        } else if !was_disarmed {
            self.look(socket, slot);
        } else if state.pace.listens() {
            // The next wait has begun in between.
            self.arm(socket);
        }
    }

    // Continues after the socket reported room.
    pub(super) fn try_again(&mut self, socket: usize, slot: usize) {
        let state = self.socket(socket);
        state.waiting = false;
        state.has_looked = true;
        self.proceed(slot);
    }

    // Looks at a socket after a report other than room, or after a long silence: checks for room
    // and for failures that poll(2) does not report, without any data at hand.
    pub(super) fn look(&mut self, socket: usize, slot: usize) {
        let fd = self.socket(socket).number();
        if self.engine.kernel().has_room(fd) {
            return self.try_again(socket, slot);
        }
        // An empty send fails if a send of data would fail permanently.
        match self.engine.kernel().send(fd, &[], 0) {
            Err(error) if error.0 != libc::EAGAIN => self.end(slot, error.negative()),
            _ => {
                self.look_later(slot, Found::Full);
                self.settle(slot);
            }
        }
    }

    // Looks at the socket if its look is due.
    pub(super) fn pause_over(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        let first = self.schedule.first(socket).unwrap_or(slot);
        let now = self.timers.moment(self.engine.kernel().now());
        let has_ended = self.jobs[first].operation.ended().is_some();
        let state = self.socket(socket);
        // The look may have been postponed since.
        let is_due = state.look_at.is_some_and(|at| at <= now);
        if is_due && state.waiting && !has_ended {
            state.look_at = None;
            state.pace.paused();
            self.look(socket, first);
        }
    }

    // Postpones the next look after one in vain, to a change that the kernel reports or the end of
    // a pause.  The caller settles the operation, which has failed if there is no memory for the
    // alarm.
    pub(super) fn look_later(&mut self, slot: usize, found: Found) {
        let now = self.engine.kernel().now();
        let socket = self.schedule.socket_of(slot);
        let state = self.socket(socket);
        state.waiting = true;
        let at = now + state.pace.in_vain(found);
        let listens = state.pace.listens();
        let moment = self.timers.moment(at);
        self.socket(socket).look_at = Some(moment);
        self.set_alarm(slot, at, Alarm::Look);
        if listens { self.arm(socket) } else { self.disarm(socket) }
    }

    pub(super) fn arm(&mut self, socket: usize) {
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
        if self.jobs[slot].operation.ended().is_some() {
            // Cancelled while the send was in flight: it needs no room any more.
            return self.settle(slot);
        }
        let socket = self.schedule.socket_of(slot);
        if std::mem::take(&mut self.socket(socket).has_looked) {
            self.look_later(slot, Found::Refusal);
        } else {
            self.wait_for_room(socket, slot);
        }
        let job = &mut self.jobs[slot];
        match &job.data.source {
            // It is in the page cache, from where it is soon read again.
            Source::Buffers(_) if job.data.handling == Handling::Warm => self.give_up_data(slot),
            Source::Buffers(buffers) if !buffers.is_empty() => {
                if !job.is_held() && !job.sending.lingers {
                    job.sending.lingers = true;
                    let at = self.engine.kernel().now() + LINGER;
                    self.set_alarm(slot, at, Alarm::Linger);
                }
            }
            _ => self.drop_source_of(slot),
        }
        self.settle(slot);
    }

    pub(super) fn wait_for_room(&mut self, socket: usize, slot: usize) {
        let state = self.socket(socket);
        state.waiting = true;
        state.look_at = None;
        let fd = state.number();
        // With edge-triggered reports, the one of room may have come while data was being read.
        if state.pace.wants_changes() && self.engine.kernel().has_room(fd) {
            return self.try_again(socket, slot);
        }
        // poll(2) does not report that the own side of an AF_UNIX socket was shut down for writing.
        let state = self.sockets.get_mut(socket).expect("a socket in the schedule is open");
        let is_unix = || self.engine.kernel().is_unix(fd);
        if *state.is_unix.get_or_insert_with(is_unix) || state.pace.wants_changes() {
            self.look_later(slot, Found::Full);
        } else {
            self.arm(socket);
        }
    }
}
