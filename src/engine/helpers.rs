// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads for calls that may wait: those on files that are not known to be quick.  They share the
//! ring thread's descriptor table, start when all others are busy and end when idle.
//!
//! Each file system has its own queue and a limited number of threads, so that a file system with a
//! dead server never delays another.
#![forbid(unsafe_code)]

use super::kernel::{Kernel, System};
use super::streams::STREAM_MIN;
use super::{EngineEvent, Read};
use crate::collections::{Line, memory};
use crate::decide::token::Token;
use crate::engine::known_files::{FileSystem, KnownFiles};
use crate::sys::{self, SpanMut, Thread};
use crate::types::errno::{Errno, Result};
use crate::types::file::{FileFacts, FileKind, Size};
use std::ffi::CStr;
use std::os::fd::{OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

// A dead file server may occupy this many.
const THREADS_FOR_EACH: usize = 16;
// Beyond this number only a file system that has none gets another,
const THREADS_FOR_ALL: usize = 64;
// up to this number in all.
const THREADS_MAX: usize = 2 * THREADS_FOR_ALL;

const IDLE: Duration = Duration::from_secs(1);
// The most events of finished jobs that are collected at a time: the list that they go into is as
// long.
const COLLECTED_MAX: usize = 256;
// The end of a context waits this long for calls in progress.
const LEAVE_WITHIN: Duration = Duration::from_millis(200);

/// The call that a helper makes.
#[derive(Debug)]
pub enum Task {
    /// Find out the file's kind and size, and whether it is quick.  The answer is
    /// [`EngineEvent::Inspected`].
    Inspect {
        /// The file.
        file: RawFd,
        /// The start of the range in the file.
        offset: u64,
        /// The length of the range, or TO_EOF.
        length: u64,
    },
    /// Read into the pool's memory.
    Read {
        /// The file.
        file: RawFd,
        /// The position in the file.
        offset: u64,
        /// The destination.
        into: SpanMut,
        /// The ring thread has found that the read must wait.
        must_wait: bool,
    },
    /// Take a private copy of a range, see [`sys::clone_range`].  The answer is
    /// [`EngineEvent::Cloned`].
    Clone {
        /// The file.
        file: RawFd,
        /// The start of the range in the file.
        offset: u64,
        /// The length of the range, or TO_EOF.
        length: u64,
        /// Where the copy is made; None: in the directory of the file.
        dir: Option<Arc<CStr>>,
    },
    /// Close a descriptor, which on FUSE and NFS queries the server.
    Close(OwnedFd),
}

/// A task, queued by its file's file system.
#[derive(Debug)]
pub struct BlockingCall {
    /// The token of the completion.
    pub token: Token,
    /// The facts about the file.
    pub facts: FileFacts,
    /// The call to make.
    pub task: Task,
}

/// The jobs of one file system.  A local one has several queues, each for a part of its files,
/// because there a call may block on a single file only.
#[derive(Debug)]
struct Queue {
    /// The mount's number, and the part of its files.
    number: u64,
    jobs: Line<BlockingCall>,
    /// Threads that carry out its jobs.
    running: usize,
}

impl Queue {
    // Returns how many more of its jobs may be taken now.
    fn ready(&self) -> usize {
        self.jobs.len().min(THREADS_FOR_EACH - self.running)
    }
}

#[derive(Debug, Default)]
struct State {
    queues: Vec<Queue>,
    /// The index of the queue that is looked at first.
    next: usize,
    /// Events that have not been collected.
    done: Line<EngineEvent>,
    /// Threads that wait for a job.
    idle: usize,
    /// Threads that are started and have not ended.
    threads: usize,
    /// Numbers of threads that have ended and are not joined.
    left: Vec<u64>,
    /// Jobs whose event has not been collected; `done` has room for all of them.
    owed: usize,
    /// The engine is being dropped: threads end once no job is left.
    stopping: bool,
}

impl State {
    fn queue(&mut self, number: u64) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.number == number)
    }

    // Puts a job in its queue and makes room for its event.
    fn put(&mut self, number: u64, job: BlockingCall) -> Result<()> {
        self.done.reserve(self.owed + 1)?;
        let queue = match self.queues.iter().position(|queue| queue.number == number) {
            Some(at) => &mut self.queues[at],
            None => {
                memory::reserve(&mut self.queues, 1)?;
                self.queues.push(Queue { number, jobs: Line::default(), running: 0 });
                self.queues.last_mut().expect("it has just been added")
            }
        };
        queue.jobs.push(job)?;
        self.owed += 1;
        Ok(())
    }

    // Takes the next job, with the number of its queue; the queues take turns.
    fn take(&mut self) -> Option<(u64, BlockingCall)> {
        let count = self.queues.len();
        let places = (0..count).map(|step| (self.next + step) % count);
        let index = places.into_iter().find(|&index| self.queues[index].ready() > 0)?;
        self.next = index + 1;
        let queue = &mut self.queues[index];
        queue.running += 1;
        queue.jobs.pop().map(|job| (queue.number, job))
    }

    fn finished(&mut self, number: u64) {
        if let Some(queue) = self.queue(number) {
            queue.running -= 1;
        }
        self.queues.retain(|queue| queue.running > 0 || !queue.jobs.is_empty());
    }

    // Returns whether a job just put into this queue needs another thread.
    fn wants_thread(&mut self, number: u64) -> bool {
        let ready: usize = self.queues.iter().map(Queue::ready).sum();
        let has_none = self.queue(number).is_none_or(|queue| queue.running == 0);
        let most = if has_none { THREADS_MAX } else { THREADS_FOR_ALL };
        ready > self.idle && self.threads < most
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    bell: sys::WakeUp,
    known: Arc<KnownFiles>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        time: Duration,
    ) -> (MutexGuard<'a, State>, bool) {
        let waited = self.work.wait_timeout(state, time);
        let (state, timeout) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        (state, timeout.timed_out())
    }
}

