// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations as futures, for tokio, smol and any other runtime.
//!
//! An [`AsyncContext`] is a [`Context`] whose operations are futures.  It starts no thread besides
//! the ring thread and depends on no runtime: a task of the program's own waits until the context's
//! descriptor is readable, and calls [`AsyncContext::dispatch`], which wakes the tasks whose
//! operations have completed.  **Without such a task, futures stay pending.**  With tokio:
//!
//! ```
//! use snapsend::futures::AsyncContext;
//! use snapsend::{Options, Request};
//! use std::sync::Arc;
//! use tokio::io::unix::AsyncFd;
//!
//! /// Runs for as long as the context is used.
//! async fn dispatch(context: Arc<AsyncContext>) -> std::io::Result<()> {
//!     // SAFETY: the context owns its descriptor, and neither closes nor replaces it.
//!     let descriptor = unsafe { AsyncFd::register(context) }?;
//!     loop {
//!         // In this order: dispatch() takes all that has come before.
//!         descriptor.readable().await?.clear_ready();
//!         descriptor.get_ref().dispatch()?;
//!     }
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
//! let context = Arc::new(AsyncContext::new(&Options::new())?);
//! tokio::spawn(dispatch(context.clone()));
//!
//! let (socket, peer) = tokio::net::UnixStream::pair()?;
//! let file = std::fs::File::open("/proc/self/exe")?;
//! let done = context.operation(Request::new(&socket).file(&file, ..4096)).await?;
//! assert_eq!(done.result()?, 4096);
//! # drop(peer);
//! # Ok(())
//! # }) }
//! ```
//!
//! With smol the loop is `descriptor.readable().await?; descriptor.get_ref().dispatch()?;` on an
//! `async_io::Async::new_nonblocking(context)`.
//!
//! # Runtimes
//!
//! Futures of one context may run in any number of runtimes and threads, and move between tasks.
//! One dispatching task serves them all; each runtime may also have one of its own, so that the end
//! of another runtime does not matter.  A pending future that is polled dispatches, too: it takes
//! the completions of others with its own, and wakes them.
//!
//! Futures borrow their context, so that it cannot be dropped before them:
//!
//! ```compile_fail,E0505
//! # use snapsend::{Options, Request, futures::AsyncContext};
//! # let socket = std::os::unix::net::UnixStream::pair()?.0;
//! let context = AsyncContext::new(&Options::new())?;
//! let future = context.operation(Request::new(&socket));
//! drop(context);
//! drop(future);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The ring thread does not wake tasks itself.  That would run the runtime's code there, which
//! writes to descriptors by number, and the ring thread has a descriptor table of its own.
//!
//! # Cancellation
//!
//! Dropping a pending future requests the end of its operation, as [`Context::cancel`] does, but
//! does not wait for it: some bytes may still go out.  No result of that operation is reported, so
//! that the stream must be assumed to be cut part-way.
//!
//! The library has its own copies of socket, file, header and trailer.  Dropping or forgetting a
//! future is therefore always sound.  The borrow of socket and file ends with the future; their
//! copies may stay open a little longer.
#![forbid(unsafe_code)]

use crate::collections::{Numbered, Register};
use crate::context::{Context, Info, TrySend};
use crate::types::completion::{Completion, Event};
use crate::types::errno::{Errno, Result};
use crate::types::handle::{RegisteredFile, RegisteredSocket};
use crate::types::options::Options;
use crate::types::request::Request;
use crate::types::stats::Stats;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{self, Poll, Waker};
use std::time::Duration;
use std::{io, mem};

/// The most completions taken at once.
const BATCH: usize = 32;

/// A context whose operations are futures.  See the [module](self).
#[derive(Debug)]
pub struct AsyncContext {
    context: Context,
    /// Wakers are cloned, called and dropped outside this lock: all of that may run a task.
    waiting: Mutex<Register<Waiting>>,
}

/// An operation that a future waits for.
#[derive(Debug)]
struct Waiting {
    id: u64,
    is_snapshotted: bool,
    is_sent: bool,
    done: Option<Result<Completion>>,
    waker: Option<Waker>,
}

impl Numbered for Waiting {
    fn number(&self) -> u64 {
        self.id
    }
}

impl Waiting {
    // The tasks to wake.
    fn report(&mut self, completion: &Completion) -> Option<Waker> {
        match completion.event {
            Event::Snapshot => self.is_snapshotted = true,
            Event::Sent => self.is_sent = true,
            Event::Done => self.done = Some(Ok(*completion)),
        }
        self.waker.take()
    }

    fn has_reached(&self, moment: Moment) -> bool {
        match moment {
            Moment::Snapshot => self.is_snapshotted,
            Moment::Sent => self.is_sent,
            Moment::Done => false,
        }
    }
}

/// The event that a future waits for.  DONE ends each wait.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Snapshot,
    Sent,
    Done,
}

impl AsyncContext {
    /// Creates a context.  Errors as for [`Context::new`].
    pub fn new(options: &Options) -> io::Result<AsyncContext> {
        let context = Context::new(options)?;
        Ok(AsyncContext { context, waiting: Mutex::default() })
    }

