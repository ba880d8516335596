// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries the decisions of the pure parts to the engine and its events back to them; owns the
//! descriptors, windows and leases of the operations in flight.
#![forbid(unsafe_code)]

mod data;
mod files;
mod job;
pub mod pool;
mod reports;
mod room;
mod send;
mod slow;
mod sockets;
pub mod thread;
mod zero_copies;

use crate::collections::Register;
use crate::decide::operation::Phase;
use crate::decide::schedule::Schedule;
use crate::decide::timers::{Alarm, Timers};
use crate::decide::token::{Kind, Token};
use crate::engine::{Engine, Event};
use crate::handoff::claims::Claim;
use crate::handoff::completions::Entry;
use crate::handoff::port::{Question, Submission};
use crate::handoff::shared::Shared;
use crate::ring::pool::Pool;
use crate::sys::{self};
use crate::types::completion::Completion;
use crate::types::completion::Event as Report;
use crate::types::completion::WAS_ZEROCOPY;
use crate::types::errno::Result;
use crate::types::file::FileFacts;
use crate::types::file::Size;
use crate::types::request::{EXACT, TO_EOF};
use crate::types::stats::Counters;
use files::Files;
use job::{File, Inspection, Job, Source};
use reports::Reports;
use room::Room;
use slow::Slow;
use sockets::{Socket, Sockets, Wait};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use zero_copies::ZeroCopies;

/// Everything in flight on one context.
pub(crate) struct Driver<E: Engine> {
    pub engine: E,
    shared: Arc<Shared>,
    jobs: Register<Job>, // by id
    schedule: Schedule<Claim>,
    timers: Timers,
    sockets: Sockets,
    files: Files,
    room: Room,
    zero_copies: ZeroCopies,
    slow: Slow,
    reports: Reports,
}

