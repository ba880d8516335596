// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring thread.  `thread` is its loop; [`Driver`] owns all operations in flight, with their
//! descriptors, windows and leases.  It takes steps from the pure parts to the engine and events
//! back to them; the order, the ways and the times are decided in `decide`.  Each other file owns
//! one part of the driver.
#![forbid(unsafe_code)]

mod clones;
mod copies;
mod data;
mod ending;
mod files;
mod frozen;
mod intake;
mod job;
mod lent;
mod peers;
pub mod pool;
mod registered;
mod reports;
mod room;
mod send;
mod slow;
mod sockets;
pub mod thread;
mod windows;
mod zero_copies;
mod zero_copy_sends;

use crate::collections::Register;
use crate::decide::operation::Phase;
use crate::decide::schedule::Schedule;
use crate::decide::timers::{Alarm, Timers};
use crate::decide::token::{Kind, Token};
use crate::engine::kernel::Kernel;
use crate::engine::{Engine, EngineEvent};
use crate::handoff::claims::Claim;
use crate::handoff::completions::Entry;
use crate::handoff::shared::Shared;
use crate::ring::pool::Pool;
use crate::types::completion::Completion;
use crate::types::errno::Result;
use crate::types::file::Size;
use crate::types::options::Settings;
use crate::types::stats::Counters;
use data::Found;
use files::Files;
use job::{File, Inspection, Job};
use reports::Reports;
use room::Room;
use slow::Slow;
use sockets::{Socket, Sockets};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use windows::Windows;
use zero_copies::ZeroCopies;

/// All operations in flight on one context, and what they hold.
pub(crate) struct Driver<E: Engine> {
    pub engine: E,
    shared: Arc<Shared>,
    jobs: Register<Job>, // by id
    schedule: Schedule,
    timers: Timers,
    sockets: Sockets,
    files: Files,
    room: Room,
    windows: Windows,
    zero_copies: ZeroCopies,
    slow: Slow,
    reports: Reports,
}