/// The outcome of [`Helpers::read_now`].
pub enum ReadNow {
    /// The read is over.
    Over(Result<usize>),
    /// It must wait for the disk.
    Waits,
    /// A helper is to read: the file system supports no reads without waiting, or the kernel would
    /// read far ahead, see [`super::streams`].
    ByHelper,
}

/// The helpers of one engine.
#[derive(Debug)]
pub struct Helpers {
    shared: Arc<Shared>,
    threads: Vec<(u64, Thread)>,
    next_number: u64,
}

impl Helpers {
    /// Creates helpers without a thread; threads start on demand.
    pub fn new(known: Arc<KnownFiles>) -> Result<Helpers> {
        let bell = sys::WakeUp::new()?;
        let shared = Shared { state: Mutex::default(), work: Condvar::new(), bell, known };
        Ok(Helpers { shared: Arc::new(shared), threads: Vec::new(), next_number: 0 })
    }

    /// Returns a descriptor that is readable when [`Helpers::collect`] has events.
    pub fn descriptor(&self) -> RawFd {
        self.shared.bell.descriptor()
    }

    /// Reads at once what is in the page cache, if that is for the ring thread.
    pub fn read_now(&self, read: &Read) -> ReadNow {
        let Read { file, facts, offset, into, .. } = *read;
        let (known, length) = (&self.shared.known, into.len() as u64);
        let is_long = length >= STREAM_MIN && !facts.direct;
        let is_missing = || sys::is_cached(file, offset, length) == Some(false);
        if known.streams.take(facts.inode, offset) || is_long && is_missing() {
            return ReadNow::ByHelper;
        }
        if read.through_ring && !is_long {
            return ReadNow::Waits;
        }
        let read_now = || sys::read_span_without_waiting(file, offset, into);
        match known.timed(facts.mount, facts.inode, read_now) {
            Err(Errno(libc::EAGAIN)) if !is_long => ReadNow::Waits,
            Err(error) if error.0 == libc::EAGAIN || cannot_ask(error) => ReadNow::ByHelper,
            done => ReadNow::Over(done),
        }
    }

    /// Has a helper read what needs the disk.
    pub fn read_later(&mut self, token: Token, read: &Read) -> Result<()> {
        let Read { file, facts, offset, into, .. } = *read;
        let task = Task::Read { file, offset, into, must_wait: true };
        self.start(BlockingCall { token, facts, task })
    }

