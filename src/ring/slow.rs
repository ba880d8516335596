// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that may be slow.  Files that are not known to be quick are inspected, read and closed by
//! helpers, with a limit for each file system.  Beyond it, operations wait here, because an
//! operation in a line takes far less memory than a call.  An operation that ends does not wait for
//! a call that does not return; the call keeps what it uses.
#![forbid(unsafe_code)]

use super::job::{Buffer, Inspection, Job};
use super::{Driver, File};
use crate::collections::{Line, NumberMap, Numbered, Register, memory};
use crate::decide::operation::{self, Phase};
use crate::decide::pool_size::POOL_PAGE;
use crate::decide::timers::Alarm;
use crate::decide::token::{Kind, Token};
use crate::engine::Engine;
use crate::engine::helpers::{self, Task};
use crate::engine::kernel::Kernel;
use crate::ring::pool::Lease;
use crate::ring::room::Waiter;
use crate::sys;
use crate::types::errno::Result;
use crate::types::file::{FileFacts, Mount, Size};
use crate::types::request::RequestFlags;

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

// How long an ended operation waits for its read, so that the file is closed when DONE is reported;
// and how long DONE waits for a close by a helper.
const COMES_BACK_WITHIN: Duration = Duration::from_millis(50);

// How long windows are unmapped before others have their turn.
const UNMAP_FOR: Duration = Duration::from_micros(100);

// The most helper reads of one file system that have room in the pool; further ones wait without.
const READS_FOR_EACH: u32 = 32;

// The most inspections of one file system that helpers have.  More than there are helpers, so that
// none of these is idle; few in tests, so that the models reach it.
const INSPECTIONS_FOR_EACH: u32 = if cfg!(test) { 2 } else { 256 };

/// A call on a file that has outlived its operation.  What it uses is not reused until it returns.
#[derive(Clone, Copy)]
struct Call {
    lease: Option<Lease>,
    file: usize,
    mount: Mount,
    charged_pages: u32,
}

/// What helpers do on one file system, and who waits for that.
struct Usage {
    mount: u64,
    /// Reads in flight, and the pool pages charged for them.
    count: u32,
    pages: u32,
    /// Operations that wait without room.
    waiting: Line<Waiter>,
    /// Inspections in flight.
    inspections: u32,
    /// Operations whose files wait to be inspected.
    uninspected: Line<Waiter>,
}

impl Usage {
    fn new(mount: u64) -> Usage {
        let (waiting, uninspected) = (Line::default(), Line::default());
        Usage { mount, count: 0, pages: 0, waiting, inspections: 0, uninspected }
    }

    fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.uninspected.is_empty()
    }

    fn is_over(&self) -> bool {
        self.count == 0 && self.inspections == 0 && !self.has_waiting()
    }
}

impl Numbered for Usage {
    fn number(&self) -> u64 {
        self.mount
    }
}

/// What the close of a file waits for.
#[derive(Clone, Copy)]
pub(super) enum Close {
    /// A helper, which may have to wait for a server.
    Helper(Token),
    /// Its windows, which the ring thread unmaps one after the other.
    Windows(Token),
}

/// An ended operation whose DONE waits until a helper has closed its file.
struct Closing {
    token: Token,
    until: Instant,
    job: Job,
}

/// Calls in progress on files that may be slow.
#[derive(Default)]
pub(super) struct Slow {
    calls: NumberMap<Call>,
    usage: Register<Usage>,
    /// Mounts with fewer calls than before, while operations wait.
    freed: Vec<u64>,
    /// In order of their time, because all wait equally long.
    closing: Line<Closing>,
    /// Ended operations whose DONE waits until their file's windows are unmapped.
    unmapping: Line<(Token, Job)>,
    /// The generation of the latest close by a helper.
    closes: u64,
}

impl Slow {
    /// Returns whether no DONE waits for a close.
    pub(super) fn is_empty(&self) -> bool {
        self.closing.is_empty() && self.unmapping.is_empty()
    }

