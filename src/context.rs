// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Rust interface: submit, poll, cancel, shut down.
#![forbid(unsafe_code)]

use crate::caller::inline::{self, INLINE_MAX};
use crate::collections::memory;
use crate::decide::operation::{Operation, Task};
use crate::engine::kept;
use crate::engine::known_files::KnownFiles;
use crate::handoff::claims::{Claimed, Turn};
use crate::handoff::completions::{Completions, Look, Taken};
use crate::handoff::port::{self, GROUP_MAX, Notice, Question, Submission};
use crate::handoff::reply::Reply;
use crate::handoff::shared::Shared;
use crate::handoff::staging::{self, Staged};
use crate::ring::thread;
use crate::sys::{self, Buffers, ForkMark};
use crate::types::completion::{Completion, Event, WAS_INLINE};
use crate::types::errno::{Errno, Result};
use crate::types::file::{FileFacts, FileKind, FileState};
use crate::types::options::{Options, Settings};
use crate::types::request::{NOTIFY_SNAPSHOT, Request};
use crate::types::stats::{Counters, Stats};
#[cfg(feature = "c-interface")]
use crossbeam_channel::{Sender, TrySendError};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a context is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Info {
    /// Whether io_uring is in use; otherwise it is the portable engine.
    pub is_uring: bool,
    /// Why io_uring is not in use (-errno); 0 when it is, or was not asked for.
    pub engine_errno: i32,
    /// As made.
    pub max_ops: u32,
    /// As made.
    pub pool_bytes: u64,
    /// The longest range that EXACT takes.
    pub exact_max: u64,
    /// Bits of [`crate::kernel_feature`].
    pub kernel_features: u64,
}

/// A context: one ring thread and what is in flight there.  Dropping it cancels that, and waits
/// until the kernel holds no memory or descriptor of the context.
#[derive(Debug)]
pub struct Context {
    shared: Arc<Shared>,
    /// The only descriptor in the host's table: messages go out here, the bell comes in.
    own: Option<OwnedFd>,
    own_cookie: u64,
    mark: ForkMark,
    /// None only while it is dropped.
    submissions: Option<Sender<Submission>>,
    ring_thread: Option<thread::Handle>,
    info: Info,
    scratch: Buffers<2>,
    group: Mutex<Group>,
}

/// What submit_many gathers, kept so that it need not be allocated anew.
#[derive(Debug, Default)]
struct Group {
    submissions: Vec<Submission>,
    fds: Vec<RawFd>,
}

/// What became of [`Context::try_send`].
#[derive(Clone, Copy, Debug)]
pub enum TrySend {
    /// It is done; no completion comes through poll.
    Done(Completion),
    /// It was queued, under the id that was told.
    Queued,
}

/// What sending on the calling thread came to.
enum Inline {
    /// The operation has ended.
    Done(Completion),
    /// The rest, or all, is to be queued; the socket is released after that, if it is claimed.
    Rest(Option<Claimed>),
}