    /// Queues a job and starts a thread if needed; ENOMEM.
    pub fn start(&mut self, job: BlockingCall) -> Result<()> {
        let number = self.queue_number(&job.facts);
        let mut state = self.shared.lock();
        state.put(number, job)?;
        let spawn = state.wants_thread(number);
        state.threads += usize::from(spawn);
        drop(state);
        self.shared.work.notify_one();
        if spawn {
            self.spawn();
        }
        Ok(())
    }

    fn queue_number(&self, facts: &FileFacts) -> u64 {
        const FOR_EACH_MOUNT: u64 = 64;
        let is_local = self.shared.known.file_system(facts.kind, facts.mount).is_local();
        let part = if is_local { 1 + facts.inode % FOR_EACH_MOUNT } else { 0 };
        facts.mount.number() << 8 | part
    }

    /// Takes back a job that has not begun; false: it has begun or is over.
    pub fn withdraw(&mut self, token: Token) -> bool {
        let mut state = self.shared.lock();
        let mut queues = state.queues.iter_mut();
        let found = queues.find_map(|queue| queue.jobs.take(|job| job.token == token));
        state.owed -= usize::from(found.is_some());
        state.queues.retain(|queue| queue.running > 0 || !queue.jobs.is_empty());
        found.is_some()
    }

    fn spawn(&mut self) {
        self.reap();
        let (shared, number) = (self.shared.clone(), self.next_number);
        self.next_number += 1;
        let body = move || {
            sys::name_thread(c"snapsend-read");
            let _ = catch_unwind(AssertUnwindSafe(|| help(&shared)));
            let mut state = shared.lock();
            state.threads -= 1;
            state.left.push(number);
            // Idle threads are not woken, because their idle time would start again.
            if state.stopping {
                shared.work.notify_all();
            }
        };
        let room = memory::reserve(&mut self.threads, 1)
            .and_then(|()| memory::reserve(&mut self.shared.lock().left, THREADS_MAX));
        match room.and_then(|()| Thread::spawn(Box::new(body))) {
            Ok(thread) => self.threads.push((number, thread)),
            Err(_) => self.do_without_thread(),
        }
    }

    /// Joins the threads that have ended, and releases the lists' memory if no job is pending.
    pub fn reap(&mut self) {
        let mut state = self.shared.lock();
        if state.owed == 0 {
            (state.queues, state.done) = (Vec::new(), Line::default());
        }
        let left = std::mem::take(&mut state.left);
        drop(state);
        for number in left {
            if let Some(index) = self.threads.iter().position(|(of, _)| *of == number) {
                self.threads.swap_remove(index).1.join();
            }
        }
    }

    // Does without a new thread, because none can be started.  If there is none at all, this thread
    // does the jobs: slow is better than never.
    fn do_without_thread(&mut self) {
        self.shared.lock().threads -= 1;
        loop {
            let mut state = self.shared.lock();
            if state.threads > 0 {
                return;
            }
            let Some((number, job)) = state.take() else { return };
            drop(state);
            finish(&self.shared, number, job);
        }
    }

    /// Appends the events of finished jobs.
    pub fn collect(&mut self, events: &mut Vec<EngineEvent>) {
        self.shared.bell.clear();
        let mut state = self.shared.lock();
        let count = state.done.len().min(COLLECTED_MAX);
        if memory::reserve(events, count).is_ok() {
            state.owed -= state.done.drain(count, |event| events.push(event));
        }
        if !state.done.is_empty() {
            self.shared.bell.ring(); // in another turn
        }
    }
}

fn inspect(
    known: &KnownFiles,
    facts: &FileFacts,
    file: RawFd,
    (offset, length): (u64, u64),
) -> Result<Size> {
    let mut found = known.look_up(facts.kind, facts.mount);
    if found == FileSystem::Unknown && sys::probes_allowed() {
        // A server may not support the query.
        found = sys::magic_of_file(file).map_or(FileSystem::Remote, FileSystem::of_magic);
        known.learn_file_system(facts.mount, found);
    }
    if found.is_local() {
        // Only the time that it takes matters.
        let read = || sys::read_at_without_waiting(file, offset, &mut [0]);
        let _ = known.timed(facts.mount, facts.inode, read);
    }
    let mut state = sys::file_state_without_sync(file)?;
    if state.kind == FileKind::Block {
        state.size = sys::device_size(file)?;
    } else if !found.is_local() && offset.saturating_add(length) > state.size {
        // The size may be out of date.  If it suffices, the reads find the end of the file.
        state = sys::file_state(file)?;
    }
    facts.size_by(&state)
}