    /// Returns a token for one more file that is closed later.
    pub(super) fn close_token(&mut self) -> Token {
        self.closes += 1;
        Token::new(Kind::Close, 0, self.closes)
    }

    /// Returns whether abandoned calls are in progress.
    pub(super) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.closing.first().map(|closing| closing.until)
    }

    /// Returns whether waiting calls may begin.
    pub(super) fn may_call_more(&self) -> bool {
        !self.freed.is_empty()
    }

    /// Releases memory; no call is in progress.
    pub(super) fn shrink(&mut self) {
        self.calls = NumberMap::default();
        self.usage.shrink();
        self.freed = Vec::new();
        self.closing.shrink();
        self.unmapping.shrink();
    }

    // Returns the usage of a file system, with room for it in `freed`.
    fn usage_of(&mut self, mount: Mount) -> Result<&mut Usage> {
        memory::reserve(&mut self.freed, self.usage.len() + 1)?;
        let mount = mount.number();
        let at = match self.usage.find(mount) {
            Some(at) => at,
            None => self.usage.insert(Usage::new(mount))?,
        };
        Ok(&mut self.usage[at])
    }

    // Takes the next waiting operation of a file system by `pop`.
    fn next_waiting(
        &mut self,
        mount: u64,
        pop: impl FnOnce(&mut Usage) -> Option<Waiter>,
    ) -> Option<Waiter> {
        let at = self.usage.find(mount)?;
        let usage = &mut self.usage[at];
        let next = pop(usage);
        if usage.is_over() {
            self.usage.remove(at);
        }
        next
    }

    fn discharge(&mut self, mount: Mount, pages: u32) {
        self.end_call(mount, |usage| {
            usage.count -= 1;
            usage.pages -= pages;
        });
    }

    fn discharge_inspection(&mut self, mount: Mount) {
        self.end_call(mount, |usage| usage.inspections -= 1);
    }

    fn end_call(&mut self, mount: Mount, less: impl FnOnce(&mut Usage)) {
        let Some(at) = self.usage.find(mount.number()) else { return };
        let usage = &mut self.usage[at];
        less(usage);
        if usage.is_over() {
            self.usage.remove(at);
        } else if usage.has_waiting() && !self.freed.contains(&mount.number()) {
            self.freed.push(mount.number()); // usage_of() has made room
        }
    }
}

impl<E: Engine> Driver<E> {
    // ---- before the first byte ------------------------------------------------------

    // Has a helper inspect a file that is not known to be quick; false: there is no need.
    pub(super) fn inspect(&mut self, slot: usize) -> bool {
        let job = &self.jobs[slot];
        let Some(File { facts, .. }) = job.file else { return false };
        if self.shared.known_files.is_direct(&facts) {
            return false;
        }
        let done = match self.slow.usage_of(facts.mount) {
            Ok(usage) if usage.inspections >= INSPECTIONS_FOR_EACH => {
                let waiter = Waiter::new(slot, job);
                let waits = waiter.wait_in(&mut usage.uninspected, &self.jobs);
                waits.map(|()| Inspection::Waiting)
            }
            Ok(usage) => {
                usage.inspections += 1;
                self.start_inspection(slot).map(|()| Inspection::Asked)
            }
            Err(error) => Err(error),
        };
        let job = &mut self.jobs[slot];
        match done {
            Ok(inspection) => job.data.inspection = inspection,
            Err(error) => job.operation.fail(error.negative()),
        }
        true
    }

    fn start_inspection(&mut self, slot: usize) -> Result<()> {
        let job = &self.jobs[slot];
        let Some(File { fd: file, facts, .. }) = job.file else { return Ok(()) };
        let operation::Task { offset, length, .. } = *job.operation.task();
        let task = Task::Inspect { file, offset, length };
        let token = Token::new(Kind::Inspect, slot, job.id);
        let started = self.engine.start_call(helpers::BlockingCall { token, facts, task });
        started.inspect_err(|_| self.slow.discharge_inspection(facts.mount))
    }

