// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring thread: its start, its loop, its sleep, and the fence that keeps a panic from the host.
//! The thread has its own descriptor table, so that a host which closes descriptors closes none of
//! the operations'.
#![forbid(unsafe_code)]

use crate::collections::memory;
use crate::decide::token::Kind;
use crate::engine::kernel::Kernel;
use crate::engine::portable::Portable;
use crate::engine::uring::Uring;
use crate::engine::{Engine, EngineEvent};
use crate::handoff::doorbell::Slept;
use crate::handoff::port::{Intake, Notice, Received, Registration};
use crate::handoff::reply::Reply;
use crate::handoff::shared::Shared;
use crate::handoff::submissions::Arrivals;
use crate::ring::Driver;
use crate::ring::pool::Pool;
use crate::sys;
use crate::types::errno::{Errno, Result};
use crate::types::feature::KernelFeatures;
use crate::types::options::EngineChoice;
use std::os::fd::{OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// The result of the thread's start.
#[derive(Debug)]
pub(crate) struct Started {
    pub is_uring: bool,
    pub engine_error: Option<Errno>,
    pub features: KernelFeatures,
}

/// Starts the thread.  `own` is its end of the library's socket; the caller closes it afterwards.
pub(crate) fn start(
    shared: Arc<Shared>,
    arrivals: Arrivals,
    own: &OwnedFd,
) -> Result<(Handle, Started)> {
    // Not std's channel: its receiver would leave a thread-local destructor with the caller, which
    // prevents the library from being unloaded.
    let report: Arc<Report> = Arc::default();
    let started = report.clone();
    let id: Arc<AtomicI32> = Arc::default();
    let told = id.clone();
    let number = sys::number(own);
    let thread = sys::Thread::spawn(Box::new(move || {
        told.store(sys::thread_id(), Ordering::Relaxed);
        let body = AssertUnwindSafe(|| thread_main(&shared, arrivals, number, &report));
        if catch_unwind(body).is_err() {
            shared.life.die(libc::EIO);
        }
        // No effect if a result has been reported before.
        report.give(Err(Errno(libc::EIO)));
        shared.link.questions.close();
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

/// The ring thread, as its starter holds it.
#[derive(Debug)]
pub(crate) struct Handle {
    thread: sys::Thread,
    id: Arc<AtomicI32>,
}

impl Handle {
    /// Waits until the thread has ended and the process no longer counts it: unshare(2) and
    /// setns(2) are refused to a process with several threads.  `left_behind`: returns whether
    /// calls that do not return keep threads; then there is no wait for those.
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

// Runs the thread with the chosen engine.  An error: it has not started.
fn with_engine(
    shared: &Arc<Shared>,
    arrivals: Arrivals,
    own: OwnedFd,
    report: &Report,
) -> Result<()> {
    let pool = Pool::new(shared.settings.pool_bytes - shared.settings.staging_bytes)?;
    let choice = shared.settings.engine;
    let mut engine_error = None;
    if choice != EngineChoice::Portable {
        let known = shared.known_files.clone();
        let (operations, buffers) = (shared.settings.max_ops, pool.block_count() as u32);
        match Uring::new(sys::number(&own), operations, buffers, known) {
            Ok(engine) => {
                let features = engine.features() | common_features();
                let ring = RingThread::new(shared, arrivals, own, engine, pool)?;
                report.give(Ok(Started { is_uring: true, engine_error: None, features }));
                run(shared, ring);
                return Ok(());
            }
            Err(error) if choice == EngineChoice::Uring => return Err(error),
            Err(error) => engine_error = Some(error),
        }
    }
    let engine = Portable::new(sys::number(&own), shared.known_files.clone())?;
    let ring = RingThread::new(shared, arrivals, own, engine, pool)?;
    report.give(Ok(Started { is_uring: false, engine_error, features: common_features() }));
    run(shared, ring);
    Ok(())
}

fn common_features() -> KernelFeatures {
    if sys::has_cachestat() { KernelFeatures::CACHESTAT } else { KernelFeatures::empty() }
}

fn run<E: Engine>(shared: &Shared, mut ring: RingThread<E>) {
    let outcome = catch_unwind(AssertUnwindSafe(|| ring.run()));
    let errno = match outcome {
        Ok(Ok(())) => {
            ring.reject_rest(shared.life.errno());
            return;
        }
        Ok(Err(error)) => error.0,
        Err(_) => libc::EIO,
    };
    shared.life.die(errno);
    // It is not known what the kernel still uses: none of it is released.
    let ring = AssertUnwindSafe(ring);
    let _ = catch_unwind(move || { ring }.0.abandon(errno));
}

struct RingThread<E: Engine> {
    shared: Arc<Shared>,
    driver: Driver<E>,
    intake: Intake,
    messages_wait: bool,
    events: Vec<EngineEvent>,
}

// The longest wait with work in flight.  Without it, a host that has closed our descriptor while a
// forked child holds it would go unnoticed.
const HEARTBEAT: Duration = Duration::from_secs(1);
// A bell that could not be rung is tried again after this time.
const BELL_AGAIN: Duration = Duration::from_millis(10);
// After this time without work, memory is returned to the kernel.
const TRIM_AFTER: Duration = Duration::from_secs(1);
const MESSAGES_PER_ROUND: usize = 64;
// At the end, how often submissions in transit are looked for, and the time between: a caller may
// never hand its own over, if a signal handler jumped out of submit.
const REJECTIONS: u32 = 10_000;
const REJECT_AGAIN: Duration = Duration::from_micros(100);
// Room for this many events is kept.
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
            intake: Intake::new(shared.clone(), own, arrivals)?,
            messages_wait: true,
            events: memory::list(EVENTS)?,
        })
    }

    fn run(&mut self) -> Result<()> {
        loop {
            if self.messages_wait {
                self.receive();
            }
            self.take_unannounced();
            self.withdraw();
            if let Some(status) = self.shared.life.ending() {
                self.driver.fail_all(status);
            }
            self.driver.alarms();
            self.flush_unless_soon();
            self.driver.turns();
            self.flush_unless_soon();
            if self.is_over() {
                return Ok(());
            }
            if self.is_idle() {
                self.flush();
                // The bell may have failed, and is tried again after a while.
                if self.is_idle() {
                    self.sleep();
                }
                continue;
            }
            let timeout = self.timeout();
            let mut events = std::mem::take(&mut self.events);
            let turned = self.turn(timeout, &mut events);
            // Also if the engine has failed: bytes that were sent must be counted.
            self.handle(&mut events);
            self.events = events;
            turned?;
        }
    }

    // Lets the engine work, and wait unless there is other work.
    fn turn(&mut self, timeout: Option<Duration>, events: &mut Vec<EngineEvent>) -> Result<()> {
        if self.driver.engine.has_sends_queued() {
            return self.driver.engine.turn(timeout, events);
        }
        let doorbell = &self.shared.link.doorbell;
        let waits = timeout != Some(Duration::ZERO)
            && doorbell.begin_wait(|| self.intake.has_unannounced());
        let timeout = if waits { timeout } else { Some(Duration::ZERO) };
        let turned = self.driver.engine.turn(timeout, events);
        if waits {
            doorbell.end_wait();
        }
        turned
    }

    fn handle(&mut self, events: &mut Vec<EngineEvent>) {
        let is_intake = |event: &EngineEvent| match event {
            EngineEvent::Completed { token, .. } => token.kind() == Kind::Intake,
            _ => false,
        };
        self.messages_wait |= events.iter().any(is_intake);
        self.driver.handle_all(events.drain(..));
    }

    fn timeout(&self) -> Option<Duration> {
        if self.messages_wait || self.driver.has_turns() {
            return Some(Duration::ZERO);
        }
        let longest = if self.intake.is_bell_owed() { BELL_AGAIN } else { HEARTBEAT };
        let alarm = self.driver.next_alarm();
        let until = alarm.map(|at| at.saturating_duration_since(self.driver.engine.kernel().now()));
        Some(until.map_or(longest, |until| until.min(longest)))
    }

    // Hands completions over, unless more of them are about to come: one wake-up of a caller then
    // covers them all.
    fn flush_unless_soon(&mut self) {
        let more_soon = self.driver.has_turns() || self.driver.engine.has_sends_queued();
        if !more_soon || self.driver.has_reports_due() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let ring = self.driver.flush();
        if ring || self.intake.is_bell_owed() {
            self.intake.ring_bell();
        }
    }

    fn is_over(&self) -> bool {
        let has_read_all = !self.messages_wait || self.intake.has_hung_up();
        self.shared.life.ending().is_some() && self.driver.is_empty() && has_read_all
    }

    fn is_idle(&self) -> bool {
        !self.messages_wait && !self.intake.is_bell_owed() && self.driver.is_idle()
    }

    fn sleep(&mut self) {
        let mut limit = Some(TRIM_AFTER);
        loop {
            let shared = self.shared.clone();
            match shared.link.doorbell.sleep(limit, || self.has_work()) {
                Slept::NotAtAll => return,
                Slept::UntilRung => {
                    self.messages_wait = true;
                    return;
                }
                Slept::Otherwise { timed_out } => {
                    if timed_out && limit.take().is_some() {
                        self.driver.trim();
                        memory::shrink(&mut self.events, EVENTS);
                        self.intake.shrink();
                    }
                }
            }
        }
    }

    fn has_work(&mut self) -> bool {
        self.receive()
            || self.messages_wait
            || self.intake.has_unannounced()
            || self.shared.link.hand_over.has_withdrawn()
            || self.shared.life.ending().is_some()
    }

    // Takes messages until none waits or it is time for other work; true: there were some.
    fn receive(&mut self) -> bool {
        for count in 0..MESSAGES_PER_ROUND {
            let had_hung_up = self.intake.has_hung_up();
            match self.intake.receive() {
                Received::Notice(notice) => self.act_on(notice),
                Received::Nothing => {
                    self.messages_wait = false;
                    self.driver.forget_cuts();
                    return count > 0;
                }
                Received::HungUp => {
                    if !had_hung_up {
                        self.driver.engine.released(self.intake.number());
                    }
                    self.messages_wait = false;
                    return true;
                }
            }
        }
        self.messages_wait = true;
        true
    }

    fn act_on(&mut self, notice: Notice) {
        if !matches!(notice, Notice::Submitted(_)) {
            let driver = &mut self.driver;
            self.intake.catch_up(|arrival| driver.arrived(arrival));
        }
        match notice {
            Notice::Submitted(ids) => {
                let driver = &mut self.driver;
                self.intake.each_submitted(ids, |arrival| driver.arrived(arrival));
            }
            Notice::Registered(registration) => {
                let descriptor = self.intake.take_registered();
                match registration {
                    Registration::File(handle) => self.driver.register_file(handle, descriptor),
                    Registration::Socket(handle) => self.driver.register_socket(handle, descriptor),
                }
            }
            Notice::Unregistered(Registration::File(handle)) => self.driver.unregister_file(handle),
            Notice::Unregistered(Registration::Socket(handle)) => {
                self.driver.unregister_socket(handle);
            }
            Notice::Asked(number) => {
                let driver = &mut self.driver;
                self.shared.link.questions.answer(number, |question| driver.answer(question));
            }
            Notice::Released(claim) => self.driver.claim_released(claim),
            Notice::Look => self.intake.look(),
        }
    }

    // Takes submissions that need no notice.
    fn take_unannounced(&mut self) {
        if !self.intake.has_unannounced() {
            return;
        }
        let driver = &mut self.driver;
        let some_wait = self.intake.pop(|arrival| driver.arrived(arrival));
        let Some(next_id) = some_wait else { return };
        self.receive();
        if !self.messages_wait {
            let driver = &mut self.driver;
            self.intake.catch_up_with_all(next_id, |arrival| driver.arrived(arrival));
        }
    }

    fn withdraw(&mut self) {
        let driver = &mut self.driver;
        self.intake.each_withdrawn(|arrival| driver.arrived(arrival));
    }

    // Reports DONE for accepted operations that were never read.  The context has ended, so that all
    // that are handed over from here on are in transit already.
    fn reject_rest(&mut self, errno: i32) {
        self.intake.refuse(); // From here on no notice can be sent.
        for _ in 0..REJECTIONS {
            self.reject_read(errno);
            if !self.shared.cuts.is_any_in_transit() {
                break;
            }
            std::thread::sleep(REJECT_AGAIN);
        }
        self.flush();
        self.driver.unregister_all();
    }

    fn reject_read(&mut self, errno: i32) {
        let driver = &mut self.driver;
        while let Some(notice) = self.intake.receive_last() {
            match notice {
                Notice::Submitted(ids) => {
                    self.intake.each_submitted(ids, |arrival| driver.reject(arrival, -errno));
                }
                // A helper closes it: here that might take long.
                Notice::Registered(Registration::File(handle)) => {
                    driver.register_file(handle, self.intake.take_registered());
                }
                _ => {}
            }
        }
        self.intake.catch_up_with_all(u64::MAX, |arrival| driver.reject(arrival, -errno));
        self.withdraw();
    }

    fn abandon(mut self, errno: i32) {
        self.driver.abandon(-errno);
        self.reject_rest(errno);
        self.driver.leak();
    }
}