fn read(
    known: &KnownFiles,
    facts: &FileFacts,
    file: RawFd,
    offset: u64,
    into: SpanMut,
) -> Result<usize> {
    if known.file_system(facts.kind, facts.mount).is_local() {
        let read = || sys::read_span_without_waiting(file, offset, into);
        match known.timed(facts.mount, facts.inode, read) {
            Err(error) if error == Errno(libc::EAGAIN) || cannot_ask(error) => {}
            done => return done,
        }
        return read_from_disk(known, facts, file, offset, into);
    }
    sys::read_span(file, offset, into)
}

// Reads, and records where the stream goes on.
fn read_from_disk(
    known: &KnownFiles,
    facts: &FileFacts,
    file: RawFd,
    offset: u64,
    into: SpanMut,
) -> Result<usize> {
    let begin = System.now();
    let done = sys::read_span(file, offset, into);
    if done == Ok(into.len()) {
        known.streams.ended(&System, (file, facts), offset + into.len() as u64, begin);
    }
    done
}

// Does a job and reports its outcome.
fn finish(shared: &Shared, number: u64, job: BlockingCall) {
    let BlockingCall { token, facts, task } = job;
    let complete = |done: Result<usize>| {
        let result = done.map_or_else(Errno::negative, |count| count as i32);
        EngineEvent::Completed { token, result, more: false }
    };
    let event = match task {
        Task::Inspect { file, offset, length } => {
            let found = inspect(&shared.known, &facts, file, (offset, length));
            EngineEvent::Inspected { token, found }
        }
        Task::Read { file, offset, into, must_wait: true } => {
            complete(read_from_disk(&shared.known, &facts, file, offset, into))
        }
        Task::Read { file, offset, into, must_wait: false } => {
            complete(read(&shared.known, &facts, file, offset, into))
        }
        Task::Clone { file, offset, length, dir } => {
            let clone = sys::clone_range(file, offset, length, dir.as_deref());
            EngineEvent::Cloned { token, clone }
        }
        Task::Close(descriptor) => {
            drop(descriptor);
            complete(Ok(0))
        }
    };
    let mut state = shared.lock();
    state.finished(number);
    let _ = state.done.push(event); // there is room
    let ring = state.done.len() == 1;
    drop(state);
    if ring {
        shared.bell.ring();
    }
}

fn help(shared: &Shared) {
    while let Some((number, job)) = next(shared) {
        finish(shared, number, job);
    }
}

// Returns the next job; None: the thread is to end.
fn next(shared: &Shared) -> Option<(u64, BlockingCall)> {
    let mut state = shared.lock();
    loop {
        if let Some(job) = state.take() {
            return Some(job);
        }
        if state.stopping {
            return None;
        }
        state.idle += 1;
        let (woken, timed_out) = shared.wait(state, IDLE);
        state = woken;
        state.idle -= 1;
        if timed_out && state.queues.iter().all(|queue| queue.ready() == 0) {
            return None;
        }
    }
}

impl Drop for Helpers {
    // Leaves threads behind that are in a call which does not return.  What they use stays valid:
    // their share of Shared, the descriptor table, the pool's memory (see Driver), and the code
    // (see Context).
    fn drop(&mut self) {
        let until = Instant::now() + LEAVE_WITHIN;
        let mut state = self.shared.lock();
        state.stopping = true;
        for queue in &mut state.queues {
            queue.jobs.retain(|job| matches!(job.task, Task::Close(_)));
        }
        self.shared.work.notify_all();
        while state.threads > 0 {
            let Some(rest) = until.checked_duration_since(Instant::now()) else { break };
            state = self.shared.wait(state, rest).0;
        }
        drop(state);
        self.reap();
        let left_behind = &self.shared.known.helpers_left_behind;
        for (_, thread) in self.threads.drain(..) {
            left_behind.fetch_add(1, Ordering::SeqCst);
            thread.detach();
        }
    }
}

/// Returns whether an error of a read without waiting means that the file or the kernel does not
/// support such reads (EPERM: a seccomp filter).
pub fn cannot_ask(error: Errno) -> bool {
    matches!(error.0, libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM | libc::EINVAL)
}