    pub(super) fn on_inspected(&mut self, token: Token, found: Result<Size>) {
        if self.take_back(token) {
            return;
        }
        let Some(slot) = self.slot_of(token) else { return };
        self.stop_inspecting(slot);
        if !matches!(self.jobs[slot].operation.phase(), Phase::Ending(_)) {
            self.begin_with(slot, found);
        }
        self.continue_begun(slot);
    }

    fn continue_begun(&mut self, slot: usize) {
        if self.jobs[slot].is_held() {
            self.read_ahead(slot);
            self.let_hold(slot);
        }
        self.proceed(slot);
    }

    // Ends a helper's query of the file, if there is one.
    fn stop_inspecting(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        let asked = job.data.inspection == Inspection::Asked;
        job.stop_asking();
        if let (Some(file), true) = (&job.file, asked) {
            self.slow.discharge_inspection(file.facts.mount);
        }
    }

    // Begins operations whose files waited to be inspected.
    fn serve_uninspected(&mut self, mount: u64) {
        let pop = |usage: &mut Usage| {
            let has_room = usage.inspections < INSPECTIONS_FOR_EACH;
            has_room.then(|| usage.uninspected.pop()).flatten()
        };
        while let Some(waiter) = self.slow.next_waiting(mount, pop) {
            let Some(slot) = waiter.living(&self.jobs) else { continue };
            if self.jobs[slot].data.inspection == Inspection::Waiting {
                self.jobs[slot].data.inspection = Inspection::Outstanding;
                self.begin(slot);
                self.continue_begun(slot);
            }
        }
    }

    // ---- room in the pool -----------------------------------------------------------

    fn slow_part(&self) -> u32 {
        (self.room.pool.limit() / 4 / POOL_PAGE) as u32
    }

    // Charges a read to its file system.  The reads in flight of one file system may hold a quarter
    // of the pool, so that one that does not respond leaves room for the others.  False: the
    // operation waits.
    pub(super) fn charge(&mut self, slot: usize, mount: Mount, length: u64) -> bool {
        let part = self.slow_part();
        let job = &mut self.jobs[slot];
        let exact = job.operation.task().flags.contains(RequestFlags::EXACT)
            && job.data.reserved_pages.is_none();
        let range = job.operation.file_length().min(self.room.pool.kept_max());
        let pages = if exact { range } else { length }.div_ceil(POOL_PAGE) as u32;
        let reads = match self.slow.usage_of(mount) {
            Ok(usage) => usage,
            Err(error) => {
                job.operation.fail(error.negative());
                return false;
            }
        };
        if reads.count > 0 && (reads.count >= READS_FOR_EACH || reads.pages + pages > part) {
            if !std::mem::replace(&mut job.data.waits.for_file_system, true) {
                let waiter = Waiter::new(slot, job);
                if let Err(error) = waiter.wait_in(&mut reads.waiting, &self.jobs) {
                    self.jobs[slot].operation.fail(error.negative());
                }
            }
            return false;
        }
        reads.count += 1;
        reads.pages += pages;
        job.data.charged_pages = pages;
        true
    }

    // Discharges a read of the operation that is over, or was not begun after all.
    pub(super) fn discharge_job(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        let pages = std::mem::take(&mut job.data.charged_pages);
        if let (Some(file), true) = (&job.file, pages > 0) {
            self.slow.discharge(file.facts.mount, pages);
        }
    }

    // Starts calls that waited for others of their file system to end.
    pub(super) fn serve_slow_files(&mut self) {
        let part = self.slow_part();
        let pop = |usage: &mut Usage| {
            let has_room = usage.count < READS_FOR_EACH && usage.pages < part;
            has_room.then(|| usage.waiting.pop()).flatten()
        };
        while let Some(mount) = self.slow.freed.pop() {
            self.serve_uninspected(mount);
            while let Some(waiter) = self.slow.next_waiting(mount, pop) {
                let Some(slot) = waiter.living(&self.jobs) else { continue };
                self.jobs[slot].data.waits.for_file_system = false;
                self.read_ahead(slot);
                if self.jobs[slot].data.waits.for_file_system {
                    break;
                }
                // Without room in the pool it needs another turn, to pass its data.
                self.proceed(slot);
            }
        }
    }