// The most sends and bytes before completions are handed over and events are handled: enough that
// one wake-up of the poller covers many completions, little enough that it is not late.
const ROUND_SENDS: usize = 32;
const ROUND_BYTES: u64 = 1 << 20;
// Operations with at most this many bytes left go ahead of long ones: an answer of a few pages must
// not wait until each of many long transfers has had its turn.
const LIGHT_MAX: u64 = 64 << 10;
impl<E: Engine> Driver<E> {
    pub fn new(shared: Arc<Shared>, engine: E, pool: Pool) -> Result<Driver<E>> {
        let sockets = Sockets::new(shared.claims.clone())?;
        let Settings { window_bytes, page_bytes, .. } = shared.settings;
        Ok(Driver {
            engine,
            shared,
            jobs: Register::default(),
            schedule: Schedule::default(),
            timers: Timers::default(),
            sockets,
            files: Files::default(),
            room: Room::new(pool)?,
            windows: Windows::new(window_bytes, page_bytes),
            zero_copies: ZeroCopies::new(page_bytes),
            slow: Slow::default(),
            reports: Reports::new()?,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.slow.is_empty()
    }

    pub fn is_idle(&self) -> bool {
        self.is_empty()
            && self.zero_copies.is_empty()
            && !self.slow.has_calls()
            && !self.windows.has_leaving()
    }

    pub fn has_turns(&self) -> bool {
        self.schedule.line_length() > 0
            || self.room.freed
            || self.slow.may_call_more()
            || self.windows.has_leaving()
    }

    pub fn next_alarm(&self) -> Option<Instant> {
        [self.timers.next(), self.slow.next_alarm()].into_iter().flatten().min()
    }

    /// Returns whether completions should not wait for others.
    pub fn has_reports_due(&self) -> bool {
        self.reports.is_due(|| self.engine.kernel().now())
    }

    /// Hands completions over; true: ring the bell.
    pub fn flush(&mut self) -> bool {
        let counters = &self.shared.counters;
        Counters::add(&counters.kernel_enters, self.engine.take_enters());
        self.shared.counters.pool_in_use.store(self.room.pool.in_use(), Ordering::Relaxed);
        self.shared.counters.pool_resident.store(self.room.pool.resident(), Ordering::Relaxed);
        self.shared.counters.window_bytes.store(self.windows.bytes(), Ordering::Relaxed);
        self.reports.hand_over(&self.shared.completions);
        self.reports.take_bell_due()
    }

    fn report(&mut self, completion: Completion, cut: Option<NonZeroU64>) {
        let now = || self.engine.kernel().now();
        self.reports.push(Entry { completion, cut }, &self.shared.completions, now);
    }

    /// Releases a socket that a calling thread held; the rest of its operation has arrived before.
    pub fn claim_released(&mut self, claim: Claim) {
        match self.sockets.held_back.released(claim) {
            Ok(true) => {
                if let Some(socket) = self.schedule.find(claim.cookie) {
                    self.schedule.unpark(socket);
                }
            }
            Ok(false) => {}
            Err(error) => self.shared.life.die(error.0),
        }
    }

    /// Returns the bytes that count as pinned for zero-copy.
    #[cfg(test)]
    pub fn pinned(&self) -> u64 {
        self.zero_copies.pinned()
    }

    /// Forgets cut streams that no operation can refer to any more.
    pub fn forget_cuts(&self) {
        let has_operations =
            |cookie| self.schedule.find(cookie).is_some_and(|at| !self.schedule.is_vacant(at));
        self.shared.cuts.forget(has_operations);
    }

    /// Drops the driver without releasing the pool's memory.
    pub fn leak(mut self) {
        self.room.pool.leak();
        self.windows.leak();
    }

    /// Releases memory after a period without work.
    pub fn trim(&mut self) {
        self.room.shrink(&mut self.engine);
        self.shared.counters.pool_resident.store(self.room.pool.resident(), Ordering::Relaxed);
        self.engine.trim();
        self.slow.shrink();
        self.schedule.shrink();
        self.shared.permits.shrink(&self.shared.completions);
        self.jobs.shrink();
        self.sockets.shrink();
        self.files.shrink();
        self.shared.registered.files.shrink();
        self.shared.registered.sockets.shrink();
        self.zero_copies.shrink();
        self.windows.shrink();
        self.timers = Timers::default();
    }

    // ---- turns ---------------------------------------------------------------------

    /// Gives sockets their turns, up to one round.
    pub fn turns(&mut self) {
        self.files.begin_moment();
        self.serve_pool_waiters();
        self.serve_slow_files();
        self.unmap_some();
        let mut bytes = 0;
        for _ in 0..ROUND_SENDS {
            let Some(socket) = self.schedule.next_turn() else {
                break;
            };
            if let Some(slot) = self.schedule.first(socket) {
                bytes += self.turn(socket, slot);
            }
            if bytes >= ROUND_BYTES {
                break;
            }
        }
    }

    // Carries out one step of the first operation on the socket; returns the bytes it may move.
    fn turn(&mut self, socket: usize, slot: usize) -> u64 {
        if self.socket(socket).waiting {
            return 0;
        }
        self.begin(slot);
        let job = &self.jobs[slot];
        let is_waiting = job.data.inspection == Inspection::Waiting;
        if job.operation.is_sending() || job.is_asking() || is_waiting {
            return 0;
        }
        let mut bytes = 0;
        if self.pass_at_once(socket, slot, &mut bytes) {
            return bytes;
        }
        self.query_postponed(slot);
        let id = self.jobs[slot].id;
        if !self.send_next(socket, slot, &mut bytes) && self.jobs[slot].operation.needs_data() {
            let found = self.find_data(socket, slot, &mut bytes);
            let Found::Begun(begun) = found else { return bytes };
            if self.send_header_ahead(socket, slot) {
                return bytes;
            }
            self.send_next(socket, slot, &mut bytes);
            if let Some(begun) = begun {
                self.learn(begun, bytes);
            }
        }
        if self.jobs.get(slot).is_some_and(|job| job.id == id) {
            self.settle(slot);
        }
        bytes
    }

    // Queries the file's size, or has a helper inspect the file first.
    fn begin(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        if job.data.inspection != Inspection::Outstanding
            || matches!(job.operation.phase(), Phase::Ending(_))
        {
            return;
        }
        if self.shared.cuts.is_behind(job.cookie, job.id) {
            job.operation.fail(-libc::ECANCELED);
            return;
        }
        if self.inspect(slot) {
            return;
        }
        let most = self.at_once_max();
        let job = &mut self.jobs[slot];
        if job.can_find_end(most) {
            self.begin_with(slot, Ok(Size::Unknown));
            self.jobs[slot].data.inspection = Inspection::Postponed;
        } else {
            self.query_size(slot);
        }
    }

    // Queries the size of a file whose short range could not be sent at once.
    fn query_postponed(&mut self, slot: usize) {
        if self.jobs[slot].data.inspection == Inspection::Postponed {
            self.query_size(slot);
        }
    }

    fn query_size(&mut self, slot: usize) {
        let size = match &self.jobs[slot].file {
            Some(file) => self.files.size(file.entry as usize, self.engine.kernel()),
            None => Ok(Size::NoFile),
        };
        self.begin_with(slot, size);
    }

    fn begin_with(&mut self, slot: usize, size: Result<Size>) {
        let job = &mut self.jobs[slot];
        job.data.inspection = Inspection::Done;
        match (size, job.operation.phase()) {
            (Err(error), _) => job.operation.fail(error.negative()),
            (Ok(size), Phase::Queued) => job.operation.start(size),
            (Ok(size), _) => job.operation.resume(size),
        }
        if matches!(size, Ok(Size::Known(_))) {
            self.find_frozen(slot);
        }
        self.clone_long(slot);
    }

    fn socket(&mut self, socket: usize) -> &mut Socket {
        self.sockets.get_mut(socket).expect("a socket in the schedule is open")
    }

    // ---- events --------------------------------------------------------------------

    /// Handles events that the engine has reported.
    pub fn handle_all(&mut self, events: impl Iterator<Item = EngineEvent>) {
        self.files.begin_moment();
        events.for_each(|event| self.handle(event));
    }

    /// Handles an event of the engine.
    pub fn handle(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Completed { token, result, more } => match token.kind() {
                Kind::Send => self.on_sent(token, result),
                Kind::ZeroCopy => self.on_zero_copy_sent(token, result, more),
                Kind::Read => self.on_read(token, result),
                Kind::Writable => self.on_writable(token, result, more),
                Kind::Close => self.on_closed(token),
                Kind::Intake | Kind::Disarm | Kind::Helpers | Kind::Inspect | Kind::Clone => {}
            },
            EngineEvent::Inspected { token, found } => self.on_inspected(token, found),
            EngineEvent::Cloned { token, clone } => self.on_cloned(token, clone),
            EngineEvent::Released { token, copied } => self.on_released(token, copied),
        }
    }

    fn slot_of(&self, token: Token) -> Option<usize> {
        let slot = token.slot();
        self.jobs.get(slot).filter(|job| token.is_of(job.id)).map(|_| slot)
    }

    /// Handles the times that are due.
    pub fn alarms(&mut self) {
        self.report_unclosed();
        if self.timers.next().is_none() {
            return;
        }
        let jobs = &self.jobs;
        let alive = |id, slot: u32| jobs.get(slot as usize).is_some_and(|job| job.has_low_id(id));
        self.timers.compact(jobs.len(), alive);
        let now = self.engine.kernel().now();
        while let Some((id, slot, alarm)) = self.timers.take_due(now) {
            let slot = slot as usize;
            if self.jobs.get(slot).is_none_or(|job| !job.has_low_id(id)) {
                continue;
            }
            match alarm {
                Alarm::Deadline => self.end(slot, -libc::ETIMEDOUT),
                Alarm::Linger => self.give_up_data(slot),
                Alarm::Look => self.pause_over(slot),
                Alarm::Abandon => self.abandon_call(slot),
                Alarm::Reset => self.take_back_pages(slot),
            }
        }
    }

    // ---- between steps -------------------------------------------------------------

    // Continues an operation after an event: with its next step, or its end.
    fn proceed(&mut self, slot: usize) {
        if self.jobs[slot].operation.ended().is_none() {
            self.ready(self.schedule.socket_of(slot));
        }
        self.settle(slot);
    }

    fn ready(&mut self, socket: usize) {
        let first = self.schedule.first(socket);
        let is_light = first.is_none_or(|slot| self.jobs[slot].remaining_at_most() <= LIGHT_MAX);
        self.schedule.ready(socket, is_light);
    }
}
