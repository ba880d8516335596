// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine for where io_uring is refused: epoll, sends that never block, reads that never
//! wait, and a few helper threads for reads that would have to.

use super::{Engine, Event, ZeroCopySend};
use crate::sys::{self, Epoll, Errno, Result, Span};
use crate::token::{Kind, Token};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

const HELPERS_MAX: usize = 4;

struct Job {
    token: Token,
    file: RawFd,
    offset: u64,
    into: Span,
}

/// The portable engine.
pub struct Portable {
    epoll: Epoll,
    ready: Vec<Event>,
    fired: Vec<u64>,
    helpers: Helpers,
    enters: u64,
}

impl Portable {
    /// Also reports when `intake` has something to read, as [`Kind::Intake`].
    pub fn new(intake: RawFd) -> Result<Portable> {
        let epoll = Epoll::new()?;
        epoll.add(intake, libc::EPOLLIN as u32, Token::new(Kind::Intake, 0, 0).raw())?;
        let bell = sys::WakeUp::new()?;
        epoll.add(bell.descriptor(), libc::EPOLLIN as u32, HELPERS_DONE)?;
        Ok(Portable {
            epoll,
            ready: Vec::new(),
            fired: Vec::new(),
            helpers: Helpers::new(Arc::new(bell)),
            enters: 0,
        })
    }

    fn complete(&mut self, token: Token, result: Result<usize>) {
        let result = result.map_or_else(Errno::negative, |count| count as i32);
        self.ready.push(Event::Completed { token, result, more: false });
    }
}

// No token: tokens have a kind in their top byte.
const HELPERS_DONE: u64 = u64::MAX;

impl Engine for Portable {
    fn send(&mut self, token: Token, socket: RawFd, parts: &[Span], flags: i32) {
        self.enters += 1;
        let sent = sys::send_parts(socket, parts, flags);
        self.complete(token, sent);
    }

    fn has_zero_copy(&self) -> bool {
        false
    }

    fn send_zero_copy(&mut self, token: Token, _send: ZeroCopySend) {
        self.complete(token, Err(Errno(libc::EOPNOTSUPP)));
    }

    fn read(&mut self, token: Token, file: RawFd, offset: u64, into: Span, _buffer: Option<u16>) {
        self.enters += 1;
        match sys::read_span(file, offset, into, true) {
            // EAGAIN: cold; EOPNOTSUPP, ENOSYS: cannot be asked like this.
            Err(Errno(libc::EAGAIN | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)) => {
                self.helpers.start(Job { token, file, offset, into });
            }
            result => self.complete(token, result),
        }
    }

    fn arm(&mut self, token: Token, socket: RawFd) {
        self.enters += 1;
        let events = libc::EPOLLOUT as u32 | libc::EPOLLONESHOT as u32;
        if let Err(error) = self.epoll.add(socket, events, token.raw()) {
            self.complete(token, Err(error));
        }
    }

    fn disarm(&mut self, token: Token, socket: RawFd) {
        self.enters += 1;
        self.epoll.remove(socket);
        self.complete(token, Err(Errno(libc::ECANCELED)));
    }

    fn register(&mut self, _index: u16, _block: Span) -> bool {
        false
    }

    fn unregister(&mut self, _index: u16) {}

    fn turn(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> Result<()> {
        let timeout = if self.ready.is_empty() { timeout } else { Some(Duration::ZERO) };
        self.enters += 1;
        self.epoll.wait(timeout, &mut self.fired)?;
        for raw in self.fired.drain(..) {
            if raw == HELPERS_DONE {
                self.helpers.collect(&mut self.ready);
            } else if let Some(token) = Token::from_raw(raw) {
                self.ready.push(Event::Completed { token, result: 0, more: false });
            }
        }
        events.append(&mut self.ready);
        Ok(())
    }

    fn released(&mut self, socket: RawFd) {
        // Its file lives on in the caller's table, so closing our number would leave the entry.
        self.epoll.remove(socket);
    }

    fn take_enters(&mut self) -> u64 {
        std::mem::take(&mut self.enters)
    }
}

/// Threads that read what is cold.  They share the ring thread's descriptor table.
struct Helpers {
    jobs: Option<Sender<Job>>,
    queue: Receiver<Job>,
    waiting: VecDeque<Job>,
    done: Receiver<(Token, i32)>,
    report: Sender<(Token, i32)>,
    bell: Arc<sys::WakeUp>,
    threads: Vec<JoinHandle<()>>,
    busy: usize,
}

impl Helpers {
    fn new(bell: Arc<sys::WakeUp>) -> Helpers {
        let (jobs, queue) = bounded(HELPERS_MAX);
        let (report, done) = unbounded();
        Helpers {
            jobs: Some(jobs),
            queue,
            waiting: VecDeque::new(),
            done,
            report,
            bell,
            threads: Vec::new(),
            busy: 0,
        }
    }

    fn start(&mut self, job: Job) {
        if self.busy == HELPERS_MAX {
            self.waiting.push_back(job);
            return;
        }
        self.busy += 1;
        if self.threads.len() < self.busy {
            self.spawn();
        }
        if self.threads.is_empty() {
            // No thread can be had: slow is better than not at all.
            let result = run(&job);
            let _ = self.report.send((job.token, result));
            self.bell.ring();
            return;
        }
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    fn spawn(&mut self) {
        let (queue, report, bell) = (self.queue.clone(), self.report.clone(), self.bell.clone());
        let body = move || {
            while let Ok(job) = queue.recv() {
                let result = run(&job);
                let _ = report.send((job.token, result));
                bell.ring();
            }
        };
        let builder = thread::Builder::new().name("snapsend-read".into()).stack_size(128 << 10);
        self.threads.extend(builder.spawn(body));
    }

    fn collect(&mut self, ready: &mut Vec<Event>) {
        self.bell.clear();
        while let Ok((token, result)) = self.done.try_recv() {
            self.busy -= 1;
            ready.push(Event::Completed { token, result, more: false });
        }
        while self.busy < HELPERS_MAX {
            let Some(job) = self.waiting.pop_front() else { break };
            self.start(job);
        }
    }
}

fn run(job: &Job) -> i32 {
    match sys::read_span(job.file, job.offset, job.into, false) {
        Ok(count) => count as i32,
        Err(error) => error.negative(),
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