// How much is sent before completions are handed over and new events are looked at: enough that
// a wake-up of who polls is shared by many, little enough that it does not come late.
const ROUND_SENDS: usize = 32;
const ROUND_BYTES: u64 = 1 << 20;
// What this or less is left of goes ahead of what takes long: an answer of a few pages need not
// wait until each of many long transfers has had its turn.
const LIGHT_MAX: u64 = 64 << 10;
// From this many descriptors on it is worth a call to find out whether a file is there already.
const SHARE_FILES_FROM: u32 = 128;
impl<E: Engine> Driver<E> {
    pub fn new(shared: Arc<Shared>, engine: E, pool: Pool) -> Result<Driver<E>> {
        Ok(Driver {
            engine,
            shared,
            jobs: Register::default(),
            schedule: Schedule::default(),
            timers: Timers::default(),
            sockets: Sockets::new()?,
            files: Files::default(),
            room: Room::new(pool)?,
            zero_copies: ZeroCopies::default(),
            slow: Slow::default(),
            reports: Reports::new()?,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.slow.is_empty()
    }

    pub fn is_idle(&self) -> bool {
        self.is_empty() && self.zero_copies.is_empty() && !self.slow.has_calls()
    }

    pub fn has_turns(&self) -> bool {
        self.schedule.line_length() > 0 || self.room.freed || self.slow.may_read_more()
    }

    pub fn next_alarm(&self) -> Option<Instant> {
        [self.timers.next(), self.slow.next_alarm()].into_iter().flatten().min()
    }

    // ---- in and out ----------------------------------------------------------------

    /// Takes a submission and the ring thread's copies of its descriptors.
    pub fn accept(
        &mut self,
        submission: Submission,
        socket: Option<OwnedFd>,
        file: Option<OwnedFd>,
    ) {
        self.shared.in_transit.fetch_sub(1, Ordering::SeqCst);
        let missing = socket.is_none() || file.is_some() != submission.file.is_some();
        match socket {
            Some(fd) if self.is_other_socket(submission.cookie, &fd) => {
                self.refuse(submission, None, file, -libc::EBADF);
            }
            Some(fd) if !missing => self.enqueue(submission, fd, file),
            // The table was full after all, and the kernel dropped them.
            socket => self.refuse(submission, socket, file, -libc::EMFILE),
        }
    }

    // While submit ran, the number was given to something else than what it looked at.  Where there
    // is an entry already, it is the entry's socket that is used.
    fn is_other_socket(&mut self, cookie: u64, fd: &OwnedFd) -> bool {
        if self.schedule.find(cookie).is_some() {
            return false;
        }
        let fd = sys::number(fd);
        if sys::socket_cookie(fd) != Ok(cookie) {
            return true;
        }
        if !self.sockets.is_checked(cookie) {
            if sys::socket_type(fd) != Ok(libc::SOCK_STREAM) || sys::is_listening(fd) != Ok(false) {
                return true;
            }
            self.sockets.remember_checked(cookie);
        }
        false
    }

    /// Ends a submission that came too late for anything else.
    pub fn reject(
        &mut self,
        submission: Submission,
        socket: Option<OwnedFd>,
        file: Option<OwnedFd>,
        status: i32,
    ) {
        self.shared.in_transit.fetch_sub(1, Ordering::SeqCst);
        let socket = socket.filter(|fd| !self.is_other_socket(submission.cookie, fd));
        self.refuse(submission, socket, file, status);
    }

    fn refuse(
        &mut self,
        submission: Submission,
        socket: Option<OwnedFd>,
        file: Option<OwnedFd>,
        status: i32,
    ) {
        self.shared.give_descriptors(submission.descriptor_count());
        if let Some((fd, facts)) = file.zip(submission.file) {
            self.shared.descriptors.fetch_add(1, Ordering::Relaxed);
            self.close_copy(fd, facts);
        }
        let mut job = Job::new(submission, None);
        job.operation.fail(status);
        // The calling thread may have sent its beginning.
        if let Some(socket) = socket.filter(|_| job.operation.is_held_back()) {
            sys::push_tcp(sys::number(&socket));
        }
        self.release(&mut job);
        if job.operation.is_cut() {
            self.shared.record_cut(job.cookie);
        }
        self.leave(job.cookie);
        self.report_done(job);
    }

    // An operation's claim on its socket ends, before its DONE is reported.
    fn leave(&mut self, cookie: u64) {
        if self.shared.claims.leave(cookie) {
            self.sockets.let_go.forget(cookie);
        }
    }

    fn enqueue(&mut self, submission: Submission, fd: OwnedFd, file: Option<OwnedFd>) {
        if let Err(error) = self.make_room() {
            return self.refuse(submission, Some(fd), file, error.negative());
        }
        let (id, cookie, deadline) = (submission.id, submission.cookie, submission.deadline);
        let front = submission.front;
        // The notice that the calling thread has let go may have come first.
        let held_back = submission.held_back.filter(|claim| !self.sockets.let_go.is_over(*claim));
        let file = file.zip(submission.file).map(|(fd, facts)| self.open_file(fd, facts));
        let file = file.transpose().expect("there is room");
        let socket = self.open_socket(cookie, fd).expect("there is room");
        let slot = self.jobs.insert(Job::new(submission, file)).expect("there is room");
        self.schedule.enqueue(socket, slot, front).expect("there is room");
        self.place(slot);
        if let Some(at) = deadline {
            let entry = (id, slot as u32, Alarm::Deadline);
            self.timers.set(at, entry).expect("there is room");
        }
        if let Some(claim) = held_back {
            self.schedule.park(socket, claim);
        }
        self.ready(socket);
        if self.jobs[slot].is_held() && held_back.is_none() {
            self.begin(slot);
            self.read_ahead(slot);
            self.settle(slot);
        }
    }

    // For one operation more in every table, so that nothing fails half-way.
    fn make_room(&mut self) -> Result<()> {
        self.jobs.reserve()?;
        self.schedule.reserve(self.jobs.end())?;
        self.sockets.reserve(self.schedule.end())?;
        self.files.reserve()?;
        self.timers.reserve()
    }

    // Without memory for the alarm the operation fails.
    fn set_alarm(&mut self, slot: usize, at: Instant, alarm: Alarm) {
        let entry = (self.jobs[slot].id, slot as u32, alarm);
        if let Err(error) = self.timers.set(at, entry) {
            self.jobs[slot].operation.fail(error.negative());
        }
    }

    /// Undoes a submission whose descriptors could not be sent.
    pub fn withdraw(&mut self, mut submission: Submission) {
        self.shared.in_transit.fetch_sub(1, Ordering::SeqCst);
        self.shared.give_descriptors(submission.descriptor_count());
        self.leave(submission.cookie);
        self.shared.staging.release(std::mem::take(&mut submission.staged));
        if submission.owes_snapshot() {
            self.shared.give_snapshot();
        }
        self.shared.give_permit();
    }

    // With many descriptors in use, the same open file is kept once only.
    fn open_file(&mut self, fd: OwnedFd, facts: FileFacts) -> Result<File> {
        let may_share = self.shared.descriptors.load(Ordering::Relaxed) > SHARE_FILES_FROM;
        let shared = if may_share { self.files.share(&fd, &facts) } else { None };
        let entry = match shared {
            Some(entry) => {
                self.close_copy(fd, facts);
                entry
            }
            None => self.files.insert(fd, facts, may_share)?,
        };
        let fd = self.files.number(entry);
        Ok(File { fd, entry: entry as u32, facts, mappable: true, through_ring: false })
    }

    // One use less.  Some: a helper closes the ring thread's copy.
    fn close_file(&mut self, entry: usize) -> Option<Token> {
        let open = self.files.release(entry)?;
        self.close_copy(open.fd, open.facts)
    }

    fn open_socket(&mut self, cookie: u64, fd: OwnedFd) -> Result<usize> {
        if let Some(socket) = self.schedule.find(cookie) {
            // The same socket once more: one copy is enough.
            drop(fd);
            self.shared.give_descriptors(1);
            return Ok(socket);
        }
        let socket = self.schedule.open(cookie)?;
        self.sockets.open(socket, fd);
        Ok(socket)
    }

    /// Hands completions over; true: ring the bell.
    pub fn flush(&mut self) -> bool {
        let counters = &self.shared.counters;
        Counters::add(&counters.kernel_enters, self.engine.take_enters());
        self.shared.pool_in_use.store(self.room.pool.in_use(), Ordering::Relaxed);
        self.shared.pool_resident.store(self.room.pool.resident(), Ordering::Relaxed);
        self.reports.hand_over(&self.shared.completions);
        self.reports.take_bell_due()
    }

    fn report(&mut self, completion: Completion, cut: Option<NonZeroU64>) {
        self.reports.push(Entry { completion, cut }, &self.shared.completions);
    }

    /// Answers a question of a caller's: how many operations it concerned.
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
                let mut next = self.schedule.first(socket);
                let count = std::iter::successors(next, |&slot| self.schedule.behind(slot)).count();
                // The end of one that is cut off takes those behind it along.
                while let Some(slot) = next.filter(|&slot| self.jobs.contains(slot)) {
                    next = self.schedule.behind(slot);
                    self.end(slot, -libc::ECANCELED);
                }
                count as u32
            }
        }
    }

    /// A calling thread has let go of its socket; what it could not send has arrived before.
    pub fn let_go(&mut self, claim: Claim) {
        if self.shared.claims.has_operations(claim.cookie) {
            if let Err(error) = self.sockets.let_go.note(claim) {
                // What the claim has held back would never be let go.
                self.shared.die(error.0);
            }
        }
        self.schedule.unpark(claim);
    }

    /// Forgets cut streams that matter to nobody any more.
    pub fn forget_cuts(&self) {
        self.shared.forget_cuts(|cookie| self.schedule.find(cookie).is_some());
    }

    /// Ends everything in flight with this status.
    pub fn fail_all(&mut self, status: i32) {
        for slot in 0..self.jobs.end() {
            if self.jobs.contains(slot) {
                self.end(slot, status);
            }
        }
    }

    /// Reports everything in flight as ended, whatever state it is in: the engine is gone.
    pub fn abandon(&mut self, status: i32) {
        self.report_unclosed(true);
        for slot in 0..self.jobs.end() {
            if !self.jobs.contains(slot) {
                continue;
            }
            let mut job = self.jobs.remove(slot);
            job.operation.fail(status);
            if job.operation.is_held_back() {
                let socket = self.schedule.find(job.cookie).and_then(|at| self.sockets.get(at));
                socket.inspect(|socket| sys::push_tcp(socket.number()));
            }
            // Windows may still be read by the kernel.
            if let Source::Window(window) = std::mem::replace(&mut job.data.source, Source::None) {
                std::mem::forget(window);
            }
            self.report_done(job);
        }
    }

    /// Gives no memory back.
    pub fn leak(mut self) {
        self.room.pool.leak();
    }

    /// Gives memory back after a while of idleness.
    pub fn trim(&mut self) {
        self.room.shrink(&mut self.engine);
        self.shared.pool_resident.store(self.room.pool.resident(), Ordering::Relaxed);
        self.engine.helpers().reap();
        self.slow.shrink();
        self.schedule.shrink();
        self.shared.shrink_completions();
        self.jobs.shrink();
        self.sockets.shrink();
        self.files.shrink();
        self.zero_copies.shrink();
        self.timers = Timers::default();
    }

    // ---- turns ---------------------------------------------------------------------

    /// Gives sockets their turns, up to a round's worth.
    pub fn turns(&mut self) {
        self.serve_pool_waiters();
        self.serve_slow_readers();
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

    // One step of the operation that is first on the socket; returns the bytes it may move.
    fn turn(&mut self, socket: usize, slot: usize) -> u64 {
        if self.socket(socket).waiting {
            return 0;
        }
        self.begin(slot);
        let job = &self.jobs[slot];
        if job.operation.is_sending() || job.inspection == Inspection::Asked {
            return 0;
        }
        let mut bytes = 0;
        if self.pass_at_once(socket, slot, &mut bytes) {
            return bytes;
        }
        if !self.send_next(socket, slot, &mut bytes) && self.jobs[slot].operation.needs_data() {
            self.find_data(socket, slot);
            self.send_next(socket, slot, &mut bytes);
        }
        self.settle(slot);
        bytes
    }

    // Looks at the file, or has a helper do that first.
    fn begin(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        if job.inspection != Inspection::Outstanding
            || matches!(job.operation.phase(), Phase::Ending(_))
        {
            return;
        }
        if self.shared.is_behind_cut(job.cookie, job.id) {
            job.operation.fail(-libc::ECANCELED);
            return;
        }
        if !self.inspect(slot) {
            let size = self.jobs[slot].file.as_ref().map_or(Ok(Size::NoFile), File::size);
            self.begin_with(slot, size);
        }
    }

    fn begin_with(&mut self, slot: usize, size: Result<Size>) {
        let job = &mut self.jobs[slot];
        job.inspection = Inspection::Done;
        match (size, job.operation.phase()) {
            (Err(error), _) => job.operation.fail(error.negative()),
            (Ok(size), Phase::Queued) => job.operation.start(size),
            (Ok(size), _) => job.operation.resume(size),
        }
        let exact = job.operation.task().flags & EXACT != 0;
        let range = job.operation.file_length();
        if exact && range != TO_EOF && range > self.room.pool.kept_max() {
            job.operation.fail(-libc::EMSGSIZE);
        }
    }

    fn socket(&mut self, socket: usize) -> &mut Socket {
        self.sockets.get_mut(socket).expect("a socket in the schedule is open")
    }

    // ---- events --------------------------------------------------------------------

    /// Takes an event of the engine's.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Completed { token, result, more } => match token.kind() {
                Kind::Send => self.on_sent(token, result),
                Kind::ZeroCopy => self.on_zero_copy_sent(token, result, more),
                Kind::Read => self.on_read(token, result),
                Kind::Writable => self.on_writable(token, result, more),
                Kind::Close => self.on_closed(token),
                Kind::Intake | Kind::Disarm | Kind::Helpers | Kind::Inspect => {}
            },
            Event::Inspected { token, found } => self.on_inspected(token, found),
            Event::Released { token, copied } => self.on_released(token, copied),
        }
    }

    fn slot_of(&self, token: Token) -> Option<usize> {
        let slot = token.slot();
        self.jobs.get(slot).filter(|job| token.is_of(job.id)).map(|_| slot)
    }

    /// Looks at the times that have come.
    pub fn alarms(&mut self) {
        self.report_unclosed(false);
        if self.timers.next().is_none() {
            return;
        }
        let jobs = &self.jobs;
        let alive = |id, slot: u32| jobs.get(slot as usize).is_some_and(|job| job.has_low_id(id));
        self.timers.compact(jobs.len(), alive);
        let now = Instant::now();
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
            }
        }
    }

    // ---- between steps -------------------------------------------------------------

    // Something has happened: the next step, or the end.
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

    fn end(&mut self, slot: usize, status: i32) {
        self.jobs[slot].operation.fail(status);
        self.settle(slot);
    }

    // Reports the snapshot when it is due, and finishes the operation when nothing of it is with
    // the kernel any more.
    fn settle(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        if job.reply.is_none() && job.operation.take_snapshot_event(job.is_held()) {
            let completion = job.completion(0, Report::Snapshot);
            self.report(completion, None);
        }
        let is_ending = matches!(self.jobs[slot].operation.phase(), Phase::Ending(_));
        if is_ending && self.leave_file(slot) {
            return;
        }
        if self.jobs[slot].operation.ended().is_none() {
            return;
        }
        let socket = self.schedule.socket_of(slot);
        let alone =
            self.schedule.first(socket) == Some(slot) && self.schedule.behind(slot).is_none();
        if alone && self.socket(socket).wait != Wait::None {
            // DONE waits until the kernel has let go of the socket.
            return self.disarm(socket);
        }
        self.finish(slot, socket);
    }

    fn finish(&mut self, slot: usize, socket: usize) {
        let is_cut = self.jobs[slot].operation.is_cut();
        let was_first = self.schedule.first(socket) == Some(slot);
        let next = self.schedule.behind(slot);
        self.schedule.remove(slot);
        let mut job = self.jobs.remove(slot);
        // The first one always may, even where the one ahead never got as far.
        let may_hold = job.data.may_hold || self.schedule.first(socket) == next;
        if let Some(next) = next.filter(|_| may_hold && !is_cut) {
            self.jobs[next].data.may_hold = true;
            self.read_ahead(next);
            self.let_hold(next);
        }
        if job.operation.is_held_back() {
            sys::push_tcp(self.socket(socket).number());
        }
        let closing = self.release(&mut job);
        if is_cut {
            self.shared.record_cut(job.cookie);
        }
        if self.schedule.first(socket).is_none() {
            self.close_socket(socket);
        } else {
            // What is first now tries for itself: a look that is due may have been this one's.
            let state = self.socket(socket);
            state.waiting &= !was_first && state.look_at.is_none();
            self.ready(socket);
        }
        self.leave(job.cookie);
        match closing {
            Some(token) => self.report_when_closed(token, job),
            None => self.report_done(job),
        }
        if is_cut {
            self.cancel_behind(next);
        }
    }

    // All from this one on.
    fn cancel_behind(&mut self, first: Option<usize>) {
        let mut next = first;
        while let Some(slot) = next {
            self.jobs[slot].operation.fail(-libc::ECANCELED);
            next = self.schedule.behind(slot);
        }
        next = first;
        while let Some(slot) = next {
            next = self.schedule.behind(slot);
            self.settle(slot);
        }
    }

    fn close_socket(&mut self, socket: usize) {
        if let Some(state) = self.sockets.close(socket) {
            if state.generation != 0 {
                self.engine.released(state.number());
            }
            self.shared.give_descriptors(1);
        }
        self.schedule.close(socket);
    }

    // Everything that the operation holds goes back before its DONE can be seen.  Some: the file's
    // descriptor is being closed by a helper.
    fn release(&mut self, job: &mut Job) -> Option<Token> {
        for lease in job.take_leases() {
            self.room.release(lease);
        }
        if let Some(bytes) = job.data.reserved.take() {
            self.room.unreserve(bytes.get());
        }
        job.data.source = Source::None;
        let file = job.file.take();
        debug_assert_eq!(job.data.charged_pages, 0);
        self.shared.staging.release(std::mem::take(&mut job.staged));
        file.and_then(|file| self.close_file(file.entry as usize))
    }

    fn report_done(&mut self, mut job: Job) {
        let status = job.operation.ended().unwrap_or(-libc::EIO);
        if job.sending.unresolved > 0 {
            job.operation.mark(WAS_ZEROCOPY);
        }
        self.shared.counters.count_done(status);
        if job.operation.owes_snapshot() {
            self.shared.give_snapshot();
        }
        let completion = job.completion(status, Report::Done);
        if let Some(reply) = job.reply.take() {
            return self.reports.answer(reply, completion, &self.shared.completions);
        }
        let cut = NonZeroU64::new(job.cookie).filter(|_| job.operation.is_cut());
        self.report(completion, cut);
    }
}
