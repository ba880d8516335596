// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Rust interface, and what callers and the ring thread share.
#![forbid(unsafe_code)]

use crate::completions::{Completion, Completions, Entry, Event, Reply};
use crate::inline;
use crate::operation::{Task, WAS_INLINE};
use crate::request::Request;
use crate::schedule::NumberMap;
use crate::staging::{Staged, Staging};
use crate::sys::{self, Errno, FileKind, ForkMark, Result};
use crate::thread;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Which engine to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EngineChoice {
    /// io_uring where it works, else portable; SNAPSEND_ENGINE in the environment overrides it.
    #[default]
    Auto,
    /// io_uring or fail with the kernel's errno.
    Uring,
    /// epoll and plain system calls.
    Portable,
}

/// How a context is made; zeros stand for defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Which engine.
    pub engine: EngineChoice,
    /// Operations whose DONE has not been taken; 0: 65536.
    pub max_ops: u32,
    /// Most private memory for file data, headers and trailers; 0: 32 MiB.
    pub pool_bytes: u64,
    /// Most bytes moved by one kernel request; 0: chosen by the library.
    pub chunk_bytes: u64,
}

/// The most operations a context can be made for.
pub const MAX_OPS_MAX: u32 = 1 << 20;
const MAX_OPS_DEFAULT: u32 = 65536;
const POOL_DEFAULT: u64 = 32 << 20;
/// The least pool a context can be made with.
pub const POOL_MIN: u64 = 64 << 10;
const POOL_MAX: u64 = 1 << 40;
/// The most bytes of one kernel request.
pub const CHUNK_MAX: u64 = crate::pool::BLOCK;
const CHUNK_DEFAULT: u64 = 1 << 20;
const CHUNK_MIN: u64 = 4096;

/// Options with the defaults filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub engine: EngineChoice,
    pub max_ops: u32,
    pub pool_bytes: u64,
    pub staging_bytes: u64,
    pub chunk_bytes: u64,
}

impl Settings {
    fn from_options(options: &Options) -> Result<Settings> {
        let or = |value, default| if value == 0 { default } else { value };
        let max_ops = or(options.max_ops.into(), u64::from(MAX_OPS_DEFAULT)) as u32;
        let pool_bytes = or(options.pool_bytes, POOL_DEFAULT);
        let chunk_bytes = or(options.chunk_bytes, CHUNK_DEFAULT);
        if max_ops > MAX_OPS_MAX
            || !(POOL_MIN..=POOL_MAX).contains(&pool_bytes)
            || chunk_bytes < CHUNK_MIN
        {
            return Err(Errno(libc::EINVAL));
        }
        Ok(Settings {
            engine: options.engine,
            max_ops,
            pool_bytes,
            staging_bytes: pool_bytes / 8,
            chunk_bytes: chunk_bytes.min(CHUNK_MAX),
        })
    }
}

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
    /// Bits of [`crate::engine::feature`].
    pub kernel_features: u64,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters, written by the ring thread and by inline senders.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub $name: AtomicU64),* }

        /// A reading of the counters and gauges.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Operations accepted and not yet done.
            pub in_flight: u64,
            /// Bytes of private memory in use.
            pub pool_in_use: u64,
            /// Bytes of private memory that the process has for it.
            pub pool_resident: u64,
        }

        impl Counters {
            fn read(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)* ..Stats::default() }
            }
        }
    };
}

counters! {
    /// Operations accepted.
    submitted,
    /// DONE with status 0.
    done_ok,
    /// DONE with another status than 0 and -ECANCELED.
    done_error,
    /// DONE with -ECANCELED.
    cancelled,
    /// Bytes of ranges put into sockets.
    file_bytes,
    /// All bytes put into sockets.
    wire_bytes,
    /// Bytes of file data that were copied into socket buffers.
    bytes_copied,
    /// Bytes of file data that were sent from memory without a copy.
    bytes_zerocopy,
    /// Bytes of file data that the calling thread sent.
    bytes_inline,
    /// Notifications of zero-copy sends.
    zerocopy_notified,
    /// Those of them that said that the kernel copied all the same.
    zerocopy_copied_anyway,
    /// How often the ring thread entered the kernel for requests.
    kernel_enters,
    /// How often the ring thread was woken.
    wakeups,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts the end of an operation.
    pub(crate) fn count_done(&self, status: i32) {
        let counter = match status {
            0 => &self.done_ok,
            status if status == -libc::ECANCELED => &self.cancelled,
            _ => &self.done_error,
        };
        Counters::add(counter, 1);
    }
}

