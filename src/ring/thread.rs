// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring thread: its start, its loop, its sleep, and the fence that keeps a panic inside.
#![forbid(unsafe_code)]

use crate::collections::memory;
use crate::decide::token::Kind;
use crate::engine::portable::Portable;
use crate::engine::uring::Uring;
use crate::engine::{Engine, Event};
use crate::handoff::claims::Claim;
use crate::handoff::doorbell::Slept;
use crate::handoff::port::{Arrivals, NOTICE_BYTES, Notice, Submission};
use crate::handoff::reply::Reply;
use crate::handoff::shared::Shared;
use crate::ring::Driver;
use crate::ring::pool::Pool;
use crate::sys;
use crate::types::errno::{Errno, Result};
use crate::types::feature;
use crate::types::options::EngineChoice;
use std::os::fd::{OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// What the start of the thread has found out.
#[derive(Debug)]
pub(crate) struct Started {
    pub is_uring: bool,
    pub engine_errno: i32,
    pub features: u64,
}

/// Starts the thread; `own` is its end of the library's socket, which the caller closes after.
pub(crate) fn start(
    shared: Arc<Shared>,
    arrivals: Arrivals,
    own: &OwnedFd,
) -> Result<(Handle, Started)> {
    // Not a channel of std's: its receiver would leave a thread-local destructor with the caller,
    // which keeps the library from being unloaded.
    let report: Arc<Report> = Arc::default();
    let started = report.clone();
    let id: Arc<AtomicI32> = Arc::default();
    let told = id.clone();
    let number = sys::number(own);
    let thread = sys::Thread::spawn(Box::new(move || {
        told.store(sys::thread_id(), Ordering::Relaxed);
        let body = AssertUnwindSafe(|| thread_main(&shared, arrivals, number, &report));
        if catch_unwind(body).is_err() {
            shared.die(libc::EIO);
        }
        // Of no effect if something has been reported before.
        report.give(Err(Errno(libc::EIO)));
        shared.questions.close();
        shared.completions.close();
    }))?;
    let handle = Handle { thread, id };
    match started.wait() {
        Ok(started) => Ok((handle, started)),
        Err(error) => {
            handle.join(|| false);
            Err(error)
        }
    }
}

/// The ring thread, as its starter has it.
#[derive(Debug)]
pub(crate) struct Handle {
    thread: sys::Thread,
    id: Arc<AtomicI32>,
}

impl Handle {
    /// Waits until the process is as it was before: a thread that has been joined still counts
    /// for a while, and unshare(2) and setns(2) are refused to a process of several threads.
    /// `left_behind`: whether calls that do not come back keep threads; nothing waits for those.
    pub fn join(self, left_behind: impl FnOnce() -> bool) {
        self.thread.join();
        if !left_behind() {
            sys::wait_until_gone(self.id.load(Ordering::Relaxed));
        }
    }
}

type Report = Reply<Result<Started>>;

fn thread_main(shared: &Arc<Shared>, arrivals: Arrivals, number: RawFd, report: &Report) {
    sys::name_thread(c"snapsend-ring");
    let started = sys::own_descriptor_table(number)
        .and_then(|own| with_engine(shared, arrivals, own, report));
    if let Err(error) = started {
        report.give(Err(error));
    }
}

// An error: it has not started.
fn with_engine(
    shared: &Arc<Shared>,
    arrivals: Arrivals,
    own: OwnedFd,
    report: &Report,
) -> Result<()> {
    let pool = Pool::new(shared.settings.pool_bytes - shared.settings.staging_bytes)?;
    let choice = shared.settings.engine;
    let mut engine_errno = 0;
    if choice != EngineChoice::Portable {
        let known = shared.known_files.clone();
        match Uring::new(sys::number(&own), pool.block_count() as u32, known) {
            Ok(engine) => {
                let features = engine.features() | common_features();
                let ring = RingThread::new(shared, arrivals, own, engine, pool)?;
                report.give(Ok(Started { is_uring: true, engine_errno: 0, features }));
                run(shared, ring);
                return Ok(());
            }
            Err(error) if choice == EngineChoice::Uring => return Err(error),
            Err(error) => engine_errno = error.negative(),
        }
    }
    let engine = Portable::new(sys::number(&own), shared.known_files.clone())?;
    let ring = RingThread::new(shared, arrivals, own, engine, pool)?;
    report.give(Ok(Started { is_uring: false, engine_errno, features: common_features() }));
    run(shared, ring);
    Ok(())
}

fn common_features() -> u64 {
    if sys::has_cachestat() { feature::CACHESTAT } else { 0 }
}

fn run<E: Engine>(shared: &Shared, mut ring: RingThread<E>) {
    let outcome = catch_unwind(AssertUnwindSafe(|| ring.run()));
    let errno = match outcome {
        Ok(Ok(())) => {
            ring.reject_rest(shared.dead.load(Ordering::SeqCst));
            return;
        }
        Ok(Err(error)) => error.0,
        Err(_) => libc::EIO,
    };
    shared.die(errno);
    // What the kernel still uses is not known: nothing of it is given back.
    let ring = AssertUnwindSafe(ring);
    let _ = catch_unwind(move || { ring }.0.abandon(errno));
}

struct RingThread<E: Engine> {
    shared: Arc<Shared>,
    driver: Driver<E>,
    arrivals: Arrivals,
    own: OwnedFd,
    messages_wait: bool,
    hung_up: bool,
    /// It should ring, but the kernel had no memory for it.
    bell_owed: bool,
    descriptors: Vec<OwnedFd>,
    events: Vec<Event>,
}

// The longest wait with work in flight: only then would a host that has closed our descriptor,
// while a forked child still holds it, go unnoticed.
const HEARTBEAT: Duration = Duration::from_secs(1);
// A bell that could not be rung is tried again.
const BELL_AGAIN: Duration = Duration::from_millis(10);
// Idle for this long, memory goes back to the kernel.
const TRIM_AFTER: Duration = Duration::from_secs(1);
const MESSAGES_PER_ROUND: usize = 64;
// Room for events from the beginning.
const EVENTS: usize = 256;

impl<E: Engine> RingThread<E> {
    fn new(
        shared: &Arc<Shared>,
        arrivals: Arrivals,
        own: OwnedFd,
        engine: E,
        pool: Pool,
    ) -> Result<RingThread<E>> {
        Ok(RingThread {
            shared: shared.clone(),
            driver: Driver::new(shared.clone(), engine, pool)?,
            arrivals,
            own,
            messages_wait: true,
            hung_up: false,
            bell_owed: false,
            descriptors: memory::list(sys::MESSAGE_FDS_MAX + 1)?,
            events: memory::list(EVENTS)?,
        })
    }

    fn run(&mut self) -> Result<()> {
        loop {
            if self.messages_wait {
                self.receive();
            }
            if self.shared.has_withdrawn() {
                self.withdraw();
            }
            self.check_orders();
            self.driver.alarms();
            self.flush();
            self.driver.turns();
            self.flush();
            if self.is_over() {
                return Ok(());
            }
            if self.is_idle() {
                self.sleep();
                continue;
            }
            let timeout = self.timeout();
            let mut events = std::mem::take(&mut self.events);
            let turned = self.driver.engine.turn(timeout, &mut events);
            // Also when the engine is at its end: what has gone out must be counted.
            for event in events.drain(..) {
                self.handle(event);
            }
            self.events = events;
            turned?;
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Completed { token, .. } if token.kind() == Kind::Intake => {
                self.messages_wait = true;
            }
            event => self.driver.handle(event),
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if self.messages_wait || self.driver.has_turns() {
            return Some(Duration::ZERO);
        }
        let longest = if self.bell_owed { BELL_AGAIN } else { HEARTBEAT };
        let alarm = self.driver.next_alarm();
        let until = alarm.map(|at| at.saturating_duration_since(Instant::now()));
        Some(until.map_or(longest, |until| until.min(longest)))
    }

    fn flush(&mut self) {
        let ring = self.driver.flush();
        if ring || self.bell_owed {
            self.ring_bell();
        }
    }

    fn ring_bell(&mut self) {
        self.bell_owed = !self.hung_up && !sys::ring_bell(sys::number(&self.own));
    }

    // Shutting down, or the host has taken our descriptor away: what is in flight ends.
    fn check_orders(&mut self) {
        if self.shared.shutting_down.load(Ordering::SeqCst) {
            self.driver.fail_all(-libc::ECANCELED);
        } else if self.shared.dead.load(Ordering::SeqCst) != 0 {
            self.driver.fail_all(-libc::EBADF);
        }
    }

    fn is_over(&self) -> bool {
        let ending = self.shared.shutting_down.load(Ordering::SeqCst)
            || self.shared.dead.load(Ordering::SeqCst) != 0;
        ending && self.driver.is_empty() && (!self.messages_wait || self.hung_up)
    }

    fn is_idle(&self) -> bool {
        !self.messages_wait && !self.bell_owed && self.driver.is_idle()
    }

    fn sleep(&mut self) {
        let mut limit = Some(TRIM_AFTER);
        loop {
            let shared = self.shared.clone();
            match shared.doorbell.sleep(limit, || self.has_work()) {
                Slept::NotAtAll => return,
                Slept::UntilRung => {
                    self.messages_wait = true;
                    return;
                }
                Slept::Otherwise { timed_out } => {
                    if timed_out && limit.take().is_some() {
                        self.driver.trim();
                        self.arrivals.shrink();
                    }
                }
            }
        }
    }

    fn has_work(&mut self) -> bool {
        self.receive()
            || self.messages_wait
            || self.shared.has_withdrawn()
            || self.shared.shutting_down.load(Ordering::SeqCst)
            || self.shared.dead.load(Ordering::SeqCst) != 0
    }

    // Takes messages until none waits or it is time for other work; true: there were some.
    fn receive(&mut self) -> bool {
        for count in 0..MESSAGES_PER_ROUND {
            let mut bytes = [0u8; NOTICE_BYTES];
            let own = sys::number(&self.own);
            match sys::receive_descriptors(own, &mut bytes, &mut self.descriptors) {
                Ok(true) => self.read_notice(&bytes),
                Err(Errno(libc::EINTR)) => {}
                Err(Errno(libc::EAGAIN)) => {
                    self.messages_wait = false;
                    self.driver.forget_cuts();
                    return count > 0;
                }
                Ok(false) | Err(_) => {
                    self.hang_up();
                    return true;
                }
            }
        }
        self.messages_wait = true;
        true
    }

    // The other end has been closed, or cannot be used any more.
    fn hang_up(&mut self) {
        if !self.hung_up {
            self.hung_up = true;
            self.driver.engine.released(sys::number(&self.own));
            self.shared.die(libc::EBADF);
        }
        self.messages_wait = false;
    }

    fn read_notice(&mut self, bytes: &[u8; NOTICE_BYTES]) {
        let Some((notice, count, first)) = Notice::decode(bytes) else {
            return;
        };
        match notice {
            Notice::Submitted => self.each_submitted(first, count, Driver::accept),
            Notice::Asked => {
                if let Some(asked) = self.shared.questions.take(first) {
                    let count = self.driver.answer(&asked.question);
                    asked.reply.give(Ok(count));
                }
            }
            Notice::Released => {
                self.driver.claim_released(Claim { cookie: first, number: count });
            }
            Notice::Look => {
                let stuck = !self.arrivals.make_way();
                self.shared.hand_over_stuck.store(stuck, Ordering::SeqCst);
                if self.shared.completions.ring_for_waiting() {
                    self.ring_bell();
                }
            }
        }
        self.descriptors.clear();
    }

    fn withdraw(&mut self) {
        for (first, count) in self.shared.take_withdrawn() {
            for id in first..first + u64::from(count) {
                if let Some(submission) = self.take_arrived(id) {
                    self.driver.withdraw(submission);
                }
            }
        }
    }

    // Submissions are handed over before their message is sent, so they have arrived by now.
    fn take_arrived(&mut self, id: u64) -> Option<Submission> {
        let driver = &mut self.driver;
        self.arrivals.take(id, |submission| driver.reject(submission, None, None, -libc::ENOMEM))
    }

    fn each_submitted(
        &mut self,
        first: u64,
        count: u32,
        take: impl Fn(&mut Driver<E>, Submission, Option<OwnedFd>, Option<OwnedFd>),
    ) {
        let mut received = std::mem::take(&mut self.descriptors);
        let mut descriptors = received.drain(..);
        let mut is_whole = true;
        for id in first..first + u64::from(count) {
            let Some(submission) = self.take_arrived(id) else {
                is_whole = false;
                continue;
            };
            if !is_whole {
                // Those refused before had descriptors, too: which these are is not known.
                self.driver.reject(submission, None, None, -libc::ENOMEM);
                continue;
            }
            let wants_file = submission.file.is_some();
            let socket = descriptors.next();
            let file = if wants_file { descriptors.next() } else { None };
            take(&mut self.driver, submission, socket, file);
        }
        drop(descriptors);
        self.descriptors = received;
    }

    // Who was told that an operation is accepted gets its DONE, though its message was never read.
    fn reject_rest(&mut self, errno: i32) {
        let own = sys::number(&self.own);
        sys::refuse_messages(own); // from here on submit fails
        let mut bytes = [0u8; NOTICE_BYTES];
        loop {
            match sys::receive_descriptors(own, &mut bytes, &mut self.descriptors) {
                Ok(true) => self.reject(&bytes, errno),
                Err(Errno(libc::EINTR)) => {}
                Ok(false) => break,
                // No memory for descriptors, say; the DONE is owed all the same.
                Err(_) if sys::read_message(own, &mut bytes) => self.reject(&bytes, errno),
                Err(_) => break,
            }
        }
        self.flush();
    }

    fn reject(&mut self, bytes: &[u8; NOTICE_BYTES], errno: i32) {
        if let Some((Notice::Submitted, count, first)) = Notice::decode(bytes) {
            self.each_submitted(first, count, |driver, submission, socket, file| {
                driver.reject(submission, socket, file, -errno);
            });
        }
        self.descriptors.clear();
    }

    fn abandon(mut self, errno: i32) {
        self.driver.abandon(-errno);
        self.reject_rest(errno);
        self.driver.leak();
    }
}
