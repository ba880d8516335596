// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Rust interface: submit, poll, cancel, shut down.
#![forbid(unsafe_code)]

use crate::caller::Caller;
#[cfg(feature = "c-interface")]
use crate::caller::poll::PollStep;
use crate::collections::memory;
use crate::engine::kept;
#[cfg(feature = "c-interface")]
use crate::handoff::completions::Completions;
use crate::handoff::port::Port;
use crate::handoff::questions::Question;
use crate::handoff::shared::Shared;
use crate::handoff::submissions;
use crate::ring::thread;
use crate::sys::{self, ForkMark};
use crate::types::completion::Completion;
use crate::types::errno::{Errno, Result};
use crate::types::feature::KernelFeatures;
use crate::types::options::{Options, Settings};
use crate::types::request::Request;
use crate::types::stats::Stats;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a context is made of.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Info {
    /// Whether io_uring is in use; otherwise it is the portable engine.
    pub is_uring: bool,
    /// Why io_uring is not in use.  None: it is, or was not asked for.
    pub engine_error: Option<Errno>,
    /// As made.
    pub max_ops: u32,
    /// As made.
    pub pool_bytes: u64,
    /// The longest range that EXACT takes.
    pub exact_max: u64,
    /// Which of the kernel's newer features are in use.
    pub kernel_features: KernelFeatures,
}

/// A context: one ring thread and what is in flight there.  Dropping it cancels that, and waits
/// until the kernel holds no memory or descriptor of the context.
#[derive(Debug)]
pub struct Context {
    caller: Caller,
    mark: ForkMark,
    /// None only while it is dropped.
    ring_thread: Option<thread::Handle>,
    info: Info,
}

/// The outcome of [`Context::try_send`].
#[derive(Clone, Copy, Debug)]
pub enum TrySend {
    /// The operation is done; no completion comes through poll.
    Done(Completion),
    /// The operation was queued under this id.
    Queued(u64),
}

impl Context {
    /// Starts the ring thread.
    ///
    /// EINVAL: an option is out of range.  ENOSYS, EPERM, ENOMEM and other numbers of the
    /// kernel's: io_uring was asked for and is refused, or no thread or memory can be had.
    pub fn new(options: &Options) -> Result<Context> {
        let settings = Settings::from_options(options)?;
        let mark = ForkMark::new()?;
        let (own, other) = sys::socket_pair()?;
        let shared = Arc::new(Shared::new(settings));
        let (channel, arrivals) = submissions::channel(settings.max_ops)?;
        let caller = Caller::new(shared.clone(), Port::new(shared.clone(), own, channel)?)?;
        let (ring_thread, started) = thread::start(shared, arrivals, &other)?;
        let info = Info {
            is_uring: started.is_uring,
            engine_error: started.engine_error,
            max_ops: settings.max_ops,
            pool_bytes: settings.pool_bytes,
            exact_max: caller.exact_max,
            kernel_features: started.features,
        };
        let context = Context { caller, mark, ring_thread: Some(ring_thread), info };
        // The reserve is not for what stays.
        if memory::RESERVE.is_in_use() { Err(Errno(libc::ENOMEM)) } else { Ok(context) }
    }