/// What submit has learnt of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileFacts {
    pub kind: FileKind,
    /// When submitted.
    pub size: u64,
    /// See [`sys::FileState::inode`].
    pub inode: u64,
    /// O_DIRECT: reads must be aligned.
    pub direct: bool,
}

/// One operation on its way to the ring thread; its descriptors travel beside it.
#[derive(Debug)]
pub(crate) struct Submission {
    pub id: u64,
    pub cookie: u64,
    pub user_data: u64,
    pub task: Task,
    pub staged: Staged,
    pub file: Option<FileFacts>,
    pub deadline: Option<Instant>,
    pub reply: Option<Arc<Reply<Result<Completion>>>>,
    /// Sent already by the calling thread.
    pub wire: u64,
    pub was: u32,
    /// It goes ahead of those that were held back for it.
    pub front: bool,
    /// A calling thread was sending on the socket: wait until it lets go.
    pub held_back: bool,
}

impl Submission {
    /// The descriptors that travel with it.
    pub fn descriptor_count(&self) -> u32 {
        1 + u32::from(self.file.is_some())
    }
}

impl Drop for Submission {
    // Whatever happens to it, nobody waits for ever.
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply.give(Err(Errno(libc::ECANCELED)));
        }
    }
}

/// A question to the ring thread.
#[derive(Debug)]
pub(crate) enum Question {
    Cancel(u64),
    CancelSocket(u64),
}

/// A question and where its answer goes; dropped unanswered it says that the context is dead.
#[derive(Debug)]
pub(crate) struct Asked {
    pub question: Question,
    pub reply: Arc<Reply<Result<u32>>>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.reply.give(Err(Errno(libc::ECANCELED)));
    }
}

/// What a message on the library's own socket says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Notice {
    /// `count` submissions from id `first` on; their descriptors come with the message.
    Submitted = 1,
    /// The same could not be sent after all.
    Withdrawn = 2,
    /// A question waits.
    Asked = 3,
    /// A calling thread has let go of sockets.
    LetGo = 4,
    /// Something else wants to be looked at.
    Look = 5,
}

pub(crate) const NOTICE_BYTES: usize = 16;

impl Notice {
    pub fn encode(self, count: u32, first: u64) -> [u8; NOTICE_BYTES] {
        let mut bytes = [0; NOTICE_BYTES];
        bytes[..4].copy_from_slice(&(self as u32).to_ne_bytes());
        bytes[4..8].copy_from_slice(&count.to_ne_bytes());
        bytes[8..].copy_from_slice(&first.to_ne_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; NOTICE_BYTES]) -> Option<(Notice, u32, u64)> {
        let word = |at: usize| bytes[at..at + 4].try_into().map(u32::from_ne_bytes);
        let notice = match word(0).ok()? {
            1 => Notice::Submitted,
            2 => Notice::Withdrawn,
            3 => Notice::Asked,
            4 => Notice::LetGo,
            5 => Notice::Look,
            _ => return None,
        };
        let first = bytes[8..].try_into().map(u64::from_ne_bytes).ok()?;
        Some((notice, word(4).ok()?, first))
    }
}

/// When the DONE that tells of a cut stream was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Operations with a smaller id were submitted before that; u64::MAX: not taken yet.
    pub taken_at: u64,
}

const BUCKETS: usize = 256;
const INLINE: u32 = 1 << 31;