    /// Returns the future of an operation.  The operation starts when the future is first polled;
    /// what needs no waiting is done at once, as by [`Context::try_send`].
    ///
    /// The output is the operation's DONE; its outcome is in [`Completion::result`].  The future
    /// fails if the operation is refused, with the errors of [`Context::submit`]:
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if as many operations are in flight as the context
    /// was created for.  It also fails if the context has failed.
    pub fn operation<'a>(&'a self, request: Request<'a>) -> OperationFuture<'a> {
        OperationFuture { context: self, stage: Stage::New(request) }
    }

    /// Takes all waiting completions and wakes their tasks.  Never waits.  Returns the number of
    /// completions.
    ///
    /// Fails if the context has failed; the pending futures then fail, too.  ECHILD: after fork.
    pub fn dispatch(&self) -> io::Result<usize> {
        let mut batch = [Completion::default(); BATCH];
        let mut count = 0;
        loop {
            match self.context.poll(&mut batch, Some(Duration::ZERO)) {
                Ok(taken) => {
                    self.deliver(&batch[..taken]);
                    count += taken;
                    if taken < BATCH {
                        return Ok(count);
                    }
                }
                Err(error) => {
                    // In a forked child the lock may be held by a thread that does not exist there.
                    if self.context.check_process().is_ok() {
                        self.fail_all(error);
                    }
                    return Err(error.into());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Register<Waiting>> {
        self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn deliver(&self, completions: &[Completion]) {
        let mut wakers = [const { None }; BATCH];
        let mut waiting = self.lock();
        for (waker, completion) in wakers.iter_mut().zip(completions) {
            // Otherwise its future has been dropped.
            if let Some(slot) = waiting.find(completion.id) {
                *waker = waiting[slot].report(completion);
            }
        }
        drop(waiting);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn fail_all(&self, error: Errno) {
        let mut wakers = Vec::new();
        let mut waiting = self.lock();
        for slot in 0..waiting.end() {
            if waiting.contains(slot) {
                let waiting = &mut waiting[slot];
                waiting.done.get_or_insert(Err(error));
                wakers.extend(waiting.waker.take());
            }
        }
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn start<'a>(&self, request: &Request<'_>) -> Stage<'a> {
        let (mut given, mut entered) = (None, Ok(0));
        let started = self.context.try_send_with_id(request, &mut |id| {
            let (is_snapshotted, is_sent, done, waker) = (false, false, None, None);
            let new = Waiting { id, is_snapshotted, is_sent, done, waker };
            given = Some(id);
            entered = self.lock().insert(new);
        });
        if let (Some(id), Err(_) | Ok(TrySend::Done(_))) = (given, &started) {
            self.forget(id);
        }
        match (started, entered) {
            (Err(error), _) => Stage::Done(Err(error)),
            (Ok(TrySend::Done(completion)), _) => Stage::Done(Ok(completion)),
            (Ok(TrySend::Queued(id)), Ok(_)) => Stage::Queued(id),
            (Ok(TrySend::Queued(id)), Err(error)) => {
                // There is no memory to remember it.
                let _ = self.context.cancel_soon(id);
                Stage::Done(Err(error))
            }
        }
    }

    fn forget(&self, id: u64) -> Option<Waiting> {
        let mut waiting = self.lock();
        waiting.find(id).map(|slot| waiting.remove(slot))
    }

    // Returns the operation's stage if it has ended or has reached this moment; otherwise
    // registers the task to be woken.
    fn look<'a>(&self, id: u64, moment: Moment, task: &task::Context<'_>) -> Poll<Stage<'a>> {
        if let (Err(_), Err(error)) = (self.dispatch(), self.context.check_process()) {
            return Poll::Ready(Stage::Done(Err(error)));
        }
        let mut waker = Some(task.waker().clone());
        let mut waiting = self.lock();
        let Some(slot) = waiting.find(id) else { return Poll::Ready(Stage::Over) };
        if let Some(done) = waiting[slot].done {
            let ended = waiting.remove(slot);
            drop(waiting);
            drop(ended);
            return Poll::Ready(Stage::Done(done));
        }
        mem::swap(&mut waiting[slot].waker, &mut waker);
        let is_enough = waiting[slot].has_reached(moment);
        drop(waiting);
        if is_enough { Poll::Ready(Stage::Queued(id)) } else { Poll::Pending }
    }

    fn abandon(&self, id: u64) {
        if self.context.check_process().is_ok() {
            let forgotten = self.forget(id);
            if forgotten.is_some_and(|waiting| waiting.done.is_none()) {
                let _ = self.context.cancel_soon(id);
            }
        }
    }

    /// Registers a file, as [`Context::register_file`] does; requests name it by
    /// [`Request::registered_file`].
    pub fn register_file(&self, file: impl AsFd) -> io::Result<RegisteredFile<'_>> {
        Ok(self.context.register_file(file)?)
    }

    /// Registers a socket, as [`Context::register_socket`] does; see [`Request::to_registered`].
    pub fn register_socket(&self, socket: impl AsFd) -> io::Result<RegisteredSocket<'_>> {
        Ok(self.context.register_socket(socket)?)
    }

    /// Requests the end of all operations on a socket; returns the number of operations.  Waits
    /// briefly for the ring thread.  Errors as for [`Context::cancel_socket`].
    pub fn cancel_socket(&self, socket: impl AsFd) -> io::Result<u32> {
        Ok(self.context.cancel_socket(socket)?)
    }

    /// Returns the engine, the limits and the kernel features of the context.
    pub fn info(&self) -> io::Result<Info> {
        Ok(self.context.info()?)
    }

    /// Returns the counters and gauges.
    pub fn stats(&self) -> io::Result<Stats> {
        Ok(self.context.stats()?)
    }
}

/// Readable when [`AsyncContext::dispatch`] has something to do.  Otherwise as for [`Context`].
impl AsFd for AsyncContext {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.context.as_fd()
    }
}