/// What [`Context::poll_step`] did.
#[cfg(feature = "c-interface")]
pub(crate) enum PollStep {
    /// So many were taken, or nobody waits for more.
    Taken(usize),
    /// There are none: the caller has been announced as waiting.
    Wait {
        /// See [`Look::Empty`].
        sequence: u32,
    },
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
        let own_cookie = sys::socket_cookie(sys::number(&own))?;
        let shared = Arc::new(Shared::new(settings)?);
        let (submissions, arrivals) = port::hand_over(settings.max_ops)?;
        let (ring_thread, started) = thread::start(shared.clone(), arrivals, &other)?;
        let info = Info {
            is_uring: started.is_uring,
            engine_errno: started.engine_errno,
            max_ops: settings.max_ops,
            pool_bytes: settings.pool_bytes,
            exact_max: shared.exact_max,
            kernel_features: started.features,
        };
        let context = Context {
            shared,
            own: Some(own),
            own_cookie,
            mark,
            submissions: Some(submissions),
            ring_thread: Some(ring_thread),
            info,
            scratch: Buffers::new(INLINE_MAX as usize),
            group: Mutex::default(),
        };
        // The reserve is not for what stays.
        if memory::RESERVE.is_in_use() { Err(Errno(libc::ENOMEM)) } else { Ok(context) }
    }

    /// ECHILD: the caller is a forked child of the process that made the context.
    pub fn check_process(&self) -> Result<()> {
        if self.mark.is_own_process() { Ok(()) } else { Err(Errno(libc::ECHILD)) }
    }

    /// A call on it has panicked: nothing more is done with it, and what is in flight ends.
    pub fn poison(&self) {
        self.shared.die(libc::EIO);
        self.wake();
    }

    // The number of our descriptor, if it still means it: a host that closes all descriptors has
    // taken it away, and may have given the number to something of its own.
    fn own_number(&self) -> Result<RawFd> {
        let number = self.own.as_ref().map_or(-1, sys::number);
        if sys::socket_cookie(number) == Ok(self.own_cookie) {
            return Ok(number);
        }
        self.shared.die(libc::EBADF);
        self.wake();
        Err(Errno(libc::EBADF))
    }

    fn wake(&self) {
        if self.shared.doorbell.ring() {
            Counters::add(&self.shared.counters.wakeups, 1);
        }
    }

    fn notify(&self, notice: Notice, count: u32, first: u64, fds: &[RawFd]) -> Result<()> {
        let own = self.own_number()?;
        let sent = sys::send_descriptors(own, &notice.encode(count, first), fds);
        self.wake();
        sent
    }

    /// Queues an operation; returns its id.
    ///
    /// EAGAIN: as many are in flight as the context was made for, or headers and trailers have
    /// used up their part of its memory.  ENOMEM: the system gives none.  EMFILE: the ring thread has as many descriptors as
    /// RLIMIT_NOFILE allows.  EBADF, ENOTSOCK, ESOCKTNOSUPPORT, ENOTCONN (a listening socket),
    /// EISDIR, EINVAL: a descriptor is closed or of the wrong kind, or the file is not open for
    /// reading.  Others as [`Request::check`] gives them.  ECHILD: after fork.
    pub fn submit(&self, request: &Request<'_>) -> Result<u64> {
        let mut id = 0;
        self.submit_with_id(request, &mut |given| id = given)?;
        Ok(id)
    }

    /// The same; `id` is told the id before anybody can see a completion with it.
    pub fn submit_with_id(&self, request: &Request<'_>, id: &mut dyn FnMut(u64)) -> Result<()> {
        self.check_process()?;
        let submission = self.prepare(request)?;
        let fds = descriptors_of(request);
        self.enqueue(std::iter::once(submission), fds_of(&fds), id).map(|_| ())
    }

    /// The same for several; `ids` is told those of the operations queued, in order.  Ok: how
    /// many, from the first on; an error when none was.
    pub fn submit_many(&self, requests: &[Request<'_>], ids: &mut dyn FnMut(u64)) -> Result<usize> {
        self.check_process()?;
        let mut queued = 0;
        for group in requests.chunks(GROUP_MAX) {
            let (count, error) = self.submit_group(group, ids);
            queued += count;
            match error {
                Some(error) if queued == 0 => return Err(error),
                Some(_) => break,
                None => {}
            }
        }
        Ok(queued)
    }

    fn submit_group(
        &self,
        requests: &[Request<'_>],
        ids: &mut dyn FnMut(u64),
    ) -> (usize, Option<Errno>) {
        // Never waiting: a thread that forked may have left it locked in the child for ever.
        let mut kept = self.group.try_lock();
        let mut group = kept.as_deref_mut().map(std::mem::take).unwrap_or_default();
        drop(kept);
        let room = memory::reserve(&mut group.submissions, requests.len())
            .and_then(|()| memory::reserve(&mut group.fds, 2 * requests.len()));
        if let Err(error) = room {
            return (0, Some(error));
        }
        let mut error = None;
        for request in requests {
            match self.prepare(request) {
                Ok(submission) => group.submissions.push(submission),
                Err(refused) => {
                    error = Some(refused);
                    break;
                }
            }
            group.fds.extend_from_slice(fds_of(&descriptors_of(request)));
        }
        let mut count = group.submissions.len();
        if count > 0 {
            match self.enqueue(group.submissions.drain(..), &group.fds, ids) {
                Ok(queued) if queued == count => {}
                Ok(queued) => (count, error) = (queued, Some(Errno(libc::ENOMEM))),
                Err(refused) => (count, error) = (0, Some(refused)),
            }
        }
        group.fds.clear();
        if let Ok(mut kept) = self.group.try_lock() {
            *kept = group;
        }
        (count, error)
    }

    /// Checks a request, takes a permit and copies header and trailer.
    pub(crate) fn prepare(&self, request: &Request<'_>) -> Result<Submission> {
        self.shared.alive()?;
        request.check(self.shared.exact_max)?;
        let lengths = staging::lengths(request)?;
        let cookie = self.check_socket(request.socket)?;
        let file = request.file.map(|file| self.check_file(request, file)).transpose()?;
        let staged = self.take_room(request, lengths, 1 + u32::from(file.is_some()))?;
        let timeout = Duration::from_millis(request.timeout_ms.into());
        Ok(Submission {
            id: 0,
            cookie,
            user_data: request.user_data,
            operation: Operation::new(Task {
                header: staged.header_length(),
                trailer: staged.trailer_length(),
                offset: request.offset,
                length: request.length,
                flags: request.flags,
            }),
            staged,
            file,
            deadline: (request.timeout_ms > 0).then(|| Instant::now() + timeout),
            reply: None,
            turn: Turn::InOrder,
        })
    }

    fn take_room(
        &self,
        request: &Request<'_>,
        lengths: (usize, usize),
        descriptors: u32,
    ) -> Result<Staged> {
        let shared = &self.shared;
        let with_snapshot = request.flags & NOTIFY_SNAPSHOT != 0;
        shared.permits.take(with_snapshot, &shared.completions)?;
        let taken = shared.descriptors.take(descriptors, || shared.cuts.is_any_in_transit());
        let staged = taken.and_then(|()| {
            shared
                .staging
                .copy(request, lengths)
                .inspect_err(|_| shared.descriptors.give_back(descriptors))
        });
        staged.inspect_err(|_| shared.permits.give_back(with_snapshot))
    }

    // Gives back what prepare() took.
    fn discard(&self, submission: &mut Submission) {
        self.shared.staging.release(std::mem::take(&mut submission.staged));
        self.shared.permits.give_back(submission.owes_snapshot());
        self.shared.descriptors.give_back(submission.descriptor_count());
    }

    fn check_socket(&self, socket: RawFd) -> Result<u64> {
        let cookie = sys::socket_cookie(socket)?;
        if self.shared.is_known_socket(cookie) {
            return Ok(cookie);
        }
        // SCTP's one-to-one sockets are of this type, too, but send messages: none may be larger
        // than the send buffer (EMSGSIZE), and what is sent in pieces arrives as so many.
        if sys::socket_type(socket)? != libc::SOCK_STREAM
            || sys::socket_protocol(socket)? == libc::IPPROTO_SCTP
        {
            return Err(Errno(libc::ESOCKTNOSUPPORT));
        }
        if sys::is_listening(socket)? {
            return Err(Errno(libc::ENOTCONN));
        }
        self.shared.learn_socket(cookie);
        Ok(cookie)
    }

    fn check_file(&self, request: &Request<'_>, file: RawFd) -> Result<FileFacts> {
        let state = sys::file_state_without_sync(file)?;
        match state.kind {
            FileKind::Regular | FileKind::Block => {}
            FileKind::Directory => return Err(Errno(libc::EISDIR)),
            _ => return Err(Errno(libc::EINVAL)),
        }
        let flags = sys::status_flags(file)?;
        if flags & libc::O_ACCMODE == libc::O_WRONLY || flags & libc::O_PATH != 0 {
            return Err(Errno(libc::EBADF));
        }
        let exact = request.flags & crate::types::request::EXACT != 0 && request.is_open_ended();
        // The size may be an old one where there is a server; the ring thread asks that.
        let is_too_long = |known: &KnownFiles| {
            known.look_up(state.kind, state.mount).is_local()
                && state.size.saturating_sub(request.offset) > self.shared.exact_max
        };
        if exact && is_too_long(&self.shared.known_files) {
            return Err(Errno(libc::EMSGSIZE));
        }
        let direct = flags & libc::O_DIRECT != 0;
        let FileState { kind, size, inode, mount } = state;
        Ok(FileFacts { kind, size, inode, mount, direct })
    }

    /// Hands submissions over.  How many: fewer, from the first on, where there is no memory for more.
    fn enqueue(
        &self,
        mut submissions: impl ExactSizeIterator<Item = Submission>,
        fds: &[RawFd],
        ids: &mut dyn FnMut(u64),
    ) -> Result<usize> {
        let count = submissions.len() as u32;
        let shared = &self.shared;
        let first = shared.cuts.take_ids(count);
        let (mut queued, mut fds_queued, mut refused) = (0, 0, None);
        for (id, submission) in (first..).zip(submissions.by_ref()) {
            let descriptors = submission.descriptor_count();
            if let Err(error) = self.push(submission, id, ids) {
                refused = Some(error);
                break;
            }
            queued += 1;
            fds_queued += descriptors as usize;
        }
        submissions.for_each(|mut rest| self.discard(&mut rest));
        shared.cuts.not_handed_over(count - queued);
        match refused {
            Some(error) if queued == 0 => return Err(error),
            _ => {}
        }
        match self.notify(Notice::Submitted, queued, first, &fds[..fds_queued]) {
            Ok(()) => {
                Counters::add(&shared.counters.submitted, queued.into());
                Ok(queued as usize)
            }
            Err(error) => {
                // The ring thread has them already: it gives back what they took.
                while !shared.withdraw(first, queued) && shared.alive().is_ok() {
                    self.wake();
                    std::thread::yield_now();
                }
                let _ = self.notify(Notice::Look, 0, 0, &[]);
                // Of a dead context it is not the socket's error that matters.
                shared.alive()?;
                Err(error)
            }
        }
    }

    // Where it fails, it gives back what the submission took.
    fn push(&self, mut submission: Submission, id: u64, ids: &mut dyn FnMut(u64)) -> Result<()> {
        let shared = &self.shared;
        let cookie = submission.cookie;
        submission.id = id;
        match shared.claims.enter(cookie, submission.turn) {
            Ok(turn) => submission.turn = turn,
            Err(error) => {
                self.discard(&mut submission);
                return Err(error);
            }
        }
        ids(id);
        let Some((error, mut submission)) = self.hand_over(submission) else {
            return Ok(());
        };
        shared.claims.leave(cookie);
        self.discard(&mut submission);
        Err(error)
    }

    // Some: what it could not hand over, and why: ENOMEM, or the error of a dead context.
    fn hand_over(&self, mut submission: Submission) -> Option<(Errno, Submission)> {
        let Some(submissions) = &self.submissions else {
            return Some((Errno(libc::EBADF), submission));
        };
        loop {
            match submissions.try_send(submission) {
                Ok(()) => return None,
                Err(TrySendError::Disconnected(back)) => {
                    self.shared.die(libc::EBADF);
                    return Some((Errno(libc::EBADF), back));
                }
                Err(TrySendError::Full(back)) => submission = back,
            }
            let _ = self.notify(Notice::Look, 0, 0, &[]);
            if let Err(error) = self.shared.alive() {
                return Some((error, submission));
            }
            if self.shared.hand_over_stuck.swap(false, Ordering::SeqCst) {
                return Some((Errno(libc::ENOMEM), submission));
            }
            std::thread::yield_now();
        }
    }

    /// Takes up to `out.len()` completions, see [`Context::poll_each`].
    pub fn poll(&self, out: &mut [Completion], timeout: Option<Duration>) -> Result<usize> {
        let mut places = out.iter_mut();
        self.poll_each(places.len(), timeout, |completion| {
            if let Some(place) = places.next() {
                *place = completion;
            }
        })
    }

    /// Takes up to `max` completions; waits for the first up to `timeout` (None: for ever).
    ///
    /// EINVAL: `max` is 0.  EINTR: a signal handler ran.  ECHILD: after fork.  EBADF, or
    /// what else killed the context: nothing is in flight any more and nothing will come.
    pub fn poll_each(
        &self,
        max: usize,
        timeout: Option<Duration>,
        mut each: impl FnMut(Completion),
    ) -> Result<usize> {
        let shared = &self.shared;
        self.check_poll(max, timeout != Some(Duration::ZERO))?;
        let taken = shared.completions.take(max, timeout, |entry| each(shared.taken(entry)))?;
        self.end_poll(taken)
    }

    /// A poll in steps, for callers that wait by themselves, on [`Completions::sequence`] of
    /// [`Context::completions`].
    #[cfg(feature = "c-interface")]
    pub(crate) fn poll_step(
        &self,
        max: usize,
        waits: bool,
        mut each: impl FnMut(Completion),
    ) -> Result<PollStep> {
        let shared = &self.shared;
        self.check_poll(max, waits)?;
        match shared.completions.look(max, waits, |entry| each(shared.taken(entry))) {
            Look::Taken(taken) => self.end_poll(taken).map(PollStep::Taken),
            Look::Empty { sequence } => Ok(PollStep::Wait { sequence }),
        }
    }

    /// See [`Context::poll_step`].
    #[cfg(feature = "c-interface")]
    pub(crate) fn completions(&self) -> &Completions {
        &self.shared.completions
    }

    fn check_poll(&self, max: usize, waits: bool) -> Result<()> {
        self.check_process()?;
        if max == 0 {
            return Err(Errno(libc::EINVAL));
        }
        if waits && self.shared.completions.is_empty() {
            // About to wait: where the host has closed our descriptor and only a forked child holds
            // it still, nothing else would tell the ring thread.
            let _ = self.own_number();
        }
        Ok(())
    }

    fn end_poll(&self, taken: Taken) -> Result<usize> {
        let shared = &self.shared;
        if taken.bell > 0 {
            if let Ok(own) = self.own_number() {
                let cleared = sys::clear_bell(own, taken.bell);
                shared.completions.owe_bell(taken.bell - cleared);
            }
        }
        if taken.count == 0 && shared.completions.is_closed() {
            shared.alive()?;
        }
        Ok(taken.count)
    }

    /// A descriptor that is readable while completions wait.  It belongs to the context: never
    /// read, write or close it.
    pub fn event_fd(&self) -> Result<RawFd> {
        self.check_process()?;
        let own = self.own_number()?;
        if self.shared.completions.want_bell() {
            self.notify(Notice::Look, 0, 0, &[])?;
        }
        Ok(own)
    }

    fn ask(&self, question: Question) -> Result<u32> {
        let shared = &self.shared;
        shared.alive()?;
        let (number, reply) = shared.questions.put(question)?;
        let answer = match self.notify(Notice::Asked, 0, number, &[]) {
            Ok(()) => reply.wait(),
            Err(error) => {
                drop(shared.questions.take(number));
                Err(error)
            }
        };
        if answer.is_err() {
            shared.alive()?;
        }
        answer
    }

    /// Asks for the end of an operation.  ENOENT: it has ended already or never was.
    pub fn cancel(&self, id: u64) -> Result<()> {
        self.check_process()?;
        if !self.shared.cuts.has_given(id) {
            return Err(Errno(libc::ENOENT));
        }
        match self.ask(Question::Cancel(id))? {
            0 => Err(Errno(libc::ENOENT)),
            _ => Ok(()),
        }
    }

    /// Asks for the end of all operations on a socket; returns how many there were.
    pub fn cancel_socket(&self, socket: RawFd) -> Result<u32> {
        self.check_process()?;
        let cookie = sys::socket_cookie(socket)?;
        self.ask(Question::CancelSocket(cookie))
    }

    /// Does the whole operation on the calling thread if that needs no waiting; queues what is
    /// left otherwise, under the id that `id` is told.  Errors as for [`Context::submit`].
    pub fn try_send(&self, request: &Request<'_>, id: &mut dyn FnMut(u64)) -> Result<TrySend> {
        self.check_process()?;
        let mut submission = self.prepare(request)?;
        let fds = descriptors_of(request);
        let claimed = match self.send_inline(request, &mut submission) {
            Inline::Done(completion) => return Ok(TrySend::Done(completion)),
            Inline::Rest(claimed) => claimed,
        };
        Ok(match self.enqueue_rest(submission, claimed, fds_of(&fds), id)? {
            Some(completion) => TrySend::Done(completion),
            None => TrySend::Queued,
        })
    }

    /// Submits and waits; the completion goes to the caller alone.  Errors as for
    /// [`Context::submit`]; what happened to an accepted operation is in the status.
    pub fn send(&self, request: &Request<'_>) -> Result<Completion> {
        self.check_process()?;
        memory::check()?;
        let mut submission = self.prepare(request)?;
        let fds = descriptors_of(request);
        let claimed = match self.send_inline(request, &mut submission) {
            Inline::Done(completion) => return Ok(completion),
            Inline::Rest(claimed) => claimed,
        };
        let reply = Arc::new(Reply::default());
        submission.reply = Some(reply.clone());
        let cookie = submission.cookie;
        let queued = self.enqueue_rest(submission, claimed, fds_of(&fds), &mut |_| {})?;
        if let Some(completion) = queued {
            return Ok(completion);
        }
        let completion = reply.wait()?;
        self.shared.permits.give_back(false);
        if completion.status < 0 && completion.wire_bytes > 0 {
            self.shared.cuts.done_taken(cookie);
        }
        Ok(completion)
    }

    // Where the operation is done, everything that the submission took has been given back.
    fn send_inline(&self, request: &Request<'_>, submission: &mut Submission) -> Inline {
        let shared = &self.shared;
        let chunk = shared.settings.chunk_bytes;
        if !inline::is_suitable(request, submission, &shared.known_files, chunk) {
            return Inline::Rest(None);
        }
        let cookie = submission.cookie;
        let Some(claimed) = shared.claims.claim(cookie) else { return Inline::Rest(None) };
        if shared.cuts.is_untold(cookie) {
            self.release(claimed);
            return Inline::Rest(None);
        }
        // Without a buffer nothing is done, and the ring thread does it all.
        let _ = self
            .scratch
            .with(|scratch| inline::run(request, submission, &shared.known_files, scratch));
        let operation = &submission.operation;
        let counters = &shared.counters;
        Counters::add(&counters.bytes_inline, operation.range_sent());
        Counters::add(&counters.bytes_copied, operation.range_sent());
        Counters::add(&counters.file_bytes, operation.range_sent());
        Counters::add(&counters.wire_bytes, operation.wire());
        let Some(status) = operation.ended() else {
            submission.turn = Turn::Ahead;
            return Inline::Rest(Some(claimed));
        };
        if operation.is_held_back() {
            sys::push_tcp(request.socket);
        }
        let completion = self.done_here(cookie, submission.user_data, operation, status);
        self.discard(submission);
        self.release(claimed);
        Inline::Done(completion)
    }

    // The last word on an operation, said by the calling thread to its caller alone.
    fn done_here(
        &self,
        cookie: u64,
        user_data: u64,
        operation: &Operation,
        status: i32,
    ) -> Completion {
        let shared = &self.shared;
        Counters::add(&shared.counters.submitted, 1);
        shared.counters.count_done(status);
        if operation.is_cut() {
            shared.or_die(shared.cuts.record_taken(cookie));
        }
        Completion {
            id: shared.cuts.take_id_here(),
            user_data,
            file_bytes: operation.range_sent(),
            wire_bytes: operation.wire(),
            status,
            event: Event::Done,
            flags: operation.was() | WAS_INLINE,
        }
    }

    fn release(&self, claimed: Claimed) {
        let Some(claim) = self.shared.claims.release(claimed) else {
            return;
        };
        // Others wait for it: where memory for the message is short, it is tried again.
        for _ in 0..1000 {
            let sent = self.notify(Notice::Released, claim.number, claim.cookie, &[]);
            if sent.is_ok() || self.shared.alive().is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    // Some: it could not be queued, but a part had gone out; that is a DONE and no refusal.
    fn enqueue_rest(
        &self,
        submission: Submission,
        claimed: Option<Claimed>,
        fds: &[RawFd],
        id: &mut dyn FnMut(u64),
    ) -> Result<Option<Completion>> {
        let cookie = submission.cookie;
        let (user_data, mut operation) = (submission.user_data, submission.operation.clone());
        let queued = match self.enqueue(std::iter::once(submission), fds, id) {
            Err(error) if operation.wire() > 0 => {
                operation.fail(error.negative());
                if operation.is_held_back() {
                    sys::push_tcp(fds[0]);
                }
                Ok(Some(self.done_here(cookie, user_data, &operation, error.negative())))
            }
            queued => queued.map(|_| None),
        };
        if let Some(claimed) = claimed {
            self.release(claimed);
        }
        queued
    }

    /// What the context is made of.
    pub fn info(&self) -> Result<Info> {
        self.check_process()?;
        Ok(self.info)
    }

    /// What it has done so far.
    pub fn stats(&self) -> Result<Stats> {
        self.check_process()?;
        let mut stats = self.shared.counters.read();
        let done = stats.done_ok + stats.done_error + stats.cancelled;
        stats.in_flight = stats.submitted.saturating_sub(done);
        let staged = self.shared.staging.used();
        stats.pool_in_use = self.shared.pool_in_use.load(Ordering::Relaxed) + staged;
        stats.pool_resident = self.shared.pool_resident.load(Ordering::Relaxed) + staged;
        stats.rings_kept = kept::count();
        Ok(stats)
    }
}

type Pair = ([RawFd; 2], usize);

fn descriptors_of(request: &Request<'_>) -> Pair {
    match request.file {
        Some(file) => ([request.socket, file], 2),
        None => ([request.socket, -1], 1),
    }
}

fn fds_of((fds, count): &Pair) -> &[RawFd] {
    &fds[..*count]
}

impl Drop for Context {
    fn drop(&mut self) {
        let own = self.own.take();
        let own_is_ours = own
            .as_ref()
            .is_some_and(|own| sys::socket_cookie(sys::number(own)) == Ok(self.own_cookie));
        if self.mark.is_own_process() {
            self.shared.shutting_down.store(true, Ordering::SeqCst);
            self.shared.die(libc::ESHUTDOWN);
            if let (Some(own), true) = (&own, own_is_ours) {
                let notice = Notice::Look.encode(0, 0);
                let _ = sys::send_descriptors(sys::number(own), &notice, &[]);
            }
            self.wake();
            let known = &self.shared.known_files;
            let helpers = || known.helpers_left_behind.load(Ordering::SeqCst) > 0;
            let calls = || known.calls_left_behind.load(Ordering::SeqCst) > 0;
            if let Some(ring_thread) = self.ring_thread.take() {
                ring_thread.join(|| helpers() || calls());
            }
            if helpers() {
                // They run in our code.
                sys::keep_library();
            }
        } else {
            // The ring thread exists in the parent only; here its share of the memory is left
            // alone, in whatever state fork found it.
            std::mem::forget(self.submissions.take());
            std::mem::forget(self.shared.clone());
        }
        if let (Some(own), false) = (own, own_is_ours) {
            sys::abandon(own);
        }
    }
}
