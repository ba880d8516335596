// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads that read what cannot be read without waiting.  They share the ring thread's descriptor
//! table, start when all others are busy and end when idle.
#![forbid(unsafe_code)]

use super::Event;
use crate::sys::{self, Errno, Result, Span};
use crate::token::Token;
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

// A dead file server may keep many of them.
const THREADS_MAX: usize = 64;
const IDLE: Duration = Duration::from_secs(1);

/// A read into the pool's memory.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Of the completion.
    pub token: Token,
    /// What to read.
    pub file: RawFd,
    /// From where.
    pub offset: u64,
    /// Where to.
    pub into: Span,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Job>,
    done: Vec<Event>,
    idle: usize,
    threads: usize,
    stopping: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    bell: sys::WakeUp,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The helpers of one engine.
#[derive(Debug)]
pub struct Helpers {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
}

impl Helpers {
    /// None yet.
    pub fn new() -> Result<Helpers> {
        let bell = sys::WakeUp::new()?;
        let shared = Shared { state: Mutex::default(), work: Condvar::new(), bell };
        Ok(Helpers { shared: Arc::new(shared), handles: Vec::new() })
    }

    /// Readable when [`Helpers::collect`] has something.
    pub fn descriptor(&self) -> RawFd {
        self.shared.bell.descriptor()
    }

    /// Has the job done.
    pub fn start(&mut self, job: Job) {
        let mut state = self.shared.lock();
        state.queue.push_back(job);
        let spawn = state.queue.len() > state.idle && state.threads < THREADS_MAX;
        state.threads += usize::from(spawn);
        drop(state);
        self.shared.work.notify_one();
        if spawn {
            self.spawn();
        }
    }

    fn spawn(&mut self) {
        self.handles.retain(|handle| !handle.is_finished());
        let shared = self.shared.clone();
        let builder = thread::Builder::new().name("snapsend-read".into()).stack_size(128 << 10);
        match builder.spawn(move || help(&shared)) {
            Ok(handle) => self.handles.push(handle),
            Err(_) => self.do_without_thread(),
        }
    }

    // No thread can be had: if there is none at all, slow is better than never.
    fn do_without_thread(&mut self) {
        let mut state = self.shared.lock();
        state.threads -= 1;
        let jobs =
            if state.threads == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
        drop(state);
        for job in jobs {
            finish(&self.shared, run(&job));
        }
    }

    /// Appends what has been done.
    pub fn collect(&mut self, events: &mut Vec<Event>) {
        self.shared.bell.clear();
        events.append(&mut self.shared.lock().done);
    }
}

fn run(job: &Job) -> Event {
    let result = match sys::read_span(job.file, job.offset, job.into) {
        Ok(count) => count as i32,
        Err(error) => error.negative(),
    };
    Event::Completed { token: job.token, result, more: false }
}

fn finish(shared: &Shared, event: Event) {
    let mut state = shared.lock();
    state.done.push(event);
    let ring = state.done.len() == 1;
    drop(state);
    if ring {
        shared.bell.ring();
    }
}

fn help(shared: &Shared) {
    while let Some(job) = next(shared) {
        finish(shared, run(&job));
    }
}

// None: nothing to do any more.  Leaving is decided under the lock, so that no job is left behind.
fn next(shared: &Shared) -> Option<Job> {
    let mut state = shared.lock();
    loop {
        if let Some(job) = state.queue.pop_front() {
            return Some(job);
        }
        if state.stopping {
            state.threads -= 1;
            return None;
        }
        state.idle += 1;
        let waited = shared.work.wait_timeout(state, IDLE);
        let (woken, timeout) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        state = woken;
        state.idle -= 1;
        if timeout.timed_out() && state.queue.is_empty() {
            state.threads -= 1;
            return None;
        }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
    }
}

/// Whether an error of a read that must not wait says that this file, or this kernel, cannot be
/// asked like that (EPERM: by a seccomp filter).
pub fn cannot_ask(error: Errno) -> bool {
    matches!(error.0, libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM | libc::EINVAL)
}