    // ---- the end --------------------------------------------------------------------

    // Waits briefly for a call on the file of an ended operation; true: it waits.
    pub(super) fn leave_file(&mut self, slot: usize) -> bool {
        let job = &mut self.jobs[slot];
        if !job.is_asking() && !job.operation.is_reading() {
            return false;
        }
        let leaves = job.file.as_mut().map(|file| std::mem::replace(&mut file.leaving, true));
        if leaves.unwrap_or(false) {
            return true;
        }
        let token = self.call_of(slot);
        if self.engine.withdraw_call(token) {
            self.give_up_call(slot);
            return false;
        }
        let entry = (self.jobs[slot].id, slot as u32, Alarm::Abandon);
        let at = self.engine.kernel().now() + COMES_BACK_WITHIN;
        // Without memory for the alarm it does not wait.
        self.timers.set(at, entry).is_ok() || !self.let_call_go(slot)
    }

    fn call_of(&self, slot: usize) -> Token {
        let job = &self.jobs[slot];
        let kind = match job.data.inspection {
            Inspection::Asked => Kind::Inspect,
            Inspection::Cloning => Kind::Clone,
            _ => Kind::Read,
        };
        Token::new(kind, slot, job.id)
    }

    // Drops a call on the file of an operation that will not be made.
    pub(super) fn give_up_call(&mut self, slot: usize) {
        self.stop_inspecting(slot);
        let job = &mut self.jobs[slot];
        if let Some(Buffer { lease, .. }) = job.data.reading.take() {
            job.operation.read_again();
            self.room.release(lease);
        }
        self.discharge_job(slot);
    }

    // Ends the operation without the call that has not returned.
    pub(super) fn abandon_call(&mut self, slot: usize) {
        let job = &self.jobs[slot];
        if !job.is_asking() && !job.operation.is_reading() {
            return;
        }
        if self.let_call_go(slot) {
            return self.settle(slot);
        }
        // No memory to record the call: try later, or wait until it returns.
        let entry = (self.jobs[slot].id, slot as u32, Alarm::Abandon);
        let _ = self.timers.set(self.engine.kernel().now() + COMES_BACK_WITHIN, entry);
    }

    // Detaches the call in flight from its operation.  False: there is no memory to record what it
    // uses.
    fn let_call_go(&mut self, slot: usize) -> bool {
        let job = &self.jobs[slot];
        let Some(File { entry, facts, .. }) = job.file.as_ref() else { return false };
        let (file, mount, token) = (*entry as usize, facts.mount, self.call_of(slot));
        let job = &mut self.jobs[slot];
        let lease = job.data.reading.map(|buffer| buffer.lease);
        let charged_pages = job.data.charged_pages;
        let call = Call { lease, file, mount, charged_pages };
        if self.slow.calls.entry(token.raw(), call).is_err() {
            return false;
        }
        job.data.reading = None;
        job.data.charged_pages = 0;
        if job.stop_asking() {
            debug_assert!(lease.is_none());
        } else {
            job.operation.read_again();
        }
        self.files.retain(file);
        true
    }

    // Releases what an abandoned call used, after it has returned; false: the token is not such a
    // call's.
    pub(super) fn take_back(&mut self, token: Token) -> bool {
        if self.slow.calls.is_empty() {
            return false;
        }
        let Some(call) = self.slow.calls.remove(token.raw()) else { return false };
        if let Some(lease) = call.lease {
            self.room.release(lease);
        }
        self.close_file(call.file);
        if call.charged_pages > 0 {
            self.slow.discharge(call.mount, call.charged_pages);
        } else if token.kind() == Kind::Inspect {
            self.slow.discharge_inspection(call.mount);
        }
        true
    }

    // ---- closing --------------------------------------------------------------------