    /// ECHILD: the caller is a forked child of the process that made the context.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.mark.is_own_process() { Ok(()) } else { Err(Errno(libc::ECHILD)) }
    }

    /// A call on it has panicked: nothing more is done with it, and what is in flight ends.
    #[cfg(feature = "c-interface")]
    pub(crate) fn poison(&self) {
        self.caller.port.die(libc::EIO);
    }

    /// Queues an operation; returns its id.
    ///
    /// EAGAIN: as many are in flight as the context was made for, or headers and trailers have
    /// used up their part of its memory.  ENOMEM: the system gives none.  EMFILE: the ring thread has as many descriptors as
    /// RLIMIT_NOFILE allows.  EBADF, ENOTSOCK, ESOCKTNOSUPPORT, ENOTCONN (a listening socket),
    /// EISDIR, EINVAL: a descriptor is closed or of the wrong kind, or the file is not open for
    /// reading.  EINVAL: contradicting flags, or an offset beyond what a file can have.  EOVERFLOW: a
    /// range that ends beyond it.  EMSGSIZE: header and trailer, or an EXACT range, are too long.
    /// ECHILD: after fork.
    pub fn submit(&self, request: &Request<'_>) -> Result<u64> {
        let mut id = 0;
        self.submit_with_id(request, &mut |given| id = given)?;
        Ok(id)
    }

    /// [`Context::submit`]; `id` is given the id before a completion with it can be seen.
    pub(crate) fn submit_with_id(
        &self,
        request: &Request<'_>,
        id: &mut dyn FnMut(u64),
    ) -> Result<()> {
        self.check_process()?;
        self.caller.submit(request, id)
    }

    /// Queues several operations, in order, up to the first that is refused.  Their ids are
    /// appended to `ids`.  Returns how many were queued; an error if none was, as for
    /// [`Context::submit`].
    pub fn submit_many(&self, requests: &[Request<'_>], ids: &mut Vec<u64>) -> Result<usize> {
        memory::reserve(ids, requests.len())?;
        self.submit_many_with_ids(requests, &mut |id| ids.push(id))
    }

    /// [`Context::submit_many`]; `ids` is given each id before a completion with it can be seen.
    pub(crate) fn submit_many_with_ids(
        &self,
        requests: &[Request<'_>],
        ids: &mut dyn FnMut(u64),
    ) -> Result<usize> {
        self.check_process()?;
        self.caller.submit_many(requests, ids)
    }

    /// Takes up to `out.len()` completions; waits for the first up to `timeout` (None:
    /// indefinitely).  Returns how many were taken; 0: the time ran out.
    ///
    /// EINVAL: `out` is empty.  EINTR: a signal handler ran.  ECHILD: after fork.  EBADF, or
    /// what else put the context beyond use: nothing is in flight any more and nothing will come.
    pub fn poll(&self, out: &mut [Completion], timeout: Option<Duration>) -> Result<usize> {
        self.check_process()?;
        let mut places = out.iter_mut();
        self.caller.poll(places.len(), timeout, |completion| {
            if let Some(place) = places.next() {
                *place = completion;
            }
        })
    }

    /// A poll in steps, for callers that wait by themselves, on [`Completions::sequence`] of
    /// [`Context::completions`].
    #[cfg(feature = "c-interface")]
    pub(crate) fn poll_step(
        &self,
        max: usize,
        waits: bool,
        each: impl FnMut(Completion),
    ) -> Result<PollStep> {
        self.check_process()?;
        self.caller.poll_step(max, waits, each)
    }

    /// See [`Context::poll_step`].
    #[cfg(feature = "c-interface")]
    pub(crate) fn completions(&self) -> &Completions {
        self.caller.completions()
    }

    /// A descriptor that is readable while completions wait.  It belongs to the context: never
    /// read, write or close it.
    pub(crate) fn event_fd(&self) -> Result<RawFd> {
        self.check_process()?;
        self.caller.event_fd()
    }

    /// Asks for the end of an operation.  ENOENT: it has ended already or never was.
    pub fn cancel(&self, id: u64) -> Result<()> {
        self.check_process()?;
        if !self.caller.shared.cuts.has_given(id) {
            return Err(Errno(libc::ENOENT));
        }
        match self.caller.port.ask(Question::Cancel(id))? {
            0 => Err(Errno(libc::ENOENT)),
            _ => Ok(()),
        }
    }

    /// [`Context::cancel`] for an operation that was accepted, without waiting for the answer.
    #[cfg(feature = "futures")]
    pub(crate) fn cancel_soon(&self, id: u64) -> Result<()> {
        self.check_process()?;
        self.caller.port.ask_only(Question::Cancel(id))
    }

    /// Asks for the end of all operations on a socket; returns how many there were.
    pub fn cancel_socket(&self, socket: impl AsFd) -> Result<u32> {
        self.cancel_socket_number(socket.as_fd().as_raw_fd())
    }

    /// [`Context::cancel_socket`] for a number that may not be open.
    pub(crate) fn cancel_socket_number(&self, socket: RawFd) -> Result<u32> {
        self.check_process()?;
        let cookie = sys::socket_cookie(socket)?;
        self.caller.port.ask(Question::CancelSocket(cookie))
    }

    /// Does the whole operation on the calling thread if that needs no waiting; otherwise queues
    /// what is left.  Errors as for [`Context::submit`].
    pub fn try_send(&self, request: &Request<'_>) -> Result<TrySend> {
        self.try_send_with_id(request, &mut |_| {})
    }

    /// [`Context::try_send`]; `id` is given the id before a completion with it can be seen.
    pub(crate) fn try_send_with_id(
        &self,
        request: &Request<'_>,
        id: &mut dyn FnMut(u64),
    ) -> Result<TrySend> {
        self.check_process()?;
        let mut queued = 0;
        let mut given = |number| {
            queued = number;
            id(number);
        };
        Ok(match self.caller.try_send(request, &mut given)? {
            Some(completion) => TrySend::Done(completion),
            None => TrySend::Queued(queued),
        })
    }

    /// Submits and waits; the completion goes to the caller alone.  Errors as for
    /// [`Context::submit`]; what happened to an accepted operation is in the status.
    pub fn send(&self, request: &Request<'_>) -> Result<Completion> {
        self.check_process()?;
        self.caller.send(request)
    }

    /// What the context is made of.
    pub fn info(&self) -> Result<Info> {
        self.check_process()?;
        Ok(self.info)
    }

    /// What it has done so far.
    pub fn stats(&self) -> Result<Stats> {
        self.check_process()?;
        let shared = &self.caller.shared;
        let mut stats = shared.counters.read();
        let done = stats.done_ok + stats.done_error + stats.cancelled;
        stats.in_flight = stats.submitted.saturating_sub(done);
        let staged = shared.staging.used();
        stats.pool_in_use += staged;
        stats.pool_resident += staged;
        stats.rings_kept = kept::count();
        Ok(stats)
    }
}

/// The event descriptor: readable while completions wait, and rarely once in vain;
/// [`Context::poll`] clears it.  It belongs to the context: never read, write or close it.
///
/// Completions make it readable only once it has been asked for: those that wait already do so at
/// once.  If the host has closed it, the number may be another file's: each call on the context
/// gives EBADF from then on.
impl AsFd for Context {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // The next poll reports the error, if there is one.
        let _ = self.event_fd();
        self.caller.port.as_fd()
    }
}

/// See [`Context::as_fd`].
impl AsRawFd for Context {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.mark.is_own_process() {
            return self.caller.port.leave_to_parent();
        }
        self.caller.shared.life.shut_down();
        self.caller.port.end();
        let known = &self.caller.shared.known_files;
        let helpers = || known.helpers_left_behind.load(Ordering::SeqCst) > 0;
        let calls = || known.calls_left_behind.load(Ordering::SeqCst) > 0;
        if let Some(ring_thread) = self.ring_thread.take() {
            ring_thread.join(|| helpers() || calls());
        }
        if helpers() {
            // They run in our code.
            sys::keep_library();
        }
    }
}
