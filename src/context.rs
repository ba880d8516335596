// SPDX-License-Identifier: MIT OR Apache-2.0
//! The public methods of a context: create, submit, poll, cancel, send, destroy.  Each checks that
//! it runs in the process that created the context (ECHILD after fork), then hands the call to
//! `caller` or to the port of the ring thread.  Nothing is decided here.
#![forbid(unsafe_code)]

use crate::caller::Caller;
#[cfg(feature = "c-interface")]
use crate::caller::poll::PollStep;
use crate::collections::memory;
use crate::engine::kept;
#[cfg(feature = "c-interface")]
use crate::handoff::completions::Completions;
use crate::handoff::port::{Port, Registration};
use crate::handoff::questions::Question;
use crate::handoff::shared::Shared;
use crate::handoff::submissions;
use crate::ring::thread;
use crate::sys::{self, ForkMark};
use crate::types::completion::Completion;
use crate::types::copying::Copying;
use crate::types::errno::{Errno, Result};
use crate::types::feature::KernelFeatures;
use crate::types::handle::{Handle, RegisteredFile, RegisteredSocket, Registry};
use crate::types::options::{Options, Settings};
use crate::types::request::Request;
use crate::types::stats::Stats;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The engine, the limits and the kernel features of a context.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Info {
    /// Whether io_uring is in use; otherwise the portable engine is.
    pub is_uring: bool,
    /// Why io_uring is not in use.  None: it is in use, or was not requested.
    pub engine_error: Option<Errno>,
    /// The most operations whose Done has not been taken, as created.
    pub max_ops: u32,
    /// The most private memory, in bytes, as created.
    pub pool_bytes: u64,
    /// The longest range that EAGER and EXACT keep in the pool as a whole, in bytes.  A longer one is
    /// cloned; if that is not possible, EXACT gives EMSGSIZE.
    pub exact_max: u64,
    /// The newer kernel features in use.
    pub kernel_features: KernelFeatures,
}

/// A context: one ring thread and the operations in flight there.  Dropping it cancels them and
/// waits until the kernel holds no memory and no descriptor of the context: with
/// [`ZEROCOPY`](crate::RequestFlags::ZEROCOPY) up to a second for each peer's acknowledgement, all
/// at the same time.
#[derive(Debug)]
pub struct Context {
    caller: Caller,
    mark: ForkMark,
    /// None only during drop.
    ring_thread: Option<thread::Handle>,
    info: Info,
}

/// The outcome of [`Context::try_send`].
#[derive(Clone, Copy, Debug)]
pub enum TrySend {
    /// The operation is done; poll reports no completion for it.
    Done(Completion),
    /// The operation was queued under this id.
    Queued(u64),
}

impl Context {
    /// Creates a context and starts its ring thread.
    ///
    /// EINVAL: an option is out of range.  ENOSYS, EPERM, ENOMEM and other errnos of the kernel:
    /// io_uring was requested and is refused, or there is no thread or memory.
    pub fn new(options: &Options) -> Result<Context> {
        let settings = Settings::from_options(options, sys::page_size())?;
        let mark = ForkMark::new()?;
        let (own, other) = sys::socket_pair()?;
        let shared = Arc::new(Shared::new(settings));
        let (channel, arrivals) = submissions::channel(shared.settings.max_ops)?;
        let caller = Caller::new(shared.clone(), Port::new(shared.clone(), own, channel)?)?;
        let (ring_thread, started) = thread::start(shared.clone(), arrivals, &other)?;
        let info = Info {
            is_uring: started.is_uring,
            engine_error: started.engine_error,
            max_ops: shared.settings.max_ops,
            pool_bytes: shared.settings.pool_bytes,
            exact_max: caller.exact_max,
            kernel_features: started.features,
        };
        let context = Context { caller, mark, ring_thread: Some(ring_thread), info };
        // A new context must not hold blocks of the reserve for its lifetime.
        if memory::RESERVE.is_in_use() { Err(Errno(libc::ENOMEM)) } else { Ok(context) }
    }