    // Closes a descriptor here if that queries no server.  Some: a helper closes it.
    pub(super) fn close_copy(&mut self, fd: OwnedFd, facts: FileFacts) -> Option<Token> {
        if self.shared.known_files.file_system(facts.kind, facts.mount).is_local() {
            drop(fd);
            self.shared.descriptors.give_back(1);
            return None;
        }
        self.close_by_helper(fd, facts)
    }

    // Has a helper close a descriptor.  None: it has been closed here.
    pub(super) fn close_by_helper(&mut self, fd: OwnedFd, facts: FileFacts) -> Option<Token> {
        let token = self.slow.close_token();
        let task = Task::Close(fd);
        if self.engine.start_call(helpers::BlockingCall { token, facts, task }).is_err() {
            // There is no memory to pass it to a helper.
            self.shared.descriptors.give_back(1);
            return None;
        }
        Some(token)
    }

    pub(super) fn report_when_closed(&mut self, close: Close, job: Job) {
        let (closing, unmapping) = (&mut self.slow.closing, &mut self.slow.unmapping);
        let reserved = match close {
            Close::Helper(_) => closing.reserve(closing.len() + 1),
            Close::Windows(_) => unmapping.reserve(unmapping.len() + 1),
        };
        if reserved.is_err() {
            return self.report_done(job);
        }
        let until = self.engine.kernel().now() + COMES_BACK_WITHIN;
        let _ = match close {
            Close::Helper(token) => closing.push(Closing { token, until, job }),
            Close::Windows(token) => unmapping.push((token, job)),
        }; // there is room
    }

    pub(super) fn on_closed(&mut self, token: Token) {
        self.shared.descriptors.give_back(1);
        let found = self.slow.closing.take(|closing| closing.token == token);
        if let Some(Closing { job, .. }) = found {
            self.report_done(job);
        }
    }

    // Unmaps windows of files that are to be closed, for a short while: others wait meanwhile.
    pub(super) fn unmap_some(&mut self) {
        if !self.windows.has_leaving() {
            return;
        }
        let until = self.engine.kernel().now() + UNMAP_FOR;
        while self.windows.has_leaving() && self.engine.kernel().now() <= until {
            self.unmap_one();
        }
    }

    // Unmaps one window of the files that are to be closed, and closes those without windows.
    fn unmap_one(&mut self) {
        let Some((entry, token)) = self.windows.unmap_next() else { return };
        if let Some(open) = self.files.take(entry as usize) {
            // A file that may be mapped is local.
            self.close_copy(open.fd, open.facts);
        }
        if let Some((_, job)) = self.slow.unmapping.take(|&(of, _)| of == token) {
            self.report_done(job);
        }
    }

    // Reports operations whose close by a helper takes too long.
    pub(super) fn report_unclosed(&mut self) {
        while let Some(first) = self.slow.closing.first() {
            if first.until > self.engine.kernel().now() {
                return;
            }
            if let Some(Closing { job, .. }) = self.slow.closing.pop() {
                self.report_done(job);
            }
        }
    }

    // Reports all operations that wait for a close.
    pub(super) fn report_all_unclosed(&mut self) {
        while let Some(Closing { job, .. }) = self.slow.closing.pop() {
            self.report_done(job);
        }
        while let Some((_, job)) = self.slow.unmapping.pop() {
            self.report_done(job);
        }
    }
}

impl<E: Engine> Drop for Driver<E> {
    // Leaves everything as it is that calls which have not returned use: the memory stays mapped,
    // and the descriptors are closed with the table, when the last thread that shares it ends.
    fn drop(&mut self) {
        for call in std::mem::take(&mut self.slow.calls).into_values() {
            self.shared.known_files.calls_left_behind.fetch_add(1, Ordering::SeqCst);
            if let Some(lease) = call.lease {
                self.room.pool.leak_lease(lease);
            }
            if let Some(open) = self.files.take(call.file) {
                sys::abandon(open.fd);
            }
        }
    }
}