/// See [`AsyncContext::as_fd`].
impl AsRawFd for AsyncContext {
    fn as_raw_fd(&self) -> RawFd {
        self.context.as_raw_fd()
    }
}

/// The future of an operation; see [`AsyncContext::operation`].  If it is dropped while pending, the
/// operation is cancelled; see the [module](self).
#[derive(Debug)]
#[must_use = "an operation starts when its future is polled"]
pub struct OperationFuture<'a> {
    context: &'a AsyncContext,
    stage: Stage<'a>,
}

/// The progress of a future.
#[derive(Clone, Copy, Debug)]
enum Stage<'a> {
    New(Request<'a>),
    /// In flight, with this id.
    Queued(u64),
    /// Ended; the result has not been returned yet.
    Done(Result<Completion>),
    Over,
}

impl<'a> OperationFuture<'a> {
    /// Waits until the file may be changed: until the operation's SNAPSHOT, which
    /// [`RequestFlags::NOTIFY_SNAPSHOT`](crate::RequestFlags::NOTIFY_SNAPSHOT) requests, or until
    /// its end.  The operation itself continues; await this future for its DONE.
    ///
    /// ```
    /// # use snapsend::{Request, RequestFlags, futures::AsyncContext};
    /// # async fn of(context: &AsyncContext, request: Request<'_>) -> std::io::Result<()> {
    /// let mut sending = context.operation(request.flags(RequestFlags::NOTIFY_SNAPSHOT));
    /// sending.snapshot().await?;
    /// // Here the file may be changed.
    /// sending.await?.result()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Fails if the operation is refused or the context has failed.
    pub fn snapshot(&mut self) -> SnapshotFuture<'_, 'a> {
        SnapshotFuture { operation: self }
    }

    /// Waits until all bytes are in the socket: until the operation's SENT, which
    /// [`RequestFlags::NOTIFY_SENT`](crate::RequestFlags::NOTIFY_SENT) requests, or until its end.
    /// Other data may then be sent there, or the writing side shut down.  The operation itself
    /// continues; await this future for its DONE.
    ///
    /// Fails as [`OperationFuture::snapshot`] does.
    pub fn sent(&mut self) -> SentFuture<'_, 'a> {
        SentFuture { operation: self }
    }

    // Starts the operation and waits for its end or this moment; fails if it is refused or the
    // context has failed.
    fn reach(&mut self, moment: Moment, task: &task::Context<'_>) -> Poll<io::Result<()>> {
        task::ready!(self.advance(moment, task));
        Poll::Ready(match &self.stage {
            Stage::Done(Err(error)) => Err((*error).into()),
            _ => Ok(()),
        })
    }

    fn advance(&mut self, moment: Moment, task: &task::Context<'_>) -> Poll<()> {
        if let Stage::New(request) = &self.stage {
            self.stage = self.context.start(request);
        }
        if let Stage::Queued(id) = self.stage {
            self.stage = task::ready!(self.context.look(id, moment, task));
        }
        Poll::Ready(())
    }
}

impl Future for OperationFuture<'_> {
    type Output = io::Result<Completion>;

    fn poll(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Self::Output> {
        task::ready!(self.advance(Moment::Done, task));
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Done(done) => Poll::Ready(done.map_err(io::Error::from)),
            _ => panic!("polled after its end"),
        }
    }
}

impl Drop for OperationFuture<'_> {
    fn drop(&mut self) {
        if let Stage::Queued(id) = self.stage {
            self.context.abandon(id);
        }
    }
}

/// The future of an operation's SNAPSHOT; see [`OperationFuture::snapshot`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct SnapshotFuture<'f, 'a> {
    operation: &'f mut OperationFuture<'a>,
}

impl Future for SnapshotFuture<'_, '_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.operation.reach(Moment::Snapshot, task)
    }
}

/// The future of an operation's SENT; see [`OperationFuture::sent`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct SentFuture<'f, 'a> {
    operation: &'f mut OperationFuture<'a>,
}

impl Future for SentFuture<'_, '_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.operation.reach(Moment::Sent, task)
    }
}