    /// Returns ECHILD if the caller is a forked child of the process that created the context.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.mark.is_own_process() { Ok(()) } else { Err(Errno(libc::ECHILD)) }
    }

    /// Ends all operations after a panic in a call on the context; later calls fail with EIO.
    #[cfg(feature = "c-interface")]
    pub(crate) fn poison(&self) {
        self.caller.port.die(libc::EIO);
    }

    /// Queues an operation; returns its id.
    ///
    /// EAGAIN: as many operations are in flight as the context was created for, or headers and
    /// trailers have used up their part of its memory.  EMFILE: the ring thread has as many
    /// descriptors as RLIMIT_NOFILE allows.  ETOOMANYREFS: for one second, more descriptors of this
    /// user have been in messages between processes and threads than RLIMIT_NOFILE allows.  ENOMEM,
    /// ENOBUFS: the system has no memory.  EBADF, ENOTSOCK, ESOCKTNOSUPPORT, ENOTCONN (a listening
    /// socket), EISDIR, EINVAL: a descriptor is closed or of the wrong kind, or the file is not open
    /// for reading.  EINVAL: contradicting flags, or an offset beyond the largest file offset.
    /// EOVERFLOW: the range ends beyond it.  EMSGSIZE: header and trailer are too long, or the range is
    /// longer than [`Info::exact_max`] and the file can change and cannot be cloned for EXACT.
    /// ECHILD: after fork.  EBADF, or another errno that made the context unusable.
    pub fn submit(&self, request: &Request<'_>) -> Result<u64> {
        let mut id = 0;
        self.submit_with_id(request, &mut |given| id = given)?;
        Ok(id)
    }

    /// Queues as [`Context::submit`] does; `id` receives the id before a completion with it is
    /// visible.
    pub(crate) fn submit_with_id(
        &self,
        request: &Request<'_>,
        id: &mut dyn FnMut(u64),
    ) -> Result<()> {
        self.check_process()?;
        self.caller.submit(request, id)
    }

    /// Queues several operations, in order, up to the first that is refused, and appends their ids
    /// to `ids`.  Returns how many were queued.  If none was, it fails as [`Context::submit`] does.
    pub fn submit_many(&self, requests: &[Request<'_>], ids: &mut Vec<u64>) -> Result<usize> {
        memory::reserve(ids, requests.len())?;
        self.submit_many_with_ids(requests, &mut |id| ids.push(id))
    }

    /// Queues as [`Context::submit_many`] does; `ids` receives each id before a completion with it
    /// is visible.
    pub(crate) fn submit_many_with_ids(
        &self,
        requests: &[Request<'_>],
        ids: &mut dyn FnMut(u64),
    ) -> Result<usize> {
        self.check_process()?;
        self.caller.submit_many(requests, ids)
    }

    /// Takes up to `out.len()` completions and waits for the first one up to `timeout` (None:
    /// indefinitely).  Returns how many were taken; 0: the timeout expired.
    ///
    /// EINVAL: `out` is empty.  EINTR: a signal handler ran.  ECHILD: after fork.  EBADF, or
    /// another errno that made the context unusable: nothing is in flight and no completion will
    /// follow.
    pub fn poll(&self, out: &mut [Completion], timeout: Option<Duration>) -> Result<usize> {
        self.check_process()?;
        let mut places = out.iter_mut();
        self.caller.poll(places.len(), timeout, |completion| {
            if let Some(place) = places.next() {
                *place = completion;
            }
        })
    }

    /// Polls in steps, for callers that wait by themselves on [`Completions::sequence`] of
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

    /// Returns the completions, for the waits between [`Context::poll_step`] calls.
    #[cfg(feature = "c-interface")]
    pub(crate) fn completions(&self) -> &Completions {
        self.caller.completions()
    }

    /// Returns a descriptor that is readable while completions wait.  It belongs to the context:
    /// never read, write or close it.
    pub(crate) fn event_fd(&self) -> Result<RawFd> {
        self.check_process()?;
        self.caller.event_fd()
    }

    /// Requests the end of an operation.  ENOENT: it has ended, or the id was never given.  ENOMEM,
    /// ENOBUFS: the system has no memory.  ECHILD: after fork.  EBADF, or another errno that made
    /// the context unusable.
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

    /// Cancels as [`Context::cancel`] does an operation that was accepted, without waiting for the
    /// answer.
    #[cfg(feature = "futures")]
    pub(crate) fn cancel_soon(&self, id: u64) -> Result<()> {
        self.check_process()?;
        self.caller.port.ask_only(Question::Cancel(id))
    }

    /// Requests the end of all operations on a socket; returns the number of operations.  EBADF,
    /// ENOTSOCK: the descriptor is closed or not a socket.  Others as for [`Context::cancel`].
    pub fn cancel_socket(&self, socket: impl AsFd) -> Result<u32> {
        self.cancel_socket_number(socket.as_fd().as_raw_fd())
    }

    /// Cancels as [`Context::cancel_socket`] does, for a number that may not be open.
    pub(crate) fn cancel_socket_number(&self, socket: RawFd) -> Result<u32> {
        self.check_process()?;
        let cookie = sys::socket_cookie(socket)?;
        self.caller.port.ask(Question::CancelSocket(cookie))
    }

    /// Completes the operation on the calling thread if nothing in it must wait; otherwise queues
    /// the remainder.  Errors as for [`Context::submit`].
    pub fn try_send(&self, request: &Request<'_>) -> Result<TrySend> {
        self.try_send_with_id(request, &mut |_| {})
    }

    /// Sends as [`Context::try_send`] does; `id` receives the id before a completion with it is
    /// visible.
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

    /// Submits and waits; only this caller receives the completion.  Errors as for
    /// [`Context::submit`]; the outcome of an accepted operation is in its status.
    pub fn send(&self, request: &Request<'_>) -> Result<Completion> {
        self.check_process()?;
        self.caller.send(request)
    }

    /// Registers a file: the library keeps a copy of the descriptor until the returned guard is
    /// dropped, checks it once, and may keep parts of the file mapped.  Requests then name it by
    /// [`Request::registered_file`].  What the calling thread does itself uses the caller's number,
    /// which must stay what it is while registered.  Errors as for [`Context::submit`].
    pub fn register_file(&self, file: impl AsFd) -> Result<RegisteredFile<'_>> {
        self.check_process()?;
        let handle = self.register_file_number(file.as_fd().as_raw_fd())?;
        Ok(RegisteredFile { handle, registry: self })
    }

    /// Registers a socket, as [`Context::register_file`] does a file; see
    /// [`Request::to_registered`].
    pub fn register_socket(&self, socket: impl AsFd) -> Result<RegisteredSocket<'_>> {
        self.check_process()?;
        let handle = self.register_socket_number(socket.as_fd().as_raw_fd())?;
        Ok(RegisteredSocket { handle, registry: self })
    }

    /// Registers a file by its number.
    pub(crate) fn register_file_number(&self, file: RawFd) -> Result<Handle> {
        self.caller.register_file(file)
    }

    /// Registers a socket by its number.
    pub(crate) fn register_socket_number(&self, socket: RawFd) -> Result<Handle> {
        self.caller.register_socket(socket)
    }

    /// Unregisters a file.  EBADF: it is not registered.
    pub(crate) fn unregister_file(&self, file: Handle) -> Result<()> {
        self.caller.unregister(Registration::File(file))
    }

    /// Unregisters a socket.  EBADF: it is not registered.
    pub(crate) fn unregister_socket(&self, socket: Handle) -> Result<()> {
        self.caller.unregister(Registration::Socket(socket))
    }

    /// Returns the engine, the limits and the kernel features of the context.
    pub fn info(&self) -> Result<Info> {
        self.check_process()?;
        Ok(self.info)
    }

    /// Returns the counters and gauges.
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
        let cost = |way| shared.known_files.costs.ns_per_mib(way);
        stats.copy_mapped_ns_per_mib = cost(Copying::Mapped);
        stats.copy_64k_ns_per_mib = cost(Copying::Read64K);
        stats.copy_256k_ns_per_mib = cost(Copying::Read256K);
        stats.copy_1m_ns_per_mib = cost(Copying::Read1M);
        Ok(stats)
    }
}

impl Registry for Context {
    fn drop_file(&self, file: Handle) {
        // In a forked child there is nothing to unregister.
        let _ = self.check_process().and_then(|()| self.unregister_file(file));
    }

    fn drop_socket(&self, socket: Handle) {
        let _ = self.check_process().and_then(|()| self.unregister_socket(socket));
    }
}

/// The event descriptor: readable while completions wait, and rarely without a completion;
/// [`Context::poll`] clears it.  It belongs to the context: never read, write or close it.
///
/// Completions make it readable only after it has been requested for the first time; those that
/// wait at that moment do so at once.  If the host has closed it, the number may belong to another
/// file: each later call on the context fails with EBADF.
impl AsFd for Context {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // The next poll reports an error.
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
            // Their threads still run this library's code.
            sys::keep_library();
        }
    }
}