/// What callers and the ring thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub settings: Settings,
    pub exact_max: u64,
    pub completions: Completions,
    pub counters: Counters,
    pub staging: Staging,
    pub pool_in_use: AtomicU64,
    pub pool_resident: AtomicU64,
    /// Operations whose DONE has not been taken.
    pub permits_taken: AtomicU32,
    /// Submissions between taking their id and reaching the ring thread.
    pub in_transit: AtomicU32,
    /// Descriptors that the ring thread has or will get.
    pub descriptors: AtomicU32,
    /// 1: the ring thread sleeps and must be woken.
    pub sleeping: AtomicU32,
    pub shutting_down: AtomicBool,
    /// The errno that calls give because the context is beyond use; 0: it is well.
    pub dead: AtomicI32,
    next_id: AtomicU64,
    descriptor_limit: AtomicU32,
    /// Operations in flight by socket (several may share a bucket), and the INLINE bit while a
    /// calling thread sends on one of them.
    buckets: [AtomicU32; BUCKETS],
    /// Cookies of sockets known to be connected-type stream sockets, so that it is asked once.
    known_sockets: [AtomicU64; BUCKETS],
    cuts: Mutex<NumberMap<Cut>>,
    cut_count: AtomicU32,
}

fn bucket_of(cookie: u64) -> usize {
    (cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % BUCKETS
}

impl Shared {
    fn new(settings: Settings) -> Shared {
        let pool = crate::pool::Pool::new(settings.pool_bytes - settings.staging_bytes);
        Shared {
            settings,
            exact_max: pool.kept_max(),
            completions: Completions::default(),
            counters: Counters::default(),
            staging: Staging::new(settings.staging_bytes),
            pool_in_use: AtomicU64::new(0),
            pool_resident: AtomicU64::new(0),
            permits_taken: AtomicU32::new(0),
            in_transit: AtomicU32::new(0),
            descriptors: AtomicU32::new(0),
            sleeping: AtomicU32::new(0),
            shutting_down: AtomicBool::new(false),
            dead: AtomicI32::new(0),
            next_id: AtomicU64::new(1),
            descriptor_limit: AtomicU32::new(sys::descriptor_limit()),
            buckets: [const { AtomicU32::new(0) }; BUCKETS],
            known_sockets: [const { AtomicU64::new(0) }; BUCKETS],
            cuts: Mutex::default(),
            cut_count: AtomicU32::new(0),
        }
    }

    fn cuts(&self) -> MutexGuard<'_, NumberMap<Cut>> {
        self.cuts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The stream of this socket has been cut off part-way.
    pub fn record_cut(&self, cookie: u64) {
        self.cuts().insert(cookie, Cut { taken_at: u64::MAX });
        self.cut_count.store(1, Ordering::SeqCst);
    }

    /// The DONE that tells of it has been taken.
    pub fn cut_taken(&self, cookie: u64) {
        if let Some(cut) = self.cuts().get_mut(&cookie) {
            cut.taken_at = self.next_id.load(Ordering::SeqCst);
        }
    }

    /// Whether an operation was submitted before its caller could know of a cut.
    pub fn is_behind_cut(&self, cookie: u64, id: u64) -> bool {
        self.cut_count.load(Ordering::SeqCst) != 0
            && self.cuts().get(&cookie).is_some_and(|cut| id < cut.taken_at)
    }

    /// Forgets cuts that no operation can be behind: none is on its way, and none waits on the
    /// socket, which `has_operations` tells.
    pub fn forget_cuts(&self, has_operations: impl Fn(u64) -> bool) {
        if self.cut_count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut cuts = self.cuts();
        // Read after the lock: whoever took a smaller id than taken_at is counted in it.
        if self.in_transit.load(Ordering::SeqCst) == 0 {
            cuts.retain(|&cookie, cut| cut.taken_at == u64::MAX || has_operations(cookie));
            self.cut_count.store(u32::from(!cuts.is_empty()), Ordering::SeqCst);
        }
    }

    /// One more operation on this socket; true: a calling thread is sending there.
    fn enter_bucket(&self, cookie: u64) -> bool {
        self.buckets[bucket_of(cookie)].fetch_add(1, Ordering::SeqCst) & INLINE != 0
    }

    /// One less.
    pub fn leave_bucket(&self, cookie: u64) {
        self.buckets[bucket_of(cookie)].fetch_sub(1, Ordering::SeqCst);
    }

    /// Claims a socket for the calling thread; false: operations are in flight there.
    fn claim_bucket(&self, cookie: u64) -> bool {
        let bucket = &self.buckets[bucket_of(cookie)];
        bucket.compare_exchange(0, INLINE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Lets go of it; true: others have come meanwhile and wait.
    fn release_bucket(&self, cookie: u64) -> bool {
        let bucket = &self.buckets[bucket_of(cookie)];
        bucket.fetch_and(!INLINE, Ordering::SeqCst) != INLINE
    }

    fn alive(&self) -> Result<()> {
        match self.dead.load(Ordering::SeqCst) {
            0 => Ok(()),
            errno => Err(Errno(errno)),
        }
    }

    /// Marks the context as beyond use, with the first reason given.
    pub fn die(&self, errno: i32) {
        let _ = self.dead.compare_exchange(0, errno, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn take_permit(&self) -> Result<()> {
        let take = |taken: u32| (taken < self.settings.max_ops).then_some(taken + 1);
        match self.permits_taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno(libc::EAGAIN)),
        }
    }

    pub fn give_permit(&self) {
        self.permits_taken.fetch_sub(1, Ordering::SeqCst);
    }

    // The ring thread's table has the same limit as the caller's, a few numbers of its own, and
    // drops what does not fit: so refuse before.
    fn take_descriptors(&self, count: u32) -> Result<()> {
        const OWN: u32 = 32;
        let used = self.descriptors.fetch_add(count, Ordering::Relaxed) + count + OWN;
        if used <= self.descriptor_limit.load(Ordering::Relaxed) {
            return Ok(());
        }
        let limit = sys::descriptor_limit();
        self.descriptor_limit.store(limit, Ordering::Relaxed);
        // Those still on their way count in full; on arrival many turn out to be there already.
        for _ in 0..10_000 {
            if self.descriptors.load(Ordering::Relaxed) + OWN <= limit {
                return Ok(());
            }
            if self.in_transit.load(Ordering::SeqCst) == 0 {
                break;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        self.descriptors.fetch_sub(count, Ordering::Relaxed);
        Err(Errno(libc::EMFILE))
    }

    pub fn give_descriptors(&self, count: u32) {
        self.descriptors.fetch_sub(count, Ordering::Relaxed);
    }
}

/// The ends of the queues that the ring thread has.
pub(crate) struct ThreadEnds {
    pub submissions: Receiver<Submission>,
    pub questions: Receiver<Asked>,
}

/// The ends that callers have.
#[derive(Debug)]
struct CallerEnds {
    submissions: Sender<Submission>,
    questions: Sender<Asked>,
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
    ends: Option<CallerEnds>,
    ring_thread: Option<sys::Thread>,
    info: Info,
    scratch: inline::ScratchPool,
}

/// What became of [`Context::try_send`].
#[derive(Clone, Copy, Debug)]
pub enum TrySend {
    /// It is done; no completion comes through poll.
    Done(Completion),
    /// It was queued, under the id that was told.
    Queued,
}

// Room for a burst; more wait in the ring thread.
const SUBMISSIONS_QUEUED: usize = 256;

impl Context {
    /// Starts the ring thread.
    ///
    /// EINVAL: an option is out of range.  ENOSYS, EPERM, ENOMEM and other numbers of the
    /// kernel's: io_uring was asked for and is refused, or no thread or memory can be had.
    pub fn new(options: &Options) -> Result<Context> {
        let mut settings = Settings::from_options(options)?;
        if settings.engine == EngineChoice::Auto {
            settings.engine = engine_from_environment()?;
        }
        let mark = ForkMark::new()?;
        let (own, other) = sys::socket_pair()?;
        let own_cookie = sys::socket_cookie(sys::number(&own))?;
        let (submissions, submissions_end) =
            bounded(SUBMISSIONS_QUEUED.min(64 + settings.max_ops as usize));
        let (questions, questions_end) = unbounded();
        let shared = Arc::new(Shared::new(settings));
        let ends = ThreadEnds { submissions: submissions_end, questions: questions_end };
        let (ring_thread, started) = thread::start(shared.clone(), ends, &other)?;
        let info = Info {
            is_uring: started.is_uring,
            engine_errno: started.engine_errno,
            max_ops: settings.max_ops,
            pool_bytes: settings.pool_bytes,
            exact_max: shared.exact_max,
            kernel_features: started.features,
        };
        Ok(Context {
            shared,
            own: Some(own),
            own_cookie,
            mark,
            ends: Some(CallerEnds { submissions, questions }),
            ring_thread: Some(ring_thread),
            info,
            scratch: inline::ScratchPool::default(),
        })
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
        if self.shared.sleeping.swap(0, Ordering::SeqCst) == 1 {
            Counters::add(&self.shared.counters.wakeups, 1);
            sys::futex_wake(&self.shared.sleeping, 1);
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
    /// used up their part of its memory.  EMFILE: the ring thread has as many descriptors as
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
        self.enqueue(std::iter::once(submission), fds_of(&fds), id)
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
        let mut submissions = Vec::with_capacity(requests.len());
        let mut fds = Vec::with_capacity(2 * requests.len());
        let mut error = None;
        for request in requests {
            match self.prepare(request) {
                Ok(submission) => submissions.push(submission),
                Err(refused) => {
                    error = Some(refused);
                    break;
                }
            }
            fds.extend_from_slice(fds_of(&descriptors_of(request)));
        }
        let count = submissions.len();
        if count == 0 {
            return (0, error);
        }
        match self.enqueue(submissions.into_iter(), &fds, ids) {
            Ok(()) => (count, error),
            Err(refused) => (0, Some(refused)),
        }
    }

    /// Checks a request, takes a permit and copies header and trailer.
    pub(crate) fn prepare(&self, request: &Request<'_>) -> Result<Submission> {
        self.shared.alive()?;
        request.check(self.shared.exact_max)?;
        let cookie = self.check_socket(request.socket)?;
        let file = request.file.map(|file| self.check_file(request, file)).transpose()?;
        let staged = self.take_room(request, 1 + u32::from(file.is_some()))?;
        let timeout = Duration::from_millis(request.timeout_ms.into());
        Ok(Submission {
            id: 0,
            cookie,
            user_data: request.user_data,
            task: Task {
                header: staged.header_length(),
                trailer: staged.trailer_length(),
                offset: request.offset,
                length: request.length,
                flags: request.flags,
            },
            staged,
            file,
            deadline: (request.timeout_ms > 0).then(|| Instant::now() + timeout),
            reply: None,
            wire: 0,
            was: 0,
            front: false,
            held_back: false,
        })
    }

    fn take_room(&self, request: &Request<'_>, descriptors: u32) -> Result<Staged> {
        let shared = &self.shared;
        shared.take_permit()?;
        let taken = shared.take_descriptors(descriptors);
        let staged = taken.and_then(|()| {
            shared.staging.copy(request).inspect_err(|_| shared.give_descriptors(descriptors))
        });
        staged.inspect_err(|_| shared.give_permit())
    }

    // Gives back what prepare() took.
    fn discard(&self, submission: &mut Submission) {
        self.shared.staging.release(std::mem::take(&mut submission.staged));
        self.shared.give_permit();
        self.shared.give_descriptors(submission.descriptor_count());
    }

    fn check_socket(&self, socket: RawFd) -> Result<u64> {
        let cookie = sys::socket_cookie(socket)?;
        let known = &self.shared.known_sockets[bucket_of(cookie)];
        if known.load(Ordering::Relaxed) == cookie {
            return Ok(cookie);
        }
        if sys::socket_type(socket)? != libc::SOCK_STREAM {
            return Err(Errno(libc::ESOCKTNOSUPPORT));
        }
        if sys::is_listening(socket)? {
            return Err(Errno(libc::ENOTCONN));
        }
        known.store(cookie, Ordering::Relaxed);
        Ok(cookie)
    }

    fn check_file(&self, request: &Request<'_>, file: RawFd) -> Result<FileFacts> {
        let state = sys::file_state(file)?;
        match state.kind {
            FileKind::Regular | FileKind::Block => {}
            FileKind::Directory => return Err(Errno(libc::EISDIR)),
            _ => return Err(Errno(libc::EINVAL)),
        }
        let flags = sys::status_flags(file)?;
        if flags & libc::O_ACCMODE == libc::O_WRONLY || flags & libc::O_PATH != 0 {
            return Err(Errno(libc::EBADF));
        }
        let exact = request.flags & crate::request::EXACT != 0 && request.is_open_ended();
        if exact && state.size.saturating_sub(request.offset) > self.shared.exact_max {
            return Err(Errno(libc::EMSGSIZE));
        }
        let direct = flags & libc::O_DIRECT != 0;
        Ok(FileFacts { kind: state.kind, size: state.size, inode: state.inode, direct })
    }

    /// Hands submissions over.
    fn enqueue(
        &self,
        submissions: impl ExactSizeIterator<Item = Submission>,
        fds: &[RawFd],
        ids: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let count = submissions.len() as u32;
        let shared = &self.shared;
        // Counted before the id is taken: see Shared::forget_cuts().
        shared.in_transit.fetch_add(count, Ordering::SeqCst);
        let first = shared.next_id.fetch_add(count.into(), Ordering::SeqCst);
        for (id, mut submission) in (first..).zip(submissions) {
            submission.id = id;
            ids(id);
            submission.held_back = shared.enter_bucket(submission.cookie) && !submission.front;
            self.push(submission)?;
        }
        match self.notify(Notice::Submitted, count, first, fds) {
            Ok(()) => {
                Counters::add(&shared.counters.submitted, count.into());
                Ok(())
            }
            Err(error) => {
                // The ring thread has them already: it gives back what they took.
                let _ = self.notify(Notice::Withdrawn, count, first, &[]);
                Err(error)
            }
        }
    }

    fn push(&self, mut submission: Submission) -> Result<()> {
        let gone = Errno(libc::EBADF);
        let ends = self.ends.as_ref().ok_or(gone)?;
        loop {
            match ends.submissions.try_send(submission) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => {
                    self.shared.die(gone.0);
                    return Err(gone);
                }
                Err(TrySendError::Full(back)) => {
                    submission = back;
                    self.notify(Notice::Look, 0, 0, &[])?;
                    std::thread::yield_now();
                }
            }
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
        self.check_process()?;
        if max == 0 {
            return Err(Errno(libc::EINVAL));
        }
        let shared = &self.shared;
        if timeout != Some(Duration::ZERO) && shared.completions.is_empty() {
            // About to wait: where the host has closed our descriptor and only a forked child holds
            // it still, nothing else would tell the ring thread.
            let _ = self.own_number();
        }
        let taken = shared.completions.take(max, timeout, |entry: Entry| {
            if let Some(cookie) = entry.cut {
                shared.cut_taken(cookie);
            }
            if entry.completion.event == Event::Done {
                shared.give_permit();
            }
            each(entry.completion);
        })?;
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
        self.shared.alive()?;
        let reply = Arc::new(Reply::default());
        let asked = Asked { question, reply: reply.clone() };
        let gone = Errno(libc::EBADF);
        self.ends.as_ref().ok_or(gone)?.questions.send(asked).map_err(|_| gone)?;
        self.notify(Notice::Asked, 0, 0, &[])?;
        reply.wait()
    }

    /// Asks for the end of an operation.  ENOENT: it has ended already or never was.
    pub fn cancel(&self, id: u64) -> Result<()> {
        self.check_process()?;
        if id == 0 || id >= self.shared.next_id.load(Ordering::SeqCst) {
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
        match self.send_inline(request, &mut submission) {
            Some(completion) => Ok(TrySend::Done(completion)),
            None => {
                self.enqueue_rest(submission, fds_of(&fds), id)?;
                Ok(TrySend::Queued)
            }
        }
    }

    /// Submits and waits; the completion goes to the caller alone.  Errors as for
    /// [`Context::submit`]; what happened to an accepted operation is in the status.
    pub fn send(&self, request: &Request<'_>) -> Result<Completion> {
        self.check_process()?;
        let mut submission = self.prepare(request)?;
        let fds = descriptors_of(request);
        if let Some(completion) = self.send_inline(request, &mut submission) {
            return Ok(completion);
        }
        let reply = Arc::new(Reply::default());
        submission.reply = Some(reply.clone());
        let cookie = submission.cookie;
        self.enqueue_rest(submission, fds_of(&fds), &mut |_| {})?;
        let completion = reply.wait()?;
        self.shared.give_permit();
        if completion.status < 0 && completion.wire_bytes > 0 {
            self.shared.cut_taken(cookie);
        }
        Ok(completion)
    }

    // Some: done, and everything that the submission took has been given back.  None: to be
    // queued, with `front` set when the socket is still claimed.
    fn send_inline(
        &self,
        request: &Request<'_>,
        submission: &mut Submission,
    ) -> Option<Completion> {
        let shared = &self.shared;
        if !inline::is_suitable(request, submission) || !shared.claim_bucket(submission.cookie) {
            return None;
        }
        let cookie = submission.cookie;
        if shared.is_behind_cut(cookie, shared.next_id.load(Ordering::SeqCst)) {
            self.let_go(cookie);
            return None;
        }
        let operation = self.scratch.with(|scratch| inline::run(request, submission, scratch));
        let counters = &shared.counters;
        Counters::add(&counters.bytes_inline, operation.range_sent());
        Counters::add(&counters.bytes_copied, operation.range_sent());
        Counters::add(&counters.file_bytes, operation.range_sent());
        Counters::add(&counters.wire_bytes, operation.wire());
        let Some(status) = operation.ended() else {
            submission.wire = operation.wire();
            submission.was = operation.was();
            submission.front = true;
            return None;
        };
        let completion = Completion {
            id: shared.next_id.fetch_add(1, Ordering::SeqCst),
            user_data: submission.user_data,
            file_bytes: operation.range_sent(),
            wire_bytes: operation.wire(),
            status,
            event: Event::Done,
            flags: operation.was() | WAS_INLINE,
        };
        Counters::add(&counters.submitted, 1);
        counters.count_done(status);
        if operation.is_cut() {
            shared.record_cut(cookie);
            shared.cut_taken(cookie);
        }
        self.discard(submission);
        self.let_go(cookie);
        Some(completion)
    }

    fn let_go(&self, cookie: u64) {
        if self.shared.release_bucket(cookie) {
            let _ = self.notify(Notice::LetGo, 0, 0, &[]);
        }
    }

    fn enqueue_rest(
        &self,
        submission: Submission,
        fds: &[RawFd],
        id: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let (cookie, claimed) = (submission.cookie, submission.front);
        let queued = self.enqueue(std::iter::once(submission), fds, id);
        if claimed {
            // After the rest is on its way, so that it goes ahead of those that wait.
            self.let_go(cookie);
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
        Ok(stats)
    }
}

// Two descriptors each, and SCM_MAX_FD is 253.
const GROUP_MAX: usize = sys::MESSAGE_FDS_MAX / 2;

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

fn engine_from_environment() -> Result<EngineChoice> {
    match std::env::var_os("SNAPSEND_ENGINE") {
        None => Ok(EngineChoice::Auto),
        Some(value) => match value.to_str() {
            Some("" | "auto") => Ok(EngineChoice::Auto),
            Some("uring") => Ok(EngineChoice::Uring),
            Some("portable") => Ok(EngineChoice::Portable),
            _ => Err(Errno(libc::EINVAL)),
        },
    }
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
            if let Some(ring_thread) = self.ring_thread.take() {
                ring_thread.join();
            }
        } else {
            // The ring thread exists in the parent only; here its share of the memory is left
            // alone, in whatever state fork found it.
            std::mem::forget(self.ends.take());
            std::mem::forget(self.shared.clone());
        }
        if let (Some(own), false) = (own, own_is_ours) {
            sys::abandon(own);
        }
    }
}
